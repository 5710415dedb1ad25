"""`agentperf compare`: two results or more, what changed between them, and how surely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.files import leaderboard_path, showing, write_text
from pytest_agentperf.results.compared import compare_boards
from pytest_agentperf.results.compared_page import comparison_page
from pytest_agentperf.results.compared_text import comparison_text
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.published import PUBLISHED_FILE

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.leaderboard import Leaderboard

HELP = "compare results: capacity ratios with confidence, metrics at equal load, and what differs in configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "leaderboards",
        nargs="+",
        metavar="LEADERBOARD.json",
        help="the first is the base; `published` is what others published",
    )
    parser.add_argument("--base", metavar="SYSTEM", help="which entry of the first leaderboard is the base")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compare and print; 1 if nothing could be compared at any tier."""
    with showing("a comparison", ", ".join(args.leaderboards)):
        found = compare_boards([read_named(name) for name in args.leaderboards], base=args.base)
    print(found.model_dump_json(indent=2) if args.json else comparison_text(found))
    if args.html is not None:
        write_text(args.html, comparison_page(found))
        if not args.json:
            print(f"page: {args.html}")
    compared = any(pair.published or any(not tier.refused for tier in pair.tiers) for pair in found.pairs)
    return 0 if compared else 1


def read_named(name: str) -> tuple[str, Leaderboard]:
    """Return a leaderboard with the name it goes by; a run's folder stands for the file in it. Raises ConfigError."""
    path = leaderboard_path(name)
    if path == PUBLISHED_FILE:
        return name, read_leaderboard(path)
    shown = path.parent.name or path.name if path.name.startswith("leaderboard") else path.name
    return shown, read_leaderboard(path)
