"""Who watches a run: the port between a capacity run and its display and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun


class Observer(Protocol):
    """Whoever wants to know how a run goes: progress displays and the run directory."""

    def dataset_progress(self, done: int, total: int) -> None:
        """Called every two seconds while the dataset is read and encoded; trajectories."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """A phase begins."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Called several times a second while a phase runs."""

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """A phase has ended; returns its result, with the names of its files if it was stored."""
