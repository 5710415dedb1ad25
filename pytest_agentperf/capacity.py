"""One capacity run: a suite on a system, searched tier by tier, composed out of the ports.

Nothing is started before the first tier is asked for; deployments stay open until `close`.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from pytest_agentperf.accuracy_phase import AccuracyPhase
from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.recorded import record_settings
from pytest_agentperf.core.accuracy import ALONE
from pytest_agentperf.core.errors import ConfigError, EndpointError, LoadError
from pytest_agentperf.core.journal import (
    DeploymentOpened,
    Event,
    NoJournal,
    PhaseBrokenOff,
    PhaseFinished,
    PhaseStarted,
    RunEnded,
    RunResumed,
    ServerRevived,
    TierFinished,
)
from pytest_agentperf.core.leaderboard import DatasetInfo, PhaseResult, TierResult
from pytest_agentperf.core.run_state import RunState
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deployed import BudgetSpent, Deployed, PhaseRun
from pytest_agentperf.interruption import BrokenOff, Interrupted, StopRequest
from pytest_agentperf.opening import NotRunnable, encoded_dataset, opener
from pytest_agentperf.results.accuracy import asked
from pytest_agentperf.results.tier_result import tier_result
from pytest_agentperf.software import software_digest, software_versions
from pytest_agentperf.strategy import new_strategy, tiers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.checks import Check
    from pytest_agentperf.core.phase import PhaseKind
    from pytest_agentperf.core.ports import BlockingClock, Journal
    from pytest_agentperf.core.power import PowerSource
    from pytest_agentperf.dataset import PreparedDataset
    from pytest_agentperf.observer import Observer

    Opener = Callable[[str, RunSettings, Callable[[], Any], Any], Deployed]
    Encoder = Callable[[RunSettings, Callable[[int, int], None]], "Replayable"]


class Replayable(Protocol):
    """A dataset as deployments replay it; where it is held decides what `open_` can do with it."""

    @property
    def prepared(self) -> PreparedDataset:
        """Return what it was made of."""

    @property
    def closed(self) -> bool:
        """Return whether it can no longer be replayed."""

    def close(self) -> None:
        """Give back what is held; `prepared` stays."""


class CapacityRun:
    """Measures the capacity of one system at the tiers of one suite."""

    def __init__(
        self,
        settings: RunSettings,
        observer: Observer,
        *,
        clock: BlockingClock | None = None,
        open_: Opener | None = None,
        encode: Encoder = encoded_dataset,
        journal: Journal | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self.settings = settings
        self.state = RunState(partial(new_strategy, settings))
        self._journal = journal or NoJournal()
        self._observer = observer
        self._stop = stop or StopRequest()
        self._clock = clock or RealClock()
        self._open_deployment = open_ or opener(settings)
        self._encode_dataset = encode
        self._encoded: Replayable | None = None
        self._open: dict[str, Deployed] = {}
        self._start_ns: int | None = None
        self._elapsed_before_s = 0.0
        """How long the run had lasted when it was interrupted."""
        self._resumed = False
        self._out_of_budget: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End workers and launched servers, and remove the encoded dataset."""
        try:
            while self._open:
                _, deployment = self._open.popitem()
                deployment.close()
        finally:
            if self._encoded is not None:
                self._encoded.close()
            self._tell_ended()

    def _tell_ended(self) -> None:
        if self._start_ns is None:
            return
        self._elapsed_before_s, self._start_ns = self._elapsed_s(), None
        if self.state.begun is not None:
            # Whoever reads the journal manages without; a full disk has been reported where it cost something.
            with contextlib.suppress(LoadError):
                self._tell(RunEnded(elapsed_s=self._elapsed_before_s))

    def resume(self, events: Iterable[Event]) -> None:
        """Take what a journal tells of this run, and go on from there; raises ConfigError if it is another run."""
        for event in events:
            self.state.apply(event)
        self._elapsed_before_s = self.state.elapsed_s
        self._resumed = True

    def _tell(self, event: Event) -> None:
        """Let an event happen: it is kept before anything follows from it."""
        self._journal.append(event)
        self.state.apply(event)

    @property
    def phases(self) -> list[PhaseResult]:
        """Return all finished phases."""
        return self.state.phases

    @property
    def request_parameters(self) -> dict[str, dict[str, object]]:
        """Return what every request carried besides its messages, per deployment."""
        return {name: opened.request_parameters for name, opened in self.state.opened.items()}

    @property
    def power_sources(self) -> dict[str, PowerSource]:
        """Return where power is read, per deployment."""
        return {name: opened.power_source for name, opened in self.state.opened.items()}

    @property
    def preflight(self) -> dict[str, tuple[Check, ...]]:
        """Return what was found before the first phase, per deployment."""
        return self.state.checks

    @property
    def simulated(self) -> bool:
        """Return whether any deployment is a model of one."""
        return any(opened.simulated for opened in self.state.opened.values())

    @property
    def dataset_info(self) -> DatasetInfo:
        """Return which trajectories are replayed; known once a deployment was opened."""
        if self.state.begun is not None:
            return self.state.begun.dataset
        dataset = self.dataset
        return DatasetInfo(
            name=dataset.name,
            digest=dataset.digest,
            trajectories=len(dataset.ids),
            official=dataset.digest == self.settings.ruleset.dataset_digest,
            truncation=dataset.report._asdict(),
        )

    @property
    def dataset(self) -> PreparedDataset:
        """Return what is replayed; known once a deployment was opened, and after `close`."""
        assert self._encoded is not None
        return self._encoded.prepared

    def _encode(self) -> Replayable:
        """Return the dataset, encoded on first use: all deployments of a run replay the same."""
        if self._encoded is None or self._encoded.closed:
            self._encoded = self._encode_dataset(self.settings, self._observer.dataset_progress)
        # Before a server is started: another workload answers another question.
        self._check_baselines(self._encoded.prepared.digest)
        return self._encoded

    def _check_baselines(self, digest: str) -> None:
        for tier, of_baseline in self.settings.baseline_datasets.items():
            if of_baseline != digest:
                raise ConfigError(
                    f"the baseline of {tier} was found with another dataset (digest {of_baseline[:12]}, "
                    f"here {digest[:12]})",
                    where=str(self.settings.dataset_path),
                    remedy="replay the baseline's dataset, or measure with this one and accept that",
                )

    def measure(self, tier: str) -> TierResult:
        """Search the capacity at one tier; raises NotRunnable, EndpointError, DatasetError, ConfigError."""
        if tier in self.state.tiers:
            return self.state.tiers[tier]
        name = self._deployment_name(tier)
        search = self.state.search(name)
        while self._out_of_budget is None and (probe := search.next_probe(tier)):
            deployment = self._opened(name)
            run = self._phase(deployment, probe.kind, probe.n_agents, attempt=probe.attempt, tier=tier)
            if run is None:
                break
        questioned = self._ask_questions(tier, name)
        result = self._tier_result(tier, name)
        if result.complete and questioned:
            self._tell(TierFinished(result=result))
        return result

    def _ask_questions(self, tier: str, name: str) -> bool:
        """Ask the suite's questions alone and beside the capacity's agents; False if the budget ran out before."""
        outcome = self.state.search(name).outcome(tier)
        if self.settings.suite.accuracy is None or not outcome.agents or self.state.opened[name].simulated:
            return True
        for n_agents in (ALONE, outcome.agents):
            if asked(self.phases, name, n_agents) is not None:
                continue
            if self._phase(self._opened(name), "accuracy", n_agents, attempt=0, tier=tier) is None:
                return False
        return True

    def known(self, tier: str) -> TierResult | None:
        """Return what is known of a tier so far, None if no probe of its deployment was begun."""
        found = self.settings.deployment_for(tier)
        if found is None or found[0] not in self.state.opened:
            return None
        if tier in self.state.tiers:
            # Its answer stands, whatever other tiers' probes at the same number of agents say by now.
            contradictions = self.state.search(found[0]).outcome(tier).contradictions
            return self.state.tiers[tier].model_copy(update={"contradictions": contradictions})
        return self._tier_result(tier, found[0])

    def _tier_result(self, tier: str, deployment: str) -> TierResult:
        return tier_result(
            self.settings,
            tier,
            deployment,
            self.state.search(deployment).outcome(tier),
            self.phases,
            broken_off=self._out_of_budget or "the search was broken off",
        )

    def run_fixed(self, deployment: str, n_agents: int) -> PhaseResult:
        """Run one phase at a fixed number of agents, warm-up first."""
        opened = self._opened(deployment)
        run = self._phase(opened, "fixed", n_agents, attempt=0)
        if run is None:
            raise ConfigError(f"{self._out_of_budget}", remedy="give a larger budget")
        return run.result

    def _deployment_name(self, tier: str) -> str:
        found = self.settings.deployment_for(tier)
        if found is None:
            raise NotRunnable(
                f"system {self.settings.system.name} has no deployment for {self.settings.suite.name} {tier}: "
                f"add one under `deployments:` in {self.settings.system_path}"
            )
        return found[0]

    def _opened(self, name: str) -> Deployed:
        if name in self._open:
            return self._open[name]
        opened = self._open_deployment(name, self.settings, self._encode, self._clock)
        self._open[name] = opened
        if self._start_ns is None:
            self._start_ns = self._clock.now_ns()
        try:
            self._tell_opened(opened)
            self._warm_up(opened)
        except BaseException:
            # The next tier must not find it open and take it for warm.
            del self._open[name]
            opened.close()
            raise
        return opened

    def _tell_opened(self, opened: Deployed) -> None:
        now_utc = datetime.now(UTC).isoformat(timespec="seconds")
        if self.state.begun is None:
            self._tell(
                record_settings(
                    self.settings,
                    self.dataset_info,
                    software=software_versions(),
                    software_digest=software_digest(),
                    created_utc=now_utc,
                )
            )
        elif self._encoded is not None and self._encoded.prepared.digest != self.state.begun.dataset.digest:
            raise ConfigError(
                "the run cannot be resumed: its dataset has changed",
                where=str(self.settings.dataset_path),
                remedy="measure anew without --agentperf-resume",
            )
        if self._resumed:
            self._resumed = False
            self._tell(RunResumed(created_utc=now_utc))
        self._tell(
            DeploymentOpened(
                deployment=opened.name,
                simulated=opened.server.simulated,
                request_parameters=dict(opened.parameters),
                power_source=opened.metering.source.published(),
                preflight=opened.checks,
            )
        )

    def _warm_up(self, deployment: Deployed) -> None:
        n_agents = min(self.settings.ruleset.warmup_agents, self.settings.max_agents)
        if n_agents:
            _check_warmup(self._phase(deployment, "warmup", n_agents, attempt=0), deployment)

    def _phase(
        self, deployment: Deployed, kind: PhaseKind, n_agents: int, *, attempt: int, tier: str | None = None
    ) -> PhaseRun | None:
        """Run one phase; None if the budget ran out, and then nothing of it is kept."""
        if self._over_budget(0):
            return None
        if deployment.needs_revival:
            deployment.revive()
            self._tell(ServerRevived(deployment=deployment.name, elapsed_s=self._elapsed_s()))
            self._warm_up(deployment)
        number, warmup_attempt = self.state.number_for(deployment.name, warmup=kind == "warmup")
        attempt = attempt if warmup_attempt is None else warmup_attempt
        # Told first: whatever becomes of the phase, no other one has its isolation prefixes.
        started = PhaseStarted(
            phase=number,
            attempt=attempt,
            kind=kind,
            deployment=deployment.name,
            n_agents=n_agents,
            tier=tier,
            elapsed_s=self._elapsed_s(),
        )
        self._tell(started)
        self._observer.phase_started(kind, n_agents, deployment.name)
        with self._stop.phase():
            run = self._started(deployment, started)
            if run is not None:
                self._tell(
                    PhaseFinished(
                        tier=tier, tokens=run.tokens, elapsed_s=self._elapsed_s(), result=run.result
                    )
                )
        # Asked too late to break this phase off; there is no next one.
        self._stop.check()
        return run

    def _started(self, deployment: Deployed, started: PhaseStarted) -> PhaseRun | None:
        """Run a phase that has been told, and store it; what breaks it off is told, too."""
        spent = _Spent(self._over_budget)
        try:
            if started.kind == "accuracy":
                asking = AccuracyPhase(deployment, self._clock, started.n_agents)
                run = asking.run(phase=started.phase, on_status=self._observer.phase_status, spent=spent)
                self._stop.heed()
            else:
                run = deployment.run_phase(
                    started.kind,
                    started.n_agents,
                    phase=started.phase,
                    attempt=started.attempt,
                    tiers=tiers_of(self.settings, deployment.name),
                    crashed_before=(deployment.name, started.n_agents) in self.state.crashes,
                    on_status=self._observer.phase_status,
                    spent=spent,
                    stop=self._stop,
                    wanted=started.tier,
                )
            return run._replace(result=self._observer.phase_finished(run))
        except BaseException as error:
            digests: Mapping[str, str] = {}
            if isinstance(error, Interrupted):
                spent.tokens += error.tokens
                if error.columns is not None:
                    digests = self._stop.keep(BrokenOff(started, error.columns))
            broken_off = PhaseBrokenOff(
                phase=started.phase,
                attempt=started.attempt,
                reason=type(error).__name__,
                tokens=spent.tokens,
                elapsed_s=self._elapsed_s(),
                digests=dict(digests),
            )
            # A full disk broke it off, perhaps; what did is what matters.
            with contextlib.suppress(LoadError):
                self._tell(broken_off)
            if isinstance(error, BudgetSpent):
                return None
            raise

    def _elapsed_s(self) -> float:
        if self._start_ns is None:
            return self._elapsed_before_s
        return self._elapsed_before_s + (self._clock.now_ns() - self._start_ns) / NS_PER_S

    def _over_budget(self, fresh_tokens: int) -> bool:
        budget = self.settings.budget
        if budget.seconds is not None and self._elapsed_s() > budget.seconds:
            self._out_of_budget = f"the budget of {budget.seconds:g} s was spent"
        if budget.tokens is not None and self.state.tokens + fresh_tokens > budget.tokens:
            self._out_of_budget = f"the budget of {budget.tokens:,} tokens was spent"
        return self._out_of_budget is not None


class _Spent:
    """Asks whether the budget is spent, and remembers what the phase took."""

    def __init__(self, over_budget: Callable[[int], bool]) -> None:
        self.tokens = 0
        self._over_budget = over_budget

    def __call__(self, tokens: int) -> bool:
        self.tokens = tokens
        return self._over_budget(tokens)


def _check_warmup(run: PhaseRun | None, deployment: Deployed) -> None:
    """Raise EndpointError if not one request of the warm-up succeeded: that is no capacity of 0."""
    if run is None or not len(run.columns) or not run.columns.failed.all():
        return
    failure, detail = run.columns.texts["failure"][0], run.columns.texts["failure_detail"][0]
    raise EndpointError(
        f"all {len(run.columns)} requests of the warm-up failed; the first: {failure}"
        + (f" ({detail})" if detail else "")
        + "".join(f"\n  | {line}" for line in deployment.server.log_tail()),
        where=deployment.server.url,
        remedy="see the server's log; `agentperf replay` runs one phase for a closer look",
    )
