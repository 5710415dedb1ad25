"""Results that others measured and published: a leaderboard without entries, each result with its source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    from pytest_agentperf.core.published import PublishedResult

PUBLISHED_FILE = Path(__file__).with_name("published.json")


def published_results(suite: str, edition: str) -> tuple[PublishedResult, ...]:
    """Return the published results of a suite's edition; only at equal targets may one stand beside another."""
    board = read_leaderboard(PUBLISHED_FILE)
    return tuple(one for one in board.published if (one.suite, one.edition) == (suite, edition))
