"""Run-to-run spread and what it asks of a gate."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.noise import (
    Metric,
    Slope,
    Spread,
    chi_square_quantile,
    slope_of,
    spread_of,
    tier_noise,
    tolerance_min,
)
from pytest_agentperf.core.slo import SloTier

TIER = SloTier(name="tier1", output_speed_p25_tok_s=20, ttft_p95_s=10)


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    # Of printed tables.
    [(0.05, 1, 0.00393), (0.05, 4, 0.71072), (0.05, 9, 3.32511), (0.95, 4, 9.48773), (0.5, 100, 99.33413)],
)
def test_quantiles_of_chi_square(share: float, freedom: int, value: float) -> None:
    assert chi_square_quantile(share, freedom) == pytest.approx(value, rel=1e-3)


def test_the_bound_of_the_deviation_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    trials = 2_000
    covered = sum(spread_of(list(rng.normal(100, 1, size=5))).deviation_max >= 0.01 for _ in range(trials))
    # Five standard errors of a binomial at 95 %.
    assert abs(covered / trials - 0.95) < 5 * math.sqrt(0.95 * 0.05 / trials)


def test_few_repeats_say_little() -> None:
    few, many = spread_of([99, 101]), spread_of([99, 101] * 10)
    assert few.deviation_max > 15 * few.deviation
    assert many.deviation_max < 1.5 * many.deviation


@given(st.floats(0.2, 5.0), st.booleans())
def test_a_slope_is_the_power_by_which_a_metric_worsens(power: float, rises: bool) -> None:
    spread = Spread(mean=30.0, deviation=0.001, deviation_max=0.002, repeats=5)
    elsewhere = 30.0 * 1.25 ** (power if rises else -power)
    slope = slope_of(spread, elsewhere, n_agents=100, n_elsewhere=125, rises=rises)
    assert slope.value == pytest.approx(power)
    assert 0 < slope.value - slope.low < 0.02
    # Seen from the other side it is the same.
    fewer = 30.0 * 0.8 ** (power if rises else -power)
    back = slope_of(spread, fewer, n_agents=100, n_elsewhere=80, rises=rises)
    assert back.value == pytest.approx(power)
    assert back.low < back.value


def test_a_tolerance_is_three_deviations_in_agents_and_an_agent_at_least() -> None:
    spread = Spread(30.0, 0.004, 0.01, 5)
    assert tolerance_min(spread, Slope(1.1, 1.0), n_agents=1_000) == pytest.approx(0.03)
    # Where agents cost little speed, the same spread is worth more agents.
    assert tolerance_min(spread, Slope(0.6, 0.5), n_agents=1_000) == pytest.approx(0.06)
    assert tolerance_min(spread, Slope(1.1, 1.0), n_agents=10) == pytest.approx(0.1)
    assert tolerance_min(spread, Slope(0.1, -0.01), n_agents=10) is None


@given(st.floats(1e-5, 0.2))
def test_a_tolerance_is_a_number_that_can_be_typed(deviation: float) -> None:
    found = tolerance_min(Spread(30.0, deviation, deviation, 5), Slope(1.0, 1.0), n_agents=1_000)
    assert found is not None
    assert float(f"{found * 100:.1f}") / 100 == pytest.approx(found, abs=1e-12)
    assert 0 <= found - max(3 * deviation, 0.001) < 0.001 + 1e-9 or found == pytest.approx(3 * deviation)


def test_the_metric_that_meets_its_target_first_binds() -> None:
    speed = Metric(Spread(22.0, 0.001, 0.002, 5), Slope(1.0, 0.95))
    ttft = Metric(Spread(1.0, 0.02, 0.05, 5), Slope(6.0, 5.0))
    found = tier_noise(TIER, speed=speed, ttft=ttft, n_agents=100)
    assert found is not None
    assert found.binding == "output_speed_p25"
    assert found.reach == pytest.approx(1.1)
    # TTFT is farther from its target, and yet reached with fewer agents.
    late = ttft._replace(spread=ttft.spread._replace(mean=8.0))
    found = tier_noise(TIER, speed=speed, ttft=late, n_agents=100)
    assert found is not None
    assert found.binding == "ttft_p95"
    assert found.tolerance == pytest.approx(0.03)
    flat = Metric(speed.spread, Slope(0.0, -0.01))
    assert tier_noise(TIER, speed=flat, ttft=Metric(ttft.spread, Slope(-1.0, -1.1)), n_agents=9) is None


def test_three_deviations_are_seldom_passed() -> None:
    """The reason for three: of a normal spread, one run of 700 and more lies farther below."""
    assert NormalDist().cdf(-3) < 1 / 700
