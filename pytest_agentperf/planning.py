"""What a search will do and cost, from rehearsals of it with several seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.records import NULL
from pytest_agentperf.opening import NotRunnable
from pytest_agentperf.rehearsal import rehearsed_run, tabulated_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun

NS_PER_HOUR = 3.6e12
J_PER_KWH = 3.6e6


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Model):
    """Mean, least and most over the rehearsals."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """Return the range of some values."""
        return cls(mean=sum(values) / len(values), low=min(values), high=max(values))


class PlannedPhase(_Model):
    """One phase of the first rehearsal."""

    kind: str
    n_agents: int
    verdicts: dict[str, str]
    hours: float
    """With the pause before it."""
    requests: int
    prompt_tokens: int
    output_tokens: int
    energy_kwh: float | None
    """The window's mean power over the whole phase; None without a window."""


class TierPlan(_Model):
    """What one tier's search adds to those before it: tiers of one deployment share probes."""

    tier: str
    deployment: str | None
    accelerators: int | None
    reason: str | None
    """Why there is no plan."""
    agents: Range | None = None
    phases: tuple[PlannedPhase, ...] = ()
    phase_count: Range | None = None
    hours: Range | None = None
    requests: Range | None = None
    prompt_tokens: Range | None = None
    output_tokens: Range | None = None
    energy_kwh: Range | None = None
    cost_usd: Range | None = None
    """Rent of the deployment's accelerators; None where the system's file gives no price."""


class Plan(_Model):
    """A whole suite on one system."""

    simulated: bool = True
    suite: str
    system: str
    ruleset: str
    dataset: str
    rehearsals: int
    tiers: tuple[TierPlan, ...]


class _Rehearsed(NamedTuple):
    agents: int
    phases: tuple[PlannedPhase, ...]


def plan(
    settings: RunSettings,
    *,
    rehearsals: int,
    on_progress: Callable[[int, str, int], None] = lambda rehearsal, kind, n_agents: None,
) -> Plan:
    """Rehearse the whole search so many times, each with its own seed; `on_progress` hears of every phase."""
    tabulate = tabulated_once()
    found: dict[str, list[_Rehearsed]] = {tier: [] for tier in settings.selected}
    reasons: dict[str, str] = {}
    for number in range(rehearsals):
        watch = _Watch(number, on_progress)
        seeded = replace(settings, nonce=f"plan {number}", rehearsal=True)
        with rehearsed_run(seeded, watch, tabulate=tabulate) as run:
            for tier in settings.selected:
                if tier in reasons:
                    continue
                try:
                    result = run.measure(tier)
                except NotRunnable as reason:
                    reasons[tier] = str(reason)
                    continue
                phases, watch.phases = tuple(watch.phases), []
                found[tier].append(_Rehearsed(result.agents or result.passed_max, phases))
    return Plan(
        suite=settings.suite.name,
        system=settings.system.name,
        ruleset=settings.ruleset.id,
        dataset=settings.dataset_path.name,
        rehearsals=rehearsals,
        tiers=tuple(_tier_plan(settings, tier, found[tier], reasons.get(tier)) for tier in settings.selected),
    )


def _tier_plan(settings: RunSettings, tier: str, found: Sequence[_Rehearsed], reason: str | None) -> TierPlan:
    served = settings.deployment_for(tier)
    accelerators = None if served is None else served[1].allocated_accelerators
    name = None if served is None else served[0]
    if not found:
        return TierPlan(tier=tier, deployment=name, accelerators=accelerators, reason=reason)
    price = settings.system.price
    hours = [sum(phase.hours for phase in each.phases) for each in found]
    energy = [_energy_kwh(each.phases) for each in found]
    return TierPlan(
        tier=tier,
        deployment=name,
        accelerators=accelerators,
        reason=None,
        agents=Range.of([each.agents for each in found]),
        phases=found[0].phases,
        phase_count=Range.of([len(each.phases) for each in found]),
        hours=Range.of(hours),
        requests=Range.of([sum(phase.requests for phase in each.phases) for each in found]),
        prompt_tokens=Range.of([sum(phase.prompt_tokens for phase in each.phases) for each in found]),
        output_tokens=Range.of([sum(phase.output_tokens for phase in each.phases) for each in found]),
        energy_kwh=None if None in energy else Range.of([kwh for kwh in energy if kwh is not None]),
        cost_usd=(
            None
            if price is None or price.usd_per_accelerator_hour is None or accelerators is None
            else Range.of([each * accelerators * price.usd_per_accelerator_hour for each in hours])
        ),
    )


def _energy_kwh(phases: Sequence[PlannedPhase]) -> float | None:
    known = [phase.energy_kwh for phase in phases if phase.energy_kwh is not None]
    # A warm-up may have no window; it is short.
    return sum(known) if known or not phases else None


class _Watch:
    """An `Observer` that keeps of every phase what a plan says of it."""

    def __init__(self, rehearsal: int, on_progress: Callable[[int, str, int], None]) -> None:
        self.phases: list[PlannedPhase] = []
        self._rehearsal = rehearsal
        self._on_progress = on_progress
        self._ended_ns: int | None = None

    def dataset_progress(self, done: int, total: int) -> None:
        """Show nothing."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Pass it on."""
        self._on_progress(self._rehearsal, kind, n_agents)

    def phase_status(self, status: PhaseStatus) -> None:
        """Show nothing."""

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """Keep its figures."""
        result, columns = run.result, run.columns
        begun_ns = result.start_ns if self._ended_ns is None else self._ended_ns
        hours = (result.end_ns - begun_ns) / NS_PER_HOUR
        power_w = result.energy.mean_power_w
        self._ended_ns = result.end_ns
        self.phases.append(
            PlannedPhase(
                kind=result.kind,
                n_agents=result.n_agents,
                verdicts={verdict.tier: str(verdict.verdict) for verdict in result.verdicts},
                hours=hours,
                requests=len(columns),
                prompt_tokens=int(columns["prompt_tokens"][columns["prompt_tokens"] != NULL].sum()),
                output_tokens=int(columns["output_tokens"][columns["output_tokens"] != NULL].sum()),
                energy_kwh=None if power_w is None else power_w * hours * 3600 / J_PER_KWH,
            )
        )
        return result
