"""Why a tier's search ended where it did: how near the target the deciding probes were, and where the misses sit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.breakdown import worst_losses
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.verdict import Verdict, binding_constraint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_agentperf.core.breakdown import Bucket
    from pytest_agentperf.core.confidence import Interval
    from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
    from pytest_agentperf.core.slo import SloTier

_LOSSES_SHOWN = 2


def decision_lines(tier: TierResult, phases: Iterable[PhaseResult]) -> list[str]:
    """Return a line for the largest passed and the smallest failed probe, and where the latter's misses sit."""
    phases = list(phases)
    passed, failed = deciding_probes(tier, phases)
    lines = [
        f"{agents_count(phase.n_agents)}: {_against_targets(phase, tier.tier)}"
        for phase in (passed, failed, *_undecided(tier, phases))
        if phase
    ]
    if tier.gate is not None:
        return [*lines, *(f"  {line}" for line in tier.gate.lost_where)]
    return [*lines, *(f"  {line}" for line in lost_where(failed, tier.tier.name))]


def _undecided(tier: TierResult, phases: Iterable[PhaseResult]) -> Iterator[PhaseResult]:
    """Yield the phases of a gate that was not certain: how near they came is all that there is to go by."""
    if tier.gate is None or tier.gate.verdict is not Verdict.INCONCLUSIVE:
        return
    for phase in phases:
        if phase.n_agents == tier.gate.threshold_agents and any(
            v.tier == tier.tier.name and v.verdict is Verdict.INCONCLUSIVE for v in phase.verdicts
        ):
            yield phase


def lost_where(failed: PhaseResult | None, tier: str, before: Sequence[Bucket] = ()) -> tuple[str, ...]:
    """Return where the misses of a failed phase sit, against the same requests of an earlier one, if there is any."""
    verdict = next((v for v in failed.verdicts if v.tier == tier), None) if failed else None
    constraint = None if verdict is None else binding_constraint(verdict)
    if failed is None or constraint is None:
        return ()
    what, part = ("late", "queue and prefill") if constraint == "ttft_p95" else ("slow", "decode")
    lines = []
    for loss in worst_losses(failed.breakdown, before, tier, constraint)[:_LOSSES_SHOWN]:
        bucket, old = loss.bucket, loss.before
        was = ""
        if old is not None:
            was = f" (baseline: {(loss.missed / bucket.requests) - loss.rise:.0%})"
        share = f"{loss.share_of_rise:.0%} of {'the rise' if before else 'all'}"
        lines.append(
            f"{what} answers ({part}): {loss.missed / bucket.requests:.0%}{was} of {bucket.requests:,} with "
            f"{bucket.label}, {share}"
        )
    return tuple(lines)


def deciding_probes(
    tier: TierResult, phases: Iterable[PhaseResult]
) -> tuple[PhaseResult | None, PhaseResult | None]:
    """Return the largest passed and the smallest failed probe of a tier, each the last one at its number of agents."""
    phases = list(phases)
    return (
        _probe(phases, tier.tier, tier.passed_max, Verdict.PASS),
        _probe(phases, tier.tier, tier.failed_min, Verdict.FAIL),
    )


def interval_text(interval: Interval | None, digits: int) -> str:
    """Return an interval in brackets, empty where there is none."""
    if interval is None:
        return ""
    low = "–" if interval.low is None else f"{interval.low:,.{digits}f}"
    high = "∞" if interval.high is None else f"{interval.high:,.{digits}f}"
    return f" ({low} to {high} at {interval.level:.0%})"


def _probe(
    phases: Iterable[PhaseResult], tier: SloTier, n_agents: int | None, verdict: Verdict
) -> PhaseResult | None:
    return next(
        (
            phase
            for phase in reversed(list(phases))
            if phase.n_agents == n_agents
            and any(v.tier == tier.name and v.verdict is verdict for v in phase.verdicts)
        ),
        None,
    )


def _against_targets(phase: PhaseResult, tier: SloTier) -> str:
    metrics, confidence = phase.metrics, phase.confidence
    if metrics is None:
        return next(v.reason or str(v.verdict) for v in phase.verdicts if v.tier == tier.name)
    speed, ttft = metrics.output_speed_p25_tok_s, metrics.ttft_p95_s
    of_speed = interval_text(confidence.output_speed_p25_tok_s if confidence else None, 1)
    of_ttft = interval_text(confidence.ttft_p95_s if confidence else None, 2)
    beside_speed, beside_ttft = _beside(speed, tier.output_speed_p25_tok_s), _beside(ttft, tier.ttft_p95_s)
    return (
        f"speed P25 {'–' if speed is None else f'{speed:,.1f}'} tok/s{of_speed}{beside_speed}; "
        f"TTFT P95 {'∞' if ttft is None else f'{ttft:,.2f}'} s{of_ttft}{beside_ttft}"
    )


def _beside(value: float | None, target: float) -> str:
    if value is None:
        return ""
    return f", {abs(value / target - 1):.1%} {'above' if value >= target else 'below'} the target"
