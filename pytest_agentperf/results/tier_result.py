"""The result of one tier: what its search found, and the metrics, power and normalisation of the published phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.bracket import capacity_bracket
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.economics import normalise
from pytest_agentperf.core.leaderboard import TierResult
from pytest_agentperf.core.search import Status
from pytest_agentperf.core.verdict import Verdict, binding_constraint
from pytest_agentperf.results.accuracy import judge_phases
from pytest_agentperf.results.decision import lost_where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.search import CapacityInterval, TierOutcome


def tier_result(
    settings: RunSettings,
    tier: str,
    deployment: str,
    outcome: TierOutcome,
    phases: Sequence[PhaseResult],
    *,
    broken_off: str,
) -> TierResult:
    """Return a tier's result, final or not; `broken_off` says why its search is not complete."""
    phases = [p for p in phases if p.deployment == deployment and p.kind != "warmup"]
    published = _last(phases, tier, outcome.agents, Verdict.PASS) if outcome.agents else None
    failing = _last(phases, tier, outcome.failed_min, Verdict.FAIL)
    decisive = failing or published
    accelerators = settings.system.deployments[deployment].allocated_accelerators
    hardware = settings.system.accelerator
    metrics = published.metrics if published else None
    complete = outcome.status is not Status.SEARCHING
    modelled = None
    if settings.ruleset.search == "model" and outcome.agents and published is None:
        modelled = "the capacity is a model's: no phase ran at it, so that it has no metrics, power or cost of its own"
    accuracy = judge_phases(phases, deployment, outcome.agents, settings)
    # No optimisation buys capacity with quality: one that is answered worse is not accepted.
    refused = accuracy.status == "dropped"
    agents = None if refused else outcome.agents
    verdict = None
    if complete:
        found = Verdict.PASS if outcome.gate is None else outcome.gate.verdict
        verdict = Verdict.INVALID if refused or outcome.status is Status.INVALID else found
    interval, interval_reason = _interval(settings, tier, outcome, phases, refused=refused)
    return TierResult(
        tier=settings.tiers[tier],
        deployment=deployment,
        verdict=verdict,
        agents=agents,
        interval=interval,
        interval_reason=interval_reason,
        at_least=outcome.at_least,
        complete=complete,
        confirmed=outcome.confirmed,
        passed_max=outcome.passed_max,
        failed_min=outcome.failed_min,
        contradictions=outcome.contradictions,
        reason=f"accuracy under load: {accuracy.reason}"
        if refused
        else outcome.reason or (modelled if complete else broken_off),
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
                agents=agents,
                throughput_tok_s=metrics.throughput_tok_s,
                requests_per_s=metrics.requests / metrics.window_s,
                trajectories_per_hour=_trajectories_per_hour(published),
                accelerators=accelerators,
                accelerators_per_system=hardware.per_system,
                accelerators_per_rack=hardware.per_rack,
                energy=published.energy,
                price=settings.system.price,
                idle_power_w=published.power.idle_power_w,
            )
            if published and metrics and agents
            else None
        ),
        gate=None
        if outcome.gate is None
        else outcome.gate.model_copy(
            update={"lost_where": lost_where(failing, tier, settings.baseline_breakdown.get(tier, ()))}
        ),
        accuracy=accuracy,
    )


def _interval(
    settings: RunSettings, tier: str, outcome: TierOutcome, phases: Sequence[PhaseResult], *, refused: bool
) -> tuple[CapacityInterval | None, str | None]:
    """Return between which numbers the capacity lies: as a model of the probes says, else by the probes themselves."""
    if outcome.gate is not None:
        return None, "a gate asks whether one number of agents passes, not for the capacity"
    if refused or outcome.agents is None:
        return None, "no capacity is stated"
    if outcome.interval is not None:
        return outcome.interval, None
    return capacity_bracket(
        settings.tiers[tier], phases, agents=outcome.agents, error_rate=settings.ruleset.error_rate
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


def asserted(result: TierResult) -> tuple[str, str | None]:
    """Return the verdict of a tier's test and, where no assertion can be made, the reason.

    Plain text, as execnet needs it.
    """
    expected = 1 if result.expected_agents is None else result.expected_agents
    if result.verdict is Verdict.INVALID:
        return Verdict.INVALID.value, result.reason or "no capacity can be stated"
    if result.agents is not None:
        return (Verdict.PASS if result.agents >= expected else Verdict.FAIL).value, None
    if result.passed_max >= expected:
        return Verdict.PASS.value, None
    if result.failed_min is not None and result.failed_min <= expected:
        return Verdict.FAIL.value, None
    if result.gate is not None:
        return Verdict.INCONCLUSIVE.value, result.reason
    return (
        Verdict.INCONCLUSIVE.value,
        f"{result.reason}, with {agents_count(expected)} neither reached nor ruled out",
    )
