"""One capacity run: a suite on a system, searched tier by tier, composed out of the ports.

Nothing is started before the first tier is asked for; deployments stay open until `close`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from pytest_agentperf.clock import NS_PER_S, RealClock
from pytest_agentperf.core.economics import normalise
from pytest_agentperf.core.errors import ConfigError, EndpointError
from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
from pytest_agentperf.core.search import CapacitySearch, Probe, SearchRules, Status, TierOutcome
from pytest_agentperf.core.verdict import LOAD_GENERATOR_CODES, Verdict, binding_constraint
from pytest_agentperf.deployed import BudgetSpent, Deployed, PhaseRun
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.opening import NotRunnable, max_prompt_tokens, open_deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.power import PowerSource
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.dataset import PreparedDataset

    Encode = Callable[[], EncodedDataset]


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


class CapacityRun:
    """Measures the capacity of one system at the tiers of one suite."""

    def __init__(
        self,
        settings: RunSettings,
        observer: Observer,
        *,
        clock: BlockingClock | None = None,
        open_: Callable[[str, RunSettings, Encode, BlockingClock], Deployed] = open_deployment,
    ) -> None:
        self.settings = settings
        self.phases: list[PhaseResult] = []
        self.request_parameters: dict[str, dict[str, object]] = {}
        self.power_sources: dict[str, PowerSource] = {}
        self.simulated = False
        self._observer = observer
        self._clock = clock or RealClock()
        self._open_deployment = open_
        self._encoded: EncodedDataset | None = None
        self._open: dict[str, Deployed] = {}
        self._searches: dict[str, CapacitySearch] = {}
        self._crashes: set[tuple[str, int]] = set()
        """Deployments and numbers of agents at which the server crashed."""
        self._next_phase = 0
        self._start_ns: int | None = None
        self._tokens = 0
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

    @property
    def dataset(self) -> PreparedDataset:
        """Return what is replayed; known once a deployment was opened, and after `close`."""
        assert self._encoded is not None
        return self._encoded.prepared

    def _encode(self) -> EncodedDataset:
        """Return the dataset, encoded on first use: all deployments of a run replay the same."""
        if self._encoded is None or self._encoded.closed:
            self._encoded = EncodedDataset(
                self.settings.dataset_path,
                max_prompt_tokens=max_prompt_tokens(self.settings),
                history_reasoning=self.settings.suite.history_reasoning,
                on_progress=self._observer.dataset_progress,
            )
        return self._encoded

    def measure(self, tier: str) -> TierResult:
        """Search the capacity at one tier; raises NotRunnable, EndpointError, DatasetError, ConfigError."""
        name = self._deployment_name(tier)
        deployment = self._opened(name)
        search = self._searches[name]
        while self._out_of_budget is None and (probe := search.next_probe(tier)):
            run = self._phase(deployment, probe.kind, probe.n_agents, attempt=probe.attempt)
            if run is None:
                break
            _record(search, probe, run.result, tier)
        return self._tier_result(tier, name, search.outcome(tier))

    def known(self, tier: str) -> TierResult | None:
        """Return what is known of a tier so far, None if its deployment was never opened."""
        found = self.settings.deployment_for(tier)
        if found is None or found[0] not in self._searches:
            return None
        return self._tier_result(tier, found[0], self._searches[found[0]].outcome(tier))

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

    def tiers_of(self, deployment: str) -> list[SloTier]:
        """Return the tiers that a deployment serves: they share its probes."""
        return [
            tier
            for name, tier in self.settings.tiers.items()
            if (found := self.settings.deployment_for(name)) and found[0] == deployment
        ]

    def _opened(self, name: str) -> Deployed:
        if name in self._open:
            return self._open[name]
        opened = self._open_deployment(name, self.settings, self._encode, self._clock)
        self._open[name] = opened
        if self._start_ns is None:
            self._start_ns = self._clock.now_ns()
        self.simulated |= opened.server.simulated
        self.request_parameters[name] = dict(opened.parameters)
        self.power_sources[name] = opened.metering.source.published()
        start = self.settings.start or opened.deployment.search_start or 1
        rules = SearchRules.from_ruleset(
            self.settings.ruleset,
            start=min(start, self.settings.max_agents),
            max_agents=self.settings.max_agents,
        )
        # A deployment that is opened again goes on where its search was.
        self._searches.setdefault(name, CapacitySearch((tier.name for tier in self.tiers_of(name)), rules))
        try:
            self._warm_up(opened)
        except BaseException:
            # The next tier must not find it open and take it for warm.
            del self._open[name]
            opened.close()
            raise
        return opened

    def _warm_up(self, deployment: Deployed) -> None:
        n_agents = min(self.settings.ruleset.warmup_agents, self.settings.max_agents)
        if n_agents:
            _check_warmup(self._phase(deployment, "warmup", n_agents, attempt=0), deployment)

    def _phase(
        self, deployment: Deployed, kind: PhaseKind, n_agents: int, *, attempt: int
    ) -> PhaseRun | None:
        """Run one phase; None if the budget ran out, and then nothing of it is kept."""
        if self._over_budget(0):
            return None
        if deployment.needs_revival:
            deployment.revive()
            self._warm_up(deployment)
        # Never the same number twice, whatever becomes of the phase: isolation prefixes are made from it.
        number, self._next_phase = self._next_phase, self._next_phase + 1
        self._observer.phase_started(kind, n_agents, deployment.name)
        try:
            run = deployment.run_phase(
                kind,
                n_agents,
                phase=number,
                attempt=attempt,
                tiers=self.tiers_of(deployment.name),
                crashed_before=(deployment.name, n_agents) in self._crashes,
                on_status=self._observer.phase_status,
                spent=self._over_budget,
            )
        except BudgetSpent:
            return None
        self._tokens += run.tokens
        run = run._replace(result=self._observer.phase_finished(run))
        self.phases.append(run.result)
        if kind != "warmup" and any(reason.code == "server_crashed" for reason in run.result.invalid):
            self._crashes.add((deployment.name, n_agents))
        return run

    def _over_budget(self, fresh_tokens: int) -> bool:
        budget = self.settings.budget
        now_ns = self._clock.now_ns()
        elapsed_s = (now_ns - (now_ns if self._start_ns is None else self._start_ns)) / NS_PER_S
        if budget.seconds is not None and elapsed_s > budget.seconds:
            self._out_of_budget = f"the budget of {budget.seconds:g} s was spent"
        if budget.tokens is not None and self._tokens + fresh_tokens > budget.tokens:
            self._out_of_budget = f"the budget of {budget.tokens:,} tokens was spent"
        return self._out_of_budget is not None

    def _tier_result(self, tier: str, deployment: str, outcome: TierOutcome) -> TierResult:
        settings = self.settings
        phases = [p for p in self.phases if p.deployment == deployment and p.kind != "warmup"]
        published = _last(phases, tier, outcome.agents, Verdict.PASS) if outcome.agents else None
        failing = _last(phases, tier, outcome.failed_min, Verdict.FAIL)
        decisive = failing or published
        accelerators = settings.system.deployments[deployment].allocated_accelerators
        hardware = settings.system.accelerator
        metrics = published.metrics if published else None
        complete = outcome.status is not Status.SEARCHING
        verdict = None
        if complete:
            verdict = Verdict.INVALID if outcome.status is Status.INVALID else Verdict.PASS
        return TierResult(
            tier=settings.tiers[tier],
            deployment=deployment,
            verdict=verdict,
            agents=outcome.agents,
            at_least=outcome.at_least,
            complete=complete,
            confirmed=outcome.confirmed,
            passed_max=outcome.passed_max,
            failed_min=outcome.failed_min,
            contradictions=outcome.contradictions,
            reason=outcome.reason
            or (None if complete else self._out_of_budget or "the search was broken off"),
            expected_agents=settings.expected_agents(tier),
            binding_constraint=(
                binding_constraint(next(v for v in decisive.verdicts if v.tier == tier)) if decisive else None
            ),
            published_phase=published.phase if published else None,
            accelerators=accelerators,
            metrics=metrics,
            energy=published.energy if published else None,
            normalisation=(
                normalise(
                    agents=outcome.agents,
                    throughput_tok_s=metrics.throughput_tok_s,
                    requests_per_s=metrics.requests / metrics.window_s,
                    trajectories_per_hour=_trajectories_per_hour(published),
                    accelerators=accelerators,
                    accelerators_per_system=hardware.per_system,
                    accelerators_per_rack=hardware.per_rack,
                    energy=published.energy,
                    usd_per_accelerator_hour=(
                        settings.system.price.usd_per_accelerator_hour if settings.system.price else None
                    ),
                )
                if published and metrics and outcome.agents
                else None
            ),
        )


def _record(search: CapacitySearch, probe: Probe, result: PhaseResult, tier: str) -> None:
    """Tell the search what a phase says about every tier."""
    search.record(
        probe,
        {verdict.tier: verdict.verdict for verdict in result.verdicts},
        reason=next((verdict.reason for verdict in result.verdicts if verdict.tier == tier), None),
        load_generator=bool(result.invalid) and all(r.code in LOAD_GENERATOR_CODES for r in result.invalid),
    )


def _check_warmup(run: PhaseRun | None, deployment: Deployed) -> None:
    """Raise EndpointError if not one request of the warm-up succeeded: that is no capacity of 0."""
    if run is None or not len(run.columns) or not run.columns.failed.all():
        return
    failure, detail = run.columns.texts["failure"][0], run.columns.texts["failure_detail"][0]
    raise EndpointError(
        f"all {len(run.columns)} requests of the warm-up failed; the first: {failure}"
        + (f" ({detail})" if detail else ""),
        where=deployment.server.url,
        remedy="see the server's log; `agentperf replay` runs one phase for a closer look",
    )


def _last(
    phases: Sequence[PhaseResult], tier: str, n_agents: int | None, verdict: Verdict
) -> PhaseResult | None:
    """Return the last phase at `n_agents` with that verdict for the tier."""
    found = None
    for phase in phases:
        if phase.n_agents == n_agents and any(
            v.tier == tier and v.verdict is verdict for v in phase.verdicts
        ):
            found = phase
    return found


def _trajectories_per_hour(phase: PhaseResult) -> float | None:
    """Return the rate at which trajectories completed inside the window, over which power is measured too."""
    if phase.metrics is None:
        return None
    return phase.metrics.trajectories_in_window / phase.metrics.window_s * 3600
