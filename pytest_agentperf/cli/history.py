"""`agentperf history`: how a system's capacity went from run to run, regressions marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.files import write_text
from pytest_agentperf.results.timeline_of_runs import history_of
from pytest_agentperf.results.timeline_page import history_page, history_text

if TYPE_CHECKING:
    import argparse

HELP = "show the capacities of all runs below a folder over time, regressions marked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="where runs are written, as agentperf-results"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the history."""
    found = history_of(args.folder)
    print(found.model_dump_json(indent=2) if args.json else history_text(found))
    if args.html is not None:
        write_text(args.html, history_page(found))
        if not args.json:
            print(f"page: {args.html}")
    return 0
