"""The HTML report of a leaderboard: one file, to be opened anywhere, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.results.files import new_file
from pytest_agentperf.results.published import published_results
from pytest_agentperf.results.report.evidence import Evidence
from pytest_agentperf.results.report.offline import inert
from pytest_agentperf.results.report.page import page
from pytest_agentperf.results.report.rows import groups

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Leaderboard
    from pytest_agentperf.results.report.document import Details

BYTES_MAX = 5_000_000
"""Above that a report leaves out timelines: CI systems and mail refuse large files."""


def render_report(board: Leaderboard, folder: Path | None) -> str:
    """Return the report; `folder` is where the leaderboard's files lie: without them, it says what is missing."""
    evidence = Evidence(folder)
    details = evidence.of({label: entry for group in groups(board) for label, entry in group.entries})
    missing = list(evidence.problems)
    without = [label for label, found in details.items() if not found]
    if without:
        missing.append(
            f"{', '.join(without)}: no distributions and timelines, as the files of the phases are not beside the "
            "leaderboard"
        )
    text = page(board, details, _told(missing, evidence.skipped))
    if (over := len(text.encode()) - BYTES_MAX) <= 0:
        return text
    # What says so takes some bytes too.
    left_out = evidence.skipped + _leave_out(details, over + 1_000)
    return page(board, details, _told(missing, left_out))


def _told(missing: list[str], left_out: int) -> list[str]:
    return [*missing, f"timelines of {left_out} probes, to keep this file small"] if left_out else missing


def _leave_out(details: Mapping[str, Details], bytes_over: int) -> int:
    """Take timelines away until a report is smaller by so much, those of deciding probes never; return how many."""
    others = [
        (phase, label)
        for label, found in details.items()
        for phase, one in found.items()
        if "distributions" not in one
    ]
    count = 0
    for phase, label in sorted(others, reverse=True):
        if bytes_over <= 0:
            break
        bytes_over -= len(inert(details[label].pop(phase)))
        count += 1
    return count


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
