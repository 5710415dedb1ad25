"""How phases of a command go: lines on stderr, one that is rewritten where somebody looks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.results.phase_text import dataset_text, status_text

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun

_WIDTH = 110


class PhaseDisplay:
    """An `Observer` that shows phases and keeps nothing."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def dataset_progress(self, done: int, total: int) -> None:
        """Update the line; elsewhere write one."""
        self.server_progress(dataset_text(done, total))

    def server_progress(self, text: str) -> None:
        """Update the line; elsewhere write one."""
        if self._live:
            self._rewrite(text[:_WIDTH])
        else:
            print(text, file=sys.stderr)

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Say so."""
        del deployment
        self.end()
        print(f"{kind}, {agents_count(n_agents)}", file=sys.stderr)

    def phase_status(self, status: PhaseStatus) -> None:
        """Update the line."""
        if self._live:
            self._rewrite(status_text(status)[:_WIDTH])

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """Return the result as it is."""
        self.end()
        return run.result

    def end(self) -> None:
        """Take the line away: what is printed next has one of its own."""
        if self._live:
            self._rewrite("")

    def _rewrite(self, text: str) -> None:
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
