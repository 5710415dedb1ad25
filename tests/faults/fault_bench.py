"""A whole run with one fault in it, its journal and records on disk, and the same run resumed; in virtual time."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from virtual_system import FailingServer, Watch, open_virtual, settings_for, shape, virtual_run

from pytest_agentperf.core.errors import AgentPerfError
from pytest_agentperf.core.journal import PhaseFinished
from pytest_agentperf.rehearsal import VirtualPool
from pytest_agentperf.results.artifact import store_phase
from pytest_agentperf.results.journal import JOURNAL, FileJournal, read_journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.answers_so_far import AnswersSoFar
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseEvents, PhaseSpec, PhaseStatus
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.deployed import Deployed, PhaseRun
    from pytest_agentperf.tabulation import TabulatedDataset

# Six agents pass, undisturbed; faults strike phases with four.
SHAPE = shape("speed-bound", 60, 5, 12, step_base_ms=1.5, step_per_sequence_ms=2.2, jitter_cv=0.0)
AGENTS = 4


def settings() -> RunSettings:
    found = settings_for(SHAPE, nonce="faults", warmup_agents=1, min_window_s=1.0)
    object.__setattr__(found, "max_agents", 8)
    return found


class Fault:
    """Does nothing; each kind overrides where it strikes. `left`: how often it does."""

    said: str | None = None
    """What there is to be said where nobody is left to say it."""

    def __init__(self, left: int = 1) -> None:
        self.left = left
        self.spec: PhaseSpec | None = None

    def strikes(self) -> bool:
        """Return whether this phase has it, and count it."""
        spec = self.spec
        if spec is None or spec.n_agents != AGENTS or spec.kind == "warmup" or not self.left:
            return False
        self.left -= 1
        return True

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        """Change a phase's records as it ends."""

    def poll(self) -> None:
        """Called while a phase runs."""

    def events(self, events: PhaseEvents, now_ns: int) -> PhaseEvents:
        """Change what has happened in a running phase."""
        return events

    def under_way(self, answers: AnswersSoFar) -> AnswersSoFar:
        """Change what a look at a running phase shows."""
        return answers

    def describe(self) -> dict[str, Any]:
        """Return what the load generator says of itself besides."""
        return {}

    def deployed(self, deployed: Deployed, server: FailingServer) -> None:
        """Change a deployment as it is opened."""

    def storing(self) -> None:
        """Called before a phase's records are written."""

    def appending(self) -> None:
        """Called before a line of the journal is written."""

    def killed(self, journal: Path) -> None:
        """Change what is on disk once the run is gone."""


class _Journal(FileJournal):
    def __init__(self, path: Path, fault: Fault) -> None:
        super().__init__(path)
        self._fault = fault

    def _write(self, descriptor: int, line: bytes) -> None:
        self._fault.appending()
        super()._write(descriptor, line)


class _Observer(Watch):
    def __init__(self, folder: Path, fault: Fault) -> None:
        super().__init__()
        self._folder = folder
        self._fault = fault

    def phase_status(self, status: PhaseStatus) -> None:
        self._fault.poll()

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        self._fault.storing()
        return store_phase(self._folder, run.result, run.columns)


class Outcome(NamedTuple):
    """What a run reported and left behind."""

    error: str | None
    phases: tuple[PhaseResult, ...]
    agents: int | None

    def struck(self) -> tuple[PhaseResult, ...]:
        return tuple(phase for phase in self.phases if phase.n_agents == AGENTS)


def run(folder: Path, fault: Fault) -> Outcome:
    """Begin a run in the folder, or go on with what is there."""

    def open_(
        name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: BlockingClock
    ) -> Deployed:
        deployed = open_virtual(name, settings, encode, clock)
        pool, server = deployed._open_pool(), deployed.server
        assert isinstance(pool, VirtualPool)
        assert isinstance(server, FailingServer)
        fault.deployed(deployed, server)

        def start_phase(spec: PhaseSpec) -> int:
            fault.spec = spec
            return VirtualPool.start_phase(pool, spec)

        def poll(timeout_s: float) -> PhaseEvents:
            fault.poll()
            return fault.events(VirtualPool.poll(pool, timeout_s), clock.now_ns())

        def look() -> AnswersSoFar:
            return fault.under_way(VirtualPool.look(pool))

        def stop_phase() -> RequestColumns:
            columns = VirtualPool.stop_phase(pool)
            fault.columns(columns, server)
            return columns

        for function in (start_phase, poll, look, stop_phase):
            setattr(pool, function.__name__, function)
        pool.describe = lambda: {**pool.health, **fault.describe()}  # type: ignore[method-assign]
        return deployed

    journal = _Journal(folder / JOURNAL, fault)
    error: str | None = None
    agents = None
    with virtual_run(settings(), _Observer(folder, fault), open_, journal=journal) as capacity:
        if folder.exists():
            capacity.resume(journal.reopen().events)
        try:
            agents = capacity.measure("tier1").agents
        except (AgentPerfError, KeyboardInterrupt) as raised:
            error = fault.said or (raised.what if isinstance(raised, AgentPerfError) else str(raised))
        phases = tuple(phase for phase in capacity.phases if phase.kind != "warmup")
    journal.close()
    return Outcome(error, phases, agents)


def finished(folder: Path) -> list[PhaseResult]:
    """Return the phases that the journal on disk holds."""
    events = read_journal(folder / JOURNAL).events
    return [event.result for event in events if isinstance(event, PhaseFinished)]


@cache
def undisturbed() -> int | None:
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder) / "run", Fault()).agents


def keep_first(folder: Path, phases: int) -> None:
    """Cut a journal to what it was once so many phases had ended, as if the process had been killed then."""
    path = folder / JOURNAL
    kept = b""
    for line in path.read_bytes().splitlines(keepends=True):
        kept += line
        phases -= b'"event":"phase_finished"' in line
        if not phases:
            break
    path.write_bytes(kept)
    named = {folder / str(phase.records) for phase in finished(folder)}
    for file in (folder / "requests").iterdir():
        if file not in named:
            file.unlink()
