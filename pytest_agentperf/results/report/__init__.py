"""The HTML report of a leaderboard: one file, to be opened anywhere, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.results.files import new_file
from pytest_agentperf.results.published import published_results
from pytest_agentperf.results.report.evidence import Evidence
from pytest_agentperf.results.report.page import page
from pytest_agentperf.results.report.rows import groups

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Leaderboard


def render_report(board: Leaderboard, folder: Path | None) -> str:
    """Return the report; `folder` is where the leaderboard's files lie: without them, it says what is missing."""
    evidence = Evidence(folder)
    details = {label: evidence.of(entry) for group in groups(board) for label, entry in group.entries}
    missing = list(evidence.problems)
    without = [label for label, found in details.items() if not found]
    if without:
        missing.append(
            f"{', '.join(without)}: no distributions and timelines, as the files of the phases are not beside the "
            "leaderboard"
        )
    if evidence.skipped:
        missing.append(f"timelines of {evidence.skipped} probes, to keep this file small")
    return page(board, details, missing)


def beside_published(board: Leaderboard) -> Leaderboard:
    """Return the leaderboard with what others published of its suites, at equal targets only."""
    keys = dict.fromkeys((entry.suite["name"], entry.edition) for entry in board.entries)
    known = [one for suite, edition in keys for one in published_results(suite, edition)]
    asked = {
        (entry.suite["name"], entry.edition, tier.tier) for entry in board.entries for tier in entry.tiers
    }
    found = [one for one in known if (one.suite, one.edition, one.tier) in asked]
    return board.model_copy(update={"published": tuple(dict.fromkeys((*board.published, *found)))})


def report_beside(leaderboard: Path) -> Path:
    """Return where a leaderboard's report goes, if nobody says where: `report.html` beside `leaderboard.json`."""
    stem = leaderboard.stem
    if stem.startswith("leaderboard"):
        stem = f"report{stem.removeprefix('leaderboard')}"
    return leaderboard.with_name(f"{stem}.html")


def write_report(path: Path, board: Leaderboard, *, folder: Path | None) -> Path:
    """Write the report, in place of an older one; `folder` is where the leaderboard's files lie.

    What the package knows of published results of the same suites and editions stands beside the leaderboard's own.
    """
    text = render_report(beside_published(board), folder)
    with new_file(path, replace=True) as file:
        file.write(text.encode())
    return path
