"""Two results held against each other: what may be, how their capacities relate, and their metrics at equal load."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.capacity_estimate import (
    TARGETS,
    CapacityEstimate,
    capacity_estimate,
    is_near,
    judged_probes,
    metric,
    probe_error,
)
from pytest_agentperf.core.search import CapacityInterval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.core.leaderboard import Entry, TierResult


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ratio(_Model):
    """The other result divided by the base; bounds are None where nothing is known of them."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def change(self) -> Literal["more", "less", "no change shown", "not known"]:
        """Return what is certain of it."""
        if self.low is not None and self.low > 1:
            return "more"
        if self.high is not None and self.high < 1:
            return "less"
        return "not known" if self.low is None or self.high is None else "no change shown"


class EqualLoad(_Model):
    """Metrics of two probes at the same number of agents, the other's divided by the base's; None if one is unknown.

    Bounds are those of two single probes, from the scatter of all near the capacity.
    """

    n_agents: int
    output_speed_p25: Ratio | None
    ttft_p95: Ratio | None
    throughput: Ratio | None
    power: Ratio | None


class TierComparison(_Model):
    """One tier of two systems."""

    tier: str
    base_agents: int | None
    other_agents: int | None
    refused: tuple[str, ...]
    """Why these do not compare at all; then there is nothing else."""
    published: Ratio | None = None
    """Of the numbers that the searches state, each of them one draw; without bounds."""
    capacity: Ratio | None = None
    """Of the capacities, by the curve through each search's probes."""
    per_accelerator: Ratio | None = None
    per_mw: Ratio | None = None
    base_estimate: CapacityEstimate | None = None
    other_estimate: CapacityEstimate | None = None
    no_estimate: tuple[str, ...] = ()
    """Why a capacity has none."""
    base_interval: CapacityInterval | None = None
    other_interval: CapacityInterval | None = None
    """As the results state them; `capacity` does not rest on what probes bracket."""
    equal_load: tuple[EqualLoad, ...] = ()


def weaknesses(base: Entry, other: Entry, *, common: bool = True) -> list[str]:
    """Return what makes a comparison of two entries weak, though not meaningless.

    `common`: also what keeps both alike from being compared with official results.
    """
    found = []
    if base.ruleset.id != other.ruleset.id:
        found.append(f"rulesets differ: {base.ruleset.id} and {other.ruleset.id}")
    elif base.ruleset != other.ruleset:
        rules = [
            name for name, value in base.ruleset.model_dump().items() if value != getattr(other.ruleset, name)
        ]
        found.append(f"rules were changed: {', '.join(rules)}")
    if base.simulated != other.simulated:
        found.append("one was measured, the other simulated: a model's figures prove nothing of hardware")
    for name, entry in (("base", base), ("other", other)):
        found += [f"the {name} is invalid: {reason}" for reason in entry.valid.reasons]
        found += [f"the {name} is incomplete: {reason}" for reason in entry.complete.reasons]
    shared = [reason for reason in base.comparable.reasons if reason in other.comparable.reasons]
    if common:
        found += [f"neither is comparable: {reason}" for reason in shared]
    for name, entry in (("base", base), ("other", other)):
        own = [reason for reason in entry.comparable.reasons if reason not in shared]
        found += [f"the {name} is not comparable: {reason}" for reason in own]
    if base.digests.software != other.digests.software:
        found.append("other versions of this package measured them")
    return found


def compare_tiers(base: Entry, other: Entry) -> Iterator[TierComparison]:
    """Yield a comparison for each tier that both have."""
    known = {tier.tier.name: tier for tier in base.tiers}
    workload = _workload(base, other)
    for tier in other.tiers:
        mine = known.get(tier.tier.name)
        if mine is None:
            continue
        refused = list(workload)
        if mine.tier != tier.tier:
            refused.append(f"targets differ: {mine.tier} and {tier.tier}")
        if refused:
            yield TierComparison(
                tier=tier.tier.name,
                base_agents=mine.agents,
                other_agents=tier.agents,
                refused=tuple(refused),
            )
        else:
            yield _tier(base, mine, other, tier)


def _workload(base: Entry, other: Entry) -> list[str]:
    """Return in what the work differs that both were given."""
    found = [
        ("suites", base.suite["name"], other.suite["name"]),
        ("editions", base.edition, other.edition),
        ("datasets", base.dataset.digest, other.dataset.digest),
        ("max_tokens", base.ruleset.max_tokens, other.ruleset.max_tokens),
        ("output lengths", base.output_length, other.output_length),
    ]
    # Of both the same file, but cut or composed differently.
    found += [
        (name, base.suite.get(name), other.suite.get(name))
        for name in ("max_context_tokens", "history_reasoning")
    ]
    return [f"{name} differ: {a} and {b}" for name, a, b in found if a != b]


def _tier(base: Entry, mine: TierResult, other: Entry, tier: TierResult) -> TierComparison:
    first, why_first = capacity_estimate(mine, base.phases)
    second, why_second = capacity_estimate(tier, other.phases)
    capacity = None if first is None or second is None else _of_capacities(first, second)
    published = Ratio(value=tier.agents / mine.agents) if mine.agents and tier.agents else None
    return TierComparison(
        tier=tier.tier.name,
        base_agents=mine.agents,
        other_agents=tier.agents,
        refused=(),
        published=published,
        capacity=capacity,
        per_accelerator=_scaled(capacity or published, mine.accelerators / tier.accelerators),
        per_mw=_per_mw(capacity or published, mine, tier),
        base_estimate=first,
        other_estimate=second,
        no_estimate=tuple(
            f"{name}: {why}" for name, why in (("base", why_first), ("other", why_second)) if why
        ),
        equal_load=tuple(_equal_loads(base, mine, other, tier)),
        base_interval=mine.interval,
        other_interval=tier.interval,
    )


def _of_capacities(base: CapacityEstimate, other: CapacityEstimate) -> Ratio:
    """Return the ratio with bounds from both intervals, whose distances add up as squares: they are independent."""
    value = other.agents / base.agents
    return Ratio(
        value=value,
        low=_bound(value, -1, (other.agents, other.low), (base.agents, base.high)),
        high=_bound(value, 1, (other.agents, other.high), (base.agents, base.low)),
    )


def _bound(value: float, sign: int, *ends: tuple[float, float | None]) -> float | None:
    total = 0.0
    for at, end in ends:
        if not end:
            return None
        total += math.log(end / at) ** 2
    return value * math.exp(sign * math.sqrt(total))


def _scaled(ratio: Ratio | None, factor: float, uncertainty: float = 0.0) -> Ratio | None:
    if ratio is None:
        return None
    return Ratio(
        value=ratio.value * factor,
        low=None if ratio.low is None else ratio.low * factor / (1 + uncertainty),
        high=None if ratio.high is None else ratio.high * factor * (1 + uncertainty),
    )


def _per_mw(ratio: Ratio | None, base: TierResult, other: TierResult) -> Ratio | None:
    """Return the ratio per power of the published phases: near the limit power hardly depends on the agents."""
    if base.energy is None or other.energy is None:
        return None
    first, second = base.energy.mean_power_w, other.energy.mean_power_w
    if not first or not second:
        return None
    return _scaled(ratio, first / second, (base.energy.uncertainty or 0) + (other.energy.uncertainty or 0))


def _equal_loads(base: Entry, mine: TierResult, other: Entry, tier: TierResult) -> Iterator[EqualLoad]:
    # Of several probes at one number, the last: a confirmation.
    first = {phase.n_agents: phase for phase in judged_probes(mine, base.phases)}
    second = {phase.n_agents: phase for phase in judged_probes(tier, other.phases)}
    errors = {
        target: _both(probe_error(mine, base.phases, target), probe_error(tier, other.phases, target))
        for target in TARGETS
    }
    for n in sorted(first.keys() & second.keys()):
        near = is_near(mine, n) and is_near(tier, n)
        speed, ttft = (
            _bounded(
                _plain(metric(first[n], target)[0], metric(second[n], target)[0]),
                errors[target] if near else None,
            )
            for target in TARGETS
        )
        before, after = first[n].metrics, second[n].metrics
        yield EqualLoad(
            n_agents=n,
            output_speed_p25=speed,
            ttft_p95=ttft,
            throughput=_plain(
                before.throughput_tok_s if before else None, after.throughput_tok_s if after else None
            ),
            power=_plain(first[n].energy.mean_power_w, second[n].energy.mean_power_w),
        )


def _both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else math.hypot(first, second)


def _plain(base: float | None, other: float | None) -> Ratio | None:
    return Ratio(value=other / base) if base and other else None


def _bounded(ratio: Ratio | None, error: float | None) -> Ratio | None:
    if ratio is None or error is None:
        return ratio
    return Ratio(value=ratio.value, low=ratio.value * math.exp(-error), high=ratio.value * math.exp(error))
