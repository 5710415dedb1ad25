"""`agentperf report`: a leaderboard as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.files import showing, writing
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.report import report_beside, write_report

if TYPE_CHECKING:
    import argparse

HELP = "show a leaderboard as one HTML file, with charts, that works offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "leaderboard", type=Path, metavar="LEADERBOARD.json", help="the leaderboard of any run"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="where the report goes (default: beside the leaderboard)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the report and print its path; the records of a run are read from beside its leaderboard."""
    source: Path = args.leaderboard
    board = read_leaderboard(source)
    out: Path = args.out or report_beside(source)
    if out.resolve() == source.resolve():
        raise ConfigError("it would replace the leaderboard", where=str(out), remedy="choose another --out")
    with showing("a report", str(source)), writing(out, remedy="choose another --out"):
        write_report(out, board, folder=source.parent)
    print(f"report: {out}")
    return 0
