"""A run's evidence: kept while it goes on, and made into a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtual_system import Watch

from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.results.artifact import store_phase, write_leaderboard
from pytest_agentperf.results.bundle import make_bundle
from pytest_agentperf.results.entry import build_entry
from pytest_agentperf.results.turns_file import keep_turns

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.capacity import CapacityRun
    from pytest_agentperf.core.leaderboard import Entry, PhaseResult, TierResult
    from pytest_agentperf.deployed import PhaseRun


class Evidence(Watch):
    """An observer that stores phases in a run's folder."""

    def __init__(self, folder: Path, *, rehearsal: bool) -> None:
        super().__init__()
        self.folder = folder
        self.rehearsal = rehearsal

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        return store_phase(
            self.folder, run.result, run.columns, *run.sampled, server=run.server, rehearsal=self.rehearsal
        )

    def entry(self, run: CapacityRun, result: TierResult) -> Entry:
        """Return the entry of a run that measured one tier, and keep its turns."""
        keep_turns(self.folder, run.dataset.tool_delays_ns, rehearsal=self.rehearsal)
        assert run.state.begun is not None
        entry = build_entry(
            run.settings,
            begun=run.state.begun,
            tiers=[result],
            phases=run.phases,
            request_parameters=run.request_parameters,
            power_sources=run.power_sources,
            simulated=self.rehearsal,
            preflight=run.preflight,
        )
        return entry.model_copy(update={"rehearsal": self.rehearsal})

    def bundle(self, entry: Entry) -> Path:
        """Write the leaderboard, and return the bundle beside the folder."""
        write_leaderboard(self.folder, Leaderboard(created_utc="2026-01-01T00:00:00+00:00", entries=(entry,)))
        path = self.folder.with_suffix(".tar.gz")
        make_bundle(self.folder, path)
        return path
