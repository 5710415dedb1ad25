"""`agentperf compare`: two results or more, what changed between them, and how surely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.compared import compare_boards
from pytest_agentperf.results.compared_page import comparison_page
from pytest_agentperf.results.compared_text import comparison_text
from pytest_agentperf.results.files import new_file
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
    try:
        found = compare_boards([read_named(name) for name in args.leaderboards], base=args.base)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"a suite or a system in it lacks what a comparison shows: {error}",
            where=", ".join(args.leaderboards),
            remedy="hold it against the schema: agentperf schema",
        ) from None
    print(found.model_dump_json(indent=2) if args.json else comparison_text(found))
    if args.html is not None:
        write_page(args.html, comparison_page(found))
        if not args.json:
            print(f"page: {args.html}")
    compared = any(pair.published or any(not tier.refused for tier in pair.tiers) for pair in found.pairs)
    return 0 if compared else 1


def read_named(name: str) -> tuple[str, Leaderboard]:
    """Return a leaderboard with the name it goes by; a run's folder stands for the file in it. Raises ConfigError."""
    path = Path(name)
    if name == "published" and not path.exists():
        return name, read_leaderboard(PUBLISHED_FILE)
    if path.is_dir():
        found = sorted(path.glob("leaderboard*.json"))
        if not found:
            raise ConfigError("there is no leaderboard in it", where=name, remedy="name a leaderboard.json")
        path = found[0]
    return (
        path.parent.name or path.name if path.name.startswith("leaderboard") else path.name
    ), read_leaderboard(path)


def write_page(path: Path, text: str) -> None:
    """Write a page, in place of an older one; raises ConfigError."""
    try:
        with new_file(path, replace=True) as file:
            file.write(text.encode())
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror or error}", where=str(path), remedy="name another file"
        ) from None
