"""How much runs of the same phase differ, and the smallest tolerance that a gate may have on such a system.

A gate fails a change that moves the binding metric across its target. What moves it between two runs of the same
software must not: the tolerance, in agents, is worth at least three standard deviations of that metric. With few runs
their own spread says little of it, so the upper confidence bound of the standard deviation is taken; and how many
agents a change of the metric is worth is measured at a second number of agents, not assumed.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.slo import SloTier

LEVEL = 0.95
"""Of the upper bound of the standard deviation."""
DEVIATIONS = 3.0
_STEPS = 1_000


class Spread(NamedTuple):
    """Standard deviations as shares of the mean."""

    mean: float
    deviation: float
    deviation_max: float
    """Its upper confidence bound, were the metric normally distributed."""
    repeats: int


class Slope(NamedTuple):
    """By how many percent a metric worsens when agents grow by one percent."""

    value: float
    low: float
    """Less its standard error: what is a shallow slope makes the tolerance large."""


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of at least two positive values."""
    mean, n = fmean(values), len(values)
    deviation = stdev(values) / mean
    return Spread(mean, deviation, deviation * math.sqrt((n - 1) / chi_square_quantile(1 - LEVEL, n - 1)), n)


def slope_of(spread: Spread, elsewhere: float, *, n_agents: int, n_elsewhere: int, rises: bool) -> Slope:
    """Return the slope between two numbers of agents; `rises`: whether larger values are worse."""
    distance = math.log(n_elsewhere / n_agents)
    value = math.log(elsewhere / spread.mean) / distance * (1 if rises else -1)
    error = spread.deviation_max * math.sqrt(1 + 1 / spread.repeats) / abs(distance)
    return Slope(value, value - error)


class Metric(NamedTuple):
    """One of the two judged percentiles: its spread, and what agents do to it."""

    spread: Spread
    slope: Slope


class Answer(NamedTuple):
    """What a tier's gate needs."""

    binding: str
    """The metric that meets its target first as agents grow."""
    reach: float
    """By what factor agents can grow until it does."""
    tolerance: float | None
    """The smallest one, as a share of agents; None where the slope is lost in the noise."""


def tier_noise(tier: SloTier, *, speed: Metric, ttft: Metric, n_agents: int) -> Answer | None:
    """Return the smallest tolerance of a tier; None if neither metric worsens with agents."""
    found = []
    for name, metric, headroom in (
        ("output_speed_p25", speed, math.log(speed.spread.mean / tier.output_speed_p25_tok_s)),
        ("ttft_p95", ttft, math.log(tier.ttft_p95_s / ttft.spread.mean)),
    ):
        if metric.slope.value > 0:
            # A flat metric that is far from its target may be as far as any number.
            reach = math.exp(min(20.0, headroom / metric.slope.value))
            found.append(Answer(name, reach, tolerance_min(*metric, n_agents=n_agents)))
    return min(found, key=lambda answer: answer.reach, default=None)


def tolerance_min(spread: Spread, slope: Slope, *, n_agents: int) -> float | None:
    """Return the smallest tolerance, as a share of agents; None where the slope is lost in the noise.

    Never below one agent: they are whole.
    """
    if slope.low <= 0:
        return None
    needed = max(DEVIATIONS * spread.deviation_max / slope.low, 1 / n_agents)
    return math.ceil(round(needed * _STEPS, 6)) / _STEPS


def chi_square_quantile(share: float, freedom: int) -> float:
    """Return the value below which a chi-square variable lies with probability `share`."""
    low, high = 0.0, freedom + 20 * math.sqrt(2 * freedom) + 20
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _chi_square_cdf(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _chi_square_cdf(value: float, freedom: int) -> float:
    """Return the regularised lower incomplete gamma function, by its series."""
    a, x = freedom / 2, value / 2
    if x <= 0:
        return 0.0
    term = total = 1 / a
    n = 1
    while term > total * 1e-15:
        term *= x / (a + n)
        total += term
        n += 1
    return total * math.exp(a * math.log(x) - x - math.lgamma(a))
