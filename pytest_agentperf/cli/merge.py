"""`agentperf merge`: results of several systems, tiers, shards and dates as one leaderboard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.files import leaderboard_path, write_text
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.merged import merged
from pytest_agentperf.results.tables import summary_table

if TYPE_CHECKING:
    import argparse

HELP = "join the leaderboards of several systems, tiers, shards and dates into one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "leaderboards",
        nargs="+",
        metavar="LEADERBOARD.json",
        help="files, or folders of runs; `published` is what others published",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="where it goes")
    parser.add_argument(
        "--keep",
        choices=("newest", "single"),
        default="newest",
        help="of a tier that a system has twice: the later run's, or refuse (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the leaderboard, and print what is in it and what was left out."""
    out: Path = args.out
    paths = [leaderboard_path(name) for name in args.leaderboards]
    if out.resolve() in {path.resolve() for path in paths}:
        raise ConfigError(
            "it would replace one of those it is made of", where=str(out), remedy="name another --out"
        )
    boards = [(path, read_leaderboard(path)) for path in paths]
    board, told = merged(boards, out, refuse_doubles=args.keep == "single")
    write_text(out, board.model_dump_json(by_alias=True, indent=2) + "\n", remedy="name another --out")
    if board.entries:
        print(summary_table(board.entries))
    for line in told:
        print(f"agentperf: {line}", file=sys.stderr)
    print(f"results: {out}")
    return 0
