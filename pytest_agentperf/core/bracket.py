"""Between which numbers of agents a capacity lies by its probes: from one that surely passed to one that surely failed.

Sure is a probe whose percentiles' own confidence intervals lie on one side of the targets. What all agents of a phase
share is in no such interval, so this is no interval of the capacity at their level: it says how far the verdicts
that bound it can be taken for granted. Comparisons take the probes' scatter instead (`capacity_estimate.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.confidence import CLUSTERS_MIN, LEVEL
from pytest_agentperf.core.search import CapacityInterval
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.core.verdict import TierVerdict


def capacity_bracket(
    tier: SloTier, phases: Iterable[PhaseResult], *, agents: int, error_rate: float | None
) -> tuple[CapacityInterval | None, str | None]:
    """Return the bracket of a stated capacity, and why it is open on a side or not there.

    `phases`: those of the tier's deployment; `error_rate`: the ruleset's, at which verdicts are certain themselves.
    """
    surely: dict[int, set[bool]] = {}
    passed: set[int] = set()
    failed: set[int] = set()
    for phase in phases:
        verdict = next((one for one in phase.verdicts if one.tier == tier.name), None)
        if verdict is None or verdict.verdict not in (Verdict.PASS, Verdict.FAIL):
            continue
        passes = verdict.verdict is Verdict.PASS
        (passed if passes else failed).add(phase.n_agents)
        sure = error_rate is not None or is_sure(phase, verdict, tier)
        surely.setdefault(phase.n_agents, set()).add(sure)
    # Of several probes at one number all must be sure.
    sure_passes = {n for n in passed - failed if surely[n] == {True}}
    sure_fails = {n for n in failed - passed if surely[n] == {True}}
    low = max((n for n in sure_passes if all(n < other for other in failed)), default=None)
    high = min((n for n in sure_fails if all(n > other for other in passed)), default=None)
    if agents == 0:
        low = 0
    reasons = []
    if low is None:
        reasons.append("no number of agents passes for sure")
    if high is None:
        reasons.append("no number of agents fails for sure" if failed else "no number of agents failed")
    if reasons and error_rate is None:
        reasons.append(
            f"sure are probes of {CLUSTERS_MIN} trajectories or more whose {LEVEL:.0%} intervals leave out the targets"
        )
    reason = "; ".join(reasons) or None
    if low is None and high is None:
        return None, reason
    level = LEVEL if error_rate is None else 1 - error_rate
    return CapacityInterval(low=low, high=high, level=level, method="probes"), reason


def is_sure(phase: PhaseResult, verdict: TierVerdict, tier: SloTier) -> bool:
    """Return whether a probe's verdict would be the same wherever in their intervals its percentiles lie."""
    if "survival" in verdict.violated:
        # No estimate: the server crashed, again.
        return True
    speed = phase.confidence.output_speed_p25_tok_s if phase.confidence else None
    ttft = phase.confidence.ttft_p95_s if phase.confidence else None
    target_speed, target_ttft = tier.output_speed_p25_tok_s, tier.ttft_p95_s
    if verdict.verdict is Verdict.PASS:
        fast = speed is not None and speed.low is not None and speed.low >= target_speed
        early = ttft is not None and ttft.high is not None and ttft.high <= target_ttft
        return fast and early
    slow = speed is not None and speed.high is not None and speed.high < target_speed
    # A lower end that is infinite is late.
    late = ttft is not None and (ttft.low is None or ttft.low > target_ttft)
    return slow or late
