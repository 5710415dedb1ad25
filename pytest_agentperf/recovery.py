"""What a run's journal says without the run: its entry in the leaderboard, and whether its files are as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.recorded import recorded_settings
from pytest_agentperf.core.journal import PhaseBrokenOff, PhaseFinished
from pytest_agentperf.core.leaderboard import Entry, merge_entries
from pytest_agentperf.results.artifact import digest
from pytest_agentperf.results.entry import build_entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun
    from pytest_agentperf.results.journal import JournalContent


class Recovered(NamedTuple):
    """A run as its journal has it."""

    entry: Entry
    problems: tuple[str, ...]
    """Files that are missing or not what was written."""


def recover(folder: Path, journal: JournalContent) -> Recovered | None:
    """Return what was measured, None if no probe was finished; raises ConfigError."""
    settings = recorded_settings(journal.begun, where=str(folder))
    run = CapacityRun(settings, _Nobody())
    run.resume(journal.events)
    state = run.state
    probed = {phase.deployment for phase in state.phases if phase.kind != "warmup"}
    wanted = [
        tier
        for tier in settings.tiers
        if tier in state.tiers or (tier in state.searched and state.searched[tier] in probed)
    ]
    tiers = [known for tier in wanted if (known := run.known(tier)) is not None]
    if not tiers:
        return None
    entry = build_entry(
        settings,
        begun=journal.begun,
        tiers=tiers,
        phases=run.phases,
        request_parameters=run.request_parameters,
        power_sources=run.power_sources,
        preflight=run.preflight,
        simulated=run.simulated,
    )
    return Recovered(merge_entries([entry])[0], tuple(_problems(folder, _digests(journal))))


def _digests(journal: JournalContent) -> Iterable[tuple[str, str]]:
    for event in journal.events:
        if isinstance(event, PhaseFinished):
            yield from event.result.digests.items()
        elif isinstance(event, PhaseBrokenOff):
            yield from event.digests.items()


def _problems(folder: Path, digests: Iterable[tuple[str, str]]) -> Iterable[str]:
    for name, expected in digests:
        try:
            found = digest(folder / name)
        except OSError as error:
            yield f"{folder / name}: {error.strerror or error}"
        else:
            if found != expected:
                yield f"{folder / name}: it is not the file that was measured"


class _Nobody:
    """Watches a run that does not run."""

    def dataset_progress(self, done: int, total: int) -> None:
        """Nothing is encoded."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Nothing is started."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Nothing runs."""

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """Nothing ends."""
        return run.result
