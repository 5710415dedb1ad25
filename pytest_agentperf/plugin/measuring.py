"""One suite on one system inside a pytest session: the open run, its lock, its display, its entry."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pytest

from pytest_agentperf.capacity import CapacityRun, NotRunnable
from pytest_agentperf.core.errors import AgentPerfError, ConfigError, LoadError
from pytest_agentperf.core.leaderboard import DatasetInfo, Entry, PhaseResult, TierResult
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.plugin.session import MeasuredCapacity
from pytest_agentperf.plugin.terminal import make_progress
from pytest_agentperf.results.artifact import store_phase
from pytest_agentperf.results.entry import build_entry
from pytest_agentperf.results.junit import identity, properties

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.plugin.session import AgentPerfSession


class Measuring:
    """Measures tier after tier of one suite on one system; the `Observer` of its run."""

    def __init__(self, session: AgentPerfSession, settings: RunSettings) -> None:
        self.settings = settings
        self._session = session
        self._progress = make_progress(session, settings)
        self._run = CapacityRun(settings, self)
        self._lock = _SystemLock(settings)
        self._folder = session.run_folder(settings)
        self._folder_is_ours = False
        self._tiers: dict[str, TierResult] = {}

    def knows(self, tier: str) -> bool:
        """Return whether the tier has been measured."""
        return tier in self._tiers

    def measure(self, tier: str, item: pytest.Item) -> MeasuredCapacity:
        """Measure one tier, unless that was done for another test, and hang the result on the test."""
        item.user_properties += identity(self.settings, tier).items()
        if tier not in self._tiers:
            self._tiers[tier] = self._search(tier, item)
        result = self._tiers[tier]
        entry = self._entry([result])
        self._session.keep_payload(item, entry)
        verdict, problem = _test_verdict(result)
        item.user_properties += properties(entry, result, verdict=verdict).items()
        measured = MeasuredCapacity(result, entry)
        if problem is not None:
            pytest.fail(f"agentperf: {verdict}: {problem}\n{measured.report()}", pytrace=False)
        return measured

    def _search(self, tier: str, item: pytest.Item) -> TierResult:
        skip = failure = None
        try:
            self._lock.acquire()
            if not self._folder_is_ours and self._folder.exists():
                raise _not_ours(self._folder)
            return self._run.measure(tier)
        except NotRunnable as error:
            skip = str(error)
        except AgentPerfError as error:
            failure = f"agentperf: {error}"
            self._keep_what_there_is(tier, item)
        except BaseException:
            # Ctrl-C above all, but whatever it is: phases that have ended are worth keeping.
            self._keep_what_there_is(tier, item)
            self._session.interrupted(item)
            raise
        finally:
            self._progress.end()
        # Not while the error is handled, and without a traceback: both would bury the message that helps.
        if failure is None:
            pytest.skip(skip or "not runnable here")
        pytest.fail(failure, pytrace=False)

    def close(self) -> None:
        """End the run's processes and let the system go."""
        try:
            self._run.close()
        finally:
            self._lock.release()

    def _keep_what_there_is(self, tier: str, item: pytest.Item) -> None:
        """Hand over what was measured before an error or an interrupt."""
        result = self._run.known(tier)
        if result is not None and any(phase.kind != "warmup" for phase in self._run.phases):
            # With the tiers before it: of an interrupted xdist worker this is the last word.
            self._session.keep_payload(item, self._entry([*self._tiers.values(), result]))

    def _entry(self, tiers: list[TierResult]) -> Entry:
        source, run = self._run.source, self._run
        report = source.report()
        return build_entry(
            self.settings,
            tiers=tiers,
            phases=run.phases,
            dataset=DatasetInfo(
                name=source.name,
                digest=source.digest,
                trajectories=len(source.ids()),
                official=source.digest == self.settings.ruleset.dataset_digest,
                truncation=report._asdict(),
            ),
            request_parameters=run.request_parameters,
            power_sources=run.power_sources,
            simulated=run.simulated,
        )

    # Observer

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Show it."""
        self._progress.phase_started(kind, n_agents, deployment)

    def phase_status(self, status: PhaseStatus) -> None:
        """Show it."""
        self._progress.phase_status(status)

    def phase_finished(self, result: PhaseResult, columns: RequestColumns) -> PhaseResult:
        """Store the phase's records as soon as they are there."""
        try:
            self._claim_folder()
            stored = store_phase(self._folder, result, columns)
        except OSError as error:
            raise LoadError(
                f"the records cannot be written: {error.strerror or error}",
                where=str(self._folder),
                remedy="make room or name another folder (--agentperf-results), and run again",
            ) from None
        self._progress.phase_finished(stored)
        return stored

    def _claim_folder(self) -> None:
        if not self._folder_is_ours:
            try:
                self._folder.mkdir(parents=True)
            except FileExistsError:
                raise _not_ours(self._folder) from None
            self._folder_is_ours = True


def _not_ours(folder: Path) -> ConfigError:
    # Of a run that began in the same second, or of an xdist worker that died and was replaced by this one.
    return ConfigError(
        "another run has written results there, and they are never overwritten",
        where=str(folder),
        remedy="run again",
    )


def _test_verdict(result: TierResult) -> tuple[str, str | None]:
    """Return the test's verdict and, where no assertion can be made, the reason; plain text, as execnet needs it."""
    expected = 1 if result.expected_agents is None else result.expected_agents
    if result.verdict is Verdict.INVALID:
        return Verdict.INVALID.value, result.reason or "no capacity can be stated"
    if result.agents is not None:
        return (Verdict.PASS if result.agents >= expected else Verdict.FAIL).value, None
    if result.passed_max >= expected:
        return Verdict.PASS.value, None
    if result.failed_min is not None and result.failed_min <= expected:
        return Verdict.FAIL.value, None
    return (
        Verdict.INCONCLUSIVE.value,
        f"{result.reason}, and {expected} agents are neither reached nor ruled out",
    )


class _SystemLock:
    """Held while a system is measured, across processes; a crash releases it."""

    def __init__(self, settings: RunSettings) -> None:
        builtin = all(d.endpoint.builtin for d in settings.system.deployments.values())
        name = hashlib.sha256(str(settings.system_path.resolve()).encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"agentperf-{settings.system.name}-{name}.lock"
        # Every run launches its own simulated server, so there is nothing to share.
        self._lock = None if builtin else filelock.FileLock(path)
        self._system = settings.system.name

    def acquire(self) -> None:
        """Take the system, or say that another run has it."""
        if self._lock is None or self._lock.is_locked:
            return
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise LoadError(
                f"another run is measuring the system {self._system}",
                where=str(self._lock.lock_file),
                remedy="wait for it to end: two runs on one system would measure each other",
            ) from None

    def release(self) -> None:
        """Let the system go."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.release()
