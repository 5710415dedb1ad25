"""Why a tier's search ended where it did: how near the target the deciding probes were, and where the misses sit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.breakdown import worst_losses
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.confidence import Interval
    from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
    from pytest_agentperf.core.slo import SloTier

_LOSSES_SHOWN = 2


def decision_lines(tier: TierResult, phases: Iterable[PhaseResult]) -> list[str]:
    """Return a line for the largest passed and the smallest failed probe, and where the latter's misses sit."""
    passed, failed = deciding_probes(tier, phases)
    lines = [
        f"{phase.n_agents} agents: {_against_targets(phase, tier.tier)}"
        for phase in (passed, failed)
        if phase
    ]
    if failed is not None and tier.binding_constraint is not None:
        lines += _where(failed, tier.tier.name, tier.binding_constraint)
    return lines


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


def _where(phase: PhaseResult, tier: str, constraint: str) -> list[str]:
    what = "late" if constraint == "ttft_p95" else "slow"
    lines = []
    for loss in worst_losses(phase.breakdown, (), tier, constraint)[:_LOSSES_SHOWN]:
        bucket = loss.bucket
        lines.append(
            f"  {what} answers: {loss.missed / bucket.requests:.0%} of {bucket.requests:,} with "
            f"{bucket.label}, {loss.share_of_rise:.0%} of all"
        )
    return lines
