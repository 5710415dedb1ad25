"""One suite on one system inside a pytest session: the open run, its lock, its display, its entry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.recorded import check_unchanged
from pytest_agentperf.config.secrets import secrets_of
from pytest_agentperf.core.errors import AgentPerfError, LoadError
from pytest_agentperf.core.redact import redact
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.deploy.lock import SystemLock
from pytest_agentperf.interruption import StopRequest
from pytest_agentperf.opening import NotRunnable, opener
from pytest_agentperf.plugin.case import MeasuredCapacity
from pytest_agentperf.plugin.redaction import redact_model
from pytest_agentperf.plugin.signals import signals_ask
from pytest_agentperf.plugin.terminal import make_progress
from pytest_agentperf.rehearsal import rehearsed_run
from pytest_agentperf.results.artifact import store_broken_off, store_phase
from pytest_agentperf.results.entry import build_entry
from pytest_agentperf.results.journal import JOURNAL, FileJournal, not_ours, read_journal
from pytest_agentperf.results.junit import identity, problem_properties, properties
from pytest_agentperf.results.tier_result import asserted
from pytest_agentperf.results.turns_file import keep_turns
from pytest_agentperf.software import software_versions

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import Entry, PhaseResult, TierResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun
    from pytest_agentperf.interruption import BrokenOff
    from pytest_agentperf.plugin.session import AgentPerfSession

# After these pytest ends the session; whatever else is raised becomes the report of a test, and the session goes on.
_INTERRUPTS = (KeyboardInterrupt, pytest.exit.Exception)


class Measuring:
    """Measures tier after tier of one suite on one system; the `Observer` of its run."""

    def __init__(self, session: AgentPerfSession, settings: RunSettings) -> None:
        # Its debug lines hold response headers, in which there are servers that repeat our key.
        logging.getLogger("httpcore").setLevel(logging.INFO)
        self.settings = settings
        self._session = session
        self._progress = make_progress(session, settings)
        self._lock = SystemLock(settings)
        self._folder = session.run_folder(settings)
        self._journal = FileJournal(self._folder / JOURNAL)
        self._stop = StopRequest(tell=self._progress.interrupted, keep=self._keep_broken_off)
        open_ = opener(settings, logs=self._logs, on_progress=self._progress.server_progress)
        # A rehearsal keeps no journal: whoever misses the rest of it repeats it, to the bit.
        self._run = (
            rehearsed_run(settings, self)
            if settings.rehearsal
            else CapacityRun(settings, self, open_=open_, journal=self._journal, stop=self._stop)
        )
        self._begun = False
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
        entry = self._entry(self._measured())
        self._session.keep_payload(item, entry)
        verdict, problem = asserted(result)
        if (
            result.gate is not None
            and verdict == Verdict.INCONCLUSIVE.value
            and self._session.skips_inconclusive
        ):
            item.user_properties += properties(entry, result, verdict=verdict).items()
            pytest.skip(f"agentperf: {verdict}: {problem}")
        item.user_properties += properties(entry, result, verdict=verdict).items()
        measured = MeasuredCapacity(result, entry)
        if problem is not None:
            pytest.fail(f"agentperf: {verdict}: {problem}\n{measured.report()}", pytrace=False)
        return measured

    def _search(self, tier: str, item: pytest.Item) -> TierResult:
        skip = failure = None
        try:
            if not self.settings.rehearsal:
                self._lock.acquire()
            self._begin()
            with signals_ask(self._stop, self._session.grace_s):
                return self._run.measure(tier)
        except NotRunnable as error:
            skip = str(error)
            if tier in self.settings.gate:
                # A secret that a CI job lost must not let everything pass.
                failure = f"agentperf: the gate was not asked: {skip}"
                item.user_properties += problem_properties(skip).items()
        except AgentPerfError as error:
            # Servers quote keys, and JUnit files are published.
            failure = redact(f"agentperf: {error}", self._secrets())
            place = f"{error.where}: " if error.where else ""
            reason = redact(f"{place}{error.what}", self._secrets())
            item.user_properties += problem_properties(reason).items()
            self._keep_what_there_is(tier, item)
        except _INTERRUPTS:
            self._keep_what_there_is(tier, item)
            self._session.interrupted(item)
            raise
        except BaseException:
            # A bug, ours or a plugin's: phases that have ended are worth keeping all the same.
            self._keep_what_there_is(tier, item)
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
            self._journal.close()
            self._begun = False
            self._lock.release()

    def _begin(self) -> None:
        """Go on with what the run's folder holds, if it was begun: by another process, or before `close`."""
        if self._begun:
            return
        if self.settings.rehearsal:
            if self._folder.exists() and self._run.state.begun is None:
                raise not_ours(self._folder)
        elif self._folder.exists() and not self._journal.folder_is_new:
            # Its nonce says whose it is: another run may have begun in the same second.
            if not self._journal.path.exists():
                raise not_ours(self._folder)
            begun = read_journal(self._journal.path).begun
            if begun.nonce != self.settings.nonce:
                raise not_ours(self._folder)
            check_unchanged(begun, self.settings, software=software_versions(), where=str(self._folder))
            events = self._journal.reopen().events
            if self._run.state.begun is None:
                self._run.resume(events)
        self._begun = True

    def _keep_what_there_is(self, tier: str, item: pytest.Item) -> None:
        """Hand over what was measured before an error or an interrupt."""
        result = self._run.known(tier)
        if result is not None and any(phase.kind != "warmup" for phase in self._run.phases):
            # With the tiers before it: of an interrupted xdist worker this is the last word.
            self._session.keep_payload(item, self._entry([*self._measured(), result]))

    def _measured(self) -> list[TierResult]:
        """Return the tiers that were measured, with what probes for other tiers said against them since."""
        refreshed = []
        for name, tier in self._tiers.items():
            known = self._run.known(name)
            notes = tier.contradictions if known is None else known.contradictions
            refreshed.append(tier.model_copy(update={"contradictions": notes}))
        return refreshed

    def _entry(self, tiers: list[TierResult]) -> Entry:
        run = self._run
        assert run.state.begun is not None  # a tier has a result once a deployment was opened
        return build_entry(
            self.settings,
            begun=run.state.begun,
            tiers=tiers,
            phases=run.phases,
            request_parameters=run.request_parameters,
            power_sources=run.power_sources,
            preflight=run.preflight,
            simulated=run.simulated,
        )

    # Observer

    def dataset_progress(self, done: int, total: int) -> None:
        """Show it."""
        self._progress.dataset_progress(done, total)

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Show it."""
        self._progress.phase_started(kind, n_agents, deployment)

    def phase_status(self, status: PhaseStatus) -> None:
        """Show it."""
        self._progress.phase_status(status)

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """Store the phase's records as soon as they are there."""
        rehearsal = self.settings.rehearsal
        try:
            keep_turns(self._folder, self._run.dataset.tool_delays_ns, rehearsal=rehearsal)
            stored = store_phase(
                self._folder,
                redact_model(run.result, self._secrets()),
                run.columns,
                *run.sampled,
                server=run.server,
                rehearsal=rehearsal,
            )
        except OSError as error:
            raise LoadError(
                f"the records cannot be written: {error.strerror or error}",
                where=str(self._folder),
                remedy=f"make room, and go on with --agentperf-resume {self._folder}",
            ) from None
        self._progress.phase_finished(stored)
        return stored

    def _keep_broken_off(self, broken: BrokenOff) -> dict[str, str]:
        """Store what was recorded of a phase that was interrupted."""
        try:
            return store_broken_off(self._folder, broken.phase, broken.columns)
        except OSError as error:
            # The run ends all the same, with what was stored before.
            self._session.problems.append(f"the records of the last phase were not written: {error}")
            return {}

    def _logs(self) -> Path:
        """Return the folder for the logs of servers; the first one is written before anything else of a run."""
        try:
            return self._journal.make_folder() / "logs"
        except OSError as error:
            raise LoadError(
                f"the server's log cannot be written: {error.strerror or error}",
                where=str(self._folder),
                remedy="make room or name another folder (--agentperf-results), and run again",
            ) from None

    def _secrets(self) -> Collection[str]:
        return secrets_of(self.settings.system).values()
