from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from core_support import S, steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.energy import WindowEnergy, integrate
from pytest_agentperf.core.power import PowerProblem, Scope
from pytest_agentperf.core.power_series import PowerSeries, PowerSeriesBuilder
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06

RULES = AA_AGENTPERF_2026_06.model_copy(
    update={"power_gap_max_s": 5.0, "power_uncertainty_max": math.inf, "power_cross_check_max": 0.05}
)


class Reading(NamedTuple):
    t_ns: int
    device: str
    power_w: float | None = None
    energy_j: float | None = None


def watts(device: str, *points: tuple[float, float]) -> list[Reading]:
    return [Reading(round(t * S), device, power_w=w) for t, w in points]


def joules(device: str, *points: tuple[float, float]) -> list[Reading]:
    return [Reading(round(t * S), device, energy_j=e) for t, e in points]


def series(readings: list[Reading], *problems: PowerProblem) -> PowerSeries:
    builder = PowerSeriesBuilder()
    for reading in readings:
        builder.add(reading.t_ns, reading.device, power_w=reading.power_w, energy_j=reading.energy_j)
    return builder.build(problems=problems)


def over(
    readings: list[Reading],
    open_s: float = 0,
    close_s: float = 10,
    *problems: PowerProblem,
    devices: int = 1,
    coverage: float = 0.99,
    update_s: float = 0.0,
    scope: Scope = "gpu+hbm",
    **rules: Any,
) -> WindowEnergy:
    return integrate(
        series(readings, *problems),
        open_ns=round(open_s * S),
        close_ns=round(close_s * S),
        devices_expected=devices,
        update_period_s=update_s,
        rules=RULES.model_copy(update={"power_coverage_min": coverage, **rules}),
        scope=scope,
    )


def refused(found: WindowEnergy) -> str:
    """The reason; and nothing that could be taken for a number."""
    assert (found.energy_j, found.mean_power_w, found.peak_power_w, found.method) == (None, None, None, None)
    assert found.per_device_j == {}
    assert found.invalid_reason
    assert found.invalid_code
    return found.invalid_reason


# By hand


def test_sampled_power_is_the_area_under_the_line() -> None:
    # 100 W rising to 300 W over 4 s, then 300 W for 6 s: 800 J + 1,800 J.
    found = over(watts("0", (0, 100), (4, 300), (7, 300), (10, 300)))
    assert (found.energy_j, found.mean_power_w, found.devices) == (2_600.0, 260.0, 1)
    assert (found.coverage, found.method, found.per_device_j) == (1.0, "sampled power", {"0": 2_600.0})
    assert (found.invalid_code, found.invalid_reason, found.cross_check) == (None, None, None)


def test_a_counter_is_a_difference() -> None:
    found = over(joules("0", (0, 5_000), (5, 6_000), (10, 7_500)))
    assert (found.energy_j, found.mean_power_w, found.method) == (2_500.0, 250.0, "energy counter")


def test_sampled_power_is_interpolated_at_both_ends() -> None:
    # 0 W at −2 s to 400 W at 2 s, then down to 0 W at 4 s: at 0 s 200 W, at 3 s 200 W.
    found = over(watts("0", (-2, 0), (2, 400), (4, 0)), 0, 3)
    assert found.energy_j == pytest.approx(2 * 300 + 1 * 300)
    assert found.coverage == 1.0


def test_a_counter_is_interpolated_at_both_ends() -> None:
    # 100 W until 4 s, 50 W after.
    found = over(joules("0", (-2, 0), (2, 400), (4, 600), (8, 800)), 1, 6)
    assert found.energy_j == pytest.approx(3 * 100 + 2 * 50)


def test_readings_far_outside_the_window_do_not_matter() -> None:
    found = over(watts("0", (-60, 9e9), (0, 100), (5, 100), (10, 100), (60, 9e9)))
    assert found.energy_j == pytest.approx(1_000)
    assert found.coverage == 1.0


def test_a_window_between_two_readings() -> None:
    assert over(watts("0", (-1, 100), (3, 300)), 0, 2).energy_j == pytest.approx(2 * 200)
    assert over(joules("0", (-1, 100), (3, 500)), 0, 2).energy_j == pytest.approx(200)


def test_devices_add_up_and_readings_come_in_any_order() -> None:
    readings = [*watts("1", (0, 100), (5, 100), (10, 100)), *joules("0", (10, 3_000), (5, 2_000), (0, 1_000))]
    found = over(list(reversed(readings)), devices=2)
    assert (found.energy_j, found.mean_power_w, found.devices) == (3_000.0, 300.0, 2)
    assert found.method == "energy counter, sampled power"


def test_counters_are_preferred() -> None:
    both = [Reading(t * S, "0", power_w=102, energy_j=100.0 * t) for t in (0, 5, 10)]
    assert (over(both).energy_j, over(both).method) == (1_000.0, "energy counter")
    assert over(both).cross_check == pytest.approx(0.02)


def test_a_lone_counter_reading_is_none() -> None:
    found = over([*joules("0", (5, 1)), *watts("0", (0, 10), (5, 10), (10, 10))])
    assert (found.energy_j, found.method) == (100.0, "sampled power")


def test_power_and_counter_of_one_moment_may_come_apart() -> None:
    readings = [*watts("0", (0, 10), (5, 10), (10, 10)), *joules("0", (0, 0), (5, 50), (10, 100))]
    assert over(readings).energy_j == 100.0


def test_two_readings_of_one_moment() -> None:
    assert over(watts("0", (0, 10), (5, 10), (5, 30), (10, 30))).energy_j == pytest.approx(50 + 150)


# What is missing is never zero


def test_a_gap_is_not_covered() -> None:
    reason = refused(over(watts("0", (0, 9), (2, 9), (8, 9), (10, 9))))
    assert reason == "device 0: readings cover 40.0% of the window, 99% are needed"
    assert over(watts("0", (0, 9), (2, 9), (8, 9), (10, 9))).coverage == pytest.approx(0.4)
    assert (
        over(watts("0", (0, 9), (2, 9), (7, 9), (10, 9))).coverage == 1.0
    )  # exactly the longest gap allowed
    assert "cover" in refused(over(joules("0", (0, 0), (2, 20), (8, 80), (10, 100))))


def test_only_the_part_of_a_gap_inside_the_window_counts() -> None:
    assert over(watts("0", (-8, 9), (1, 9), (5, 9), (9, 9), (99, 9)), coverage=0.5).coverage == pytest.approx(
        0.8
    )


def test_the_ends_without_readings_are_not_covered() -> None:
    found = over(watts("0", (1, 100), (5, 100), (7, 100)), coverage=0.6)
    assert found.coverage == pytest.approx(0.6)
    # The nearest reading holds there: not nothing.
    assert found.energy_j == pytest.approx(1_000)
    assert "60.0%" in refused(over(watts("0", (1, 100), (5, 100), (7, 100)), coverage=0.61))


def test_a_counters_ends_without_readings_take_as_much_as_the_rest() -> None:
    """Otherwise the uncovered share would count as 0 W, and flatter the agents per megawatt."""
    found = over(joules("0", (1, 500), (5, 900), (7, 1_100)), coverage=0.6)
    assert found.coverage == pytest.approx(0.6)
    assert found.mean_power_w == pytest.approx(100)
    assert found.energy_j == pytest.approx(1_000)


def test_the_least_covered_device_decides() -> None:
    whole, half = watts("a", (0, 9), (5, 9), (10, 9)), watts("b", (0, 9), (5, 9))
    found = over([*whole, *half], devices=2, coverage=0.6)
    assert found.coverage == pytest.approx(0.5)
    assert "50.0%" in refused(found)


@pytest.mark.parametrize("read", [watts, joules])
@pytest.mark.parametrize("times", [(-9, -5), (15, 19), (-5, 0), (10, 12)])
def test_readings_beside_the_window_only_cover_nothing(read: object, times: tuple[float, float]) -> None:
    assert callable(read)
    refused(over(read("0", *((t, 5.0) for t in times)), coverage=0.01))


@pytest.mark.parametrize("present", [0, 1, 3])
def test_every_accelerator_must_be_there(present: int) -> None:
    readings = [r for i in range(present) for r in watts(str(i), (0, 1), (5, 1), (10, 1))]
    found = over(readings, devices=2)
    assert refused(found) == (
        f"readings of {present} devices, the deployment has 2" if present else "no readings"
    )
    assert found.devices == present


def test_an_empty_window() -> None:
    readings = watts("0", (0, 1), (10, 1))
    assert refused(over(readings, 5, 5)) == "the window is empty"
    assert refused(over(readings, 6, 5)) == "the window is empty"


@pytest.mark.parametrize("readings", [watts("0", (5, 100)), joules("0", (5, 100)), [Reading(5, "0")] * 3])
def test_fewer_than_two_readings(readings: list[Reading]) -> None:
    assert "at least two are needed" in refused(over(readings))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_readings_that_are_no_numbers_are_missing(value: float) -> None:
    assert "at least two" in refused(over(watts("0", (0, value), (10, value))))
    assert "at least two" in refused(over(joules("0", (0, value), (10, value))))
    assert over(watts("0", (0, 10), (4, value), (5, 10), (10, 10))).energy_j == pytest.approx(100)


@pytest.mark.parametrize("after", [3, 150, 199])
def test_a_counter_that_goes_backwards(after: float) -> None:
    found = over(joules("gpu7", (0, 100), (5, 200), (6, after), (10, 250)))
    assert refused(found).startswith("device gpu7: its energy counter went backwards")
    assert found.invalid_code == "counter_backwards"


@pytest.mark.parametrize("end_j", [2**32 / 1e3, 2**32 / 1e6, 2.0**32])
def test_a_32_bit_counter_that_begins_again(end_j: float) -> None:
    """Two steps before its end, two after."""
    step = min(end_j / 100, 3_000)
    readings = joules("0", (0, end_j - 2 * step), (4, end_j - step), (12, step), (16, 2 * step))
    found = over(readings, 0, 16, power_gap_max_s=9.0)
    assert found.energy_j == pytest.approx(4 * step, rel=1e-4)


def test_a_counter_that_stands_still_is_stuck_not_free() -> None:
    found = over(joules("0", (-1, 100), (0, 200), (5, 200), (10, 200)), power_gap_max_s=4.0)
    assert "stood still for 10.0 s" in refused(found)
    assert found.invalid_code == "stuck"


def test_a_counter_may_stand_still_between_its_updates() -> None:
    found = over(joules("0", *((t / 2, 100.0 * (t // 2)) for t in range(-4, 25))), update_s=1.0)
    assert found.energy_j == pytest.approx(1_000)


def test_power_that_never_moves_is_stuck() -> None:
    same = watts("0", *((t, 250.0) for t in range(100)))
    found = over(same, 0, 90)
    assert "exactly 250 W at all 91 readings" in refused(found)
    assert found.invalid_code == "stuck"
    moving = watts("0", *((t, 250.0 + t % 2) for t in range(100)))
    assert over(moving, 0, 90).invalid_code is None
    # Too short to tell.
    assert over(same, 0, 50).invalid_code is None


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e6])
def test_a_unit_off_by_a_thousand(factor: float) -> None:
    found = over(
        [Reading(t * S, "0", power_w=500 * factor, energy_j=500.0 * t) for t in range(-1, 12)], update_s=0.1
    )
    assert refused(found).startswith("device 0: sampled power gives")
    assert found.invalid_code == "units"


@pytest.mark.parametrize("power_w", [0.001, 0.7, 5e5, 700e3])
def test_what_no_accelerator_draws(power_w: float) -> None:
    found = over(watts("0", (0, power_w), (5, power_w), (10, power_w)))
    assert found.invalid_code == "units"
    refused(found)
    counted = over(joules("0", *((t, 100 + power_w * t) for t in (0, 5, 10))))
    assert counted.invalid_code == "units"
    refused(counted)


def test_a_rack_draws_more_than_an_accelerator() -> None:
    rack = watts("0", *((t, 132_000.0 + t % 2) for t in range(11)))
    assert over(rack, scope="rack").mean_power_w == pytest.approx(132_000.5)
    assert over(rack).invalid_code == "units"


def test_few_samples_of_a_restless_load_do_not_contradict_its_counter() -> None:
    """300 W on average; the samples met more of its high than of its low halves."""
    high = (0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1)
    readings = [
        Reading(t * S, "0", power_w=500.0 if h else 100.0, energy_j=300.0 * t) for t, h in enumerate(high)
    ]
    found = over(readings, 1, 11)
    assert (found.invalid_code, found.energy_j) == (None, 3_000.0)
    assert found.cross_check is not None
    assert found.cross_check > 0.1


def test_counter_and_power_that_disagree() -> None:
    readings = [Reading(t * S, "0", power_w=540, energy_j=500.0 * t) for t in range(-1, 12)]
    found = over(readings)
    assert refused(found) == "device 0: sampled power is +8.0% off its energy counter"
    assert found.invalid_code == "cross_check"
    assert over(readings, power_cross_check_max=0.1).cross_check == pytest.approx(0.08)


def test_a_window_too_short_for_the_source() -> None:
    """Values that change every second say little about 10 s, enough about 200 s."""
    readings = watts("0", *((t, 400.0 + 10 * (t % 3)) for t in range(-2, 210)))
    found = over(readings, 0, 10, update_s=1.0, power_uncertainty_max=0.01)
    assert "leave 11." in refused(found)
    assert found.invalid_code == "window_too_short"
    long = over(readings, 0, 200, update_s=1.0, power_uncertainty_max=0.01)
    assert long.uncertainty is not None
    assert 1 / 200 < long.uncertainty < 0.01


def test_the_uncertainty_bounds_the_error_of_a_stale_counter() -> None:
    """A counter that is up to a second old, read at every phase: its error stays within what is stated."""
    for phase in np.linspace(0, 1, 21):
        readings = joules("0", *((t / 10, 300.0 * math.floor(t / 10 + phase)) for t in range(-30, 450)))
        found = over(readings, 0.37, 40.21, update_s=1.0)
        assert found.energy_j is not None
        assert found.uncertainty is not None
        truth = 300 * (40.21 - 0.37)
        assert abs(found.energy_j - truth) <= found.uncertainty * found.energy_j


def test_the_peak_is_of_all_devices_together() -> None:
    high_first = watts("a", *((t, 900.0 if t < 5 else 100.0) for t in range(-1, 12)))
    high_last = watts("b", *((t, 100.0 if t < 5 else 900.0) for t in range(-1, 12)))
    found = over([*high_first, *high_last], devices=2)
    assert found.peak_power_w == pytest.approx(1_000)
    assert over(high_first).peak_power_w == pytest.approx(900)


def test_what_the_sampler_saw_explains_what_is_missing() -> None:
    dead = PowerProblem("unreachable", "n2/0", "node2 did not answer from 12:00:03 on: start its exporter")
    readings = [
        *watts("n1/0", *((t, 50.0 + t % 2) for t in range(12))),
        *watts("n2/0", (0, 50), (1, 51), (2, 50)),
    ]
    found = over(readings, 0, 10, dead, devices=2)
    assert found.invalid_code == "unreachable"
    assert "node2 did not answer" in refused(found)
    fewer = over(watts("n1/0", *((t, 50.0 + t % 2) for t in range(12))), 0, 10, dead, devices=2)
    assert refused(fewer) == f"readings of 1 devices, the deployment has 2: {dead.text}"
    assert fewer.invalid_code == "too_few_devices"
    none = over([], 0, 10, dead)
    assert (none.invalid_code, refused(none)) == ("unreachable", dead.text)
    # A problem that cost nothing is told, and no more.
    fine = over(watts("n1/0", *((t, 50.0 + t % 2) for t in range(12))), 0, 10, dead)
    assert (fine.invalid_code, fine.problems) == (None, (dead.text,))


# Properties

times = st.lists(st.integers(-20 * S, 120 * S), min_size=2, max_size=20, unique=True).map(sorted)
cuts = st.lists(st.integers(0, 100 * S), min_size=2, max_size=6, unique=True).map(sorted)


def exactly(readings: list[Reading], open_ns: int, close_ns: int) -> float:
    found = over(readings, open_ns / S, close_ns / S, power_gap_max_s=1_000)
    assert found.energy_j is not None, found.invalid_reason
    return found.energy_j


@steady
@given(times, cuts, st.floats(5, 2_000), st.booleans())
def test_constant_power_gives_power_times_time(
    at: list[int], cut: list[int], power_w: float, counter: bool
) -> None:
    at = sorted({-S, *at, 101 * S})
    readings = [
        Reading(t, "0", energy_j=7 + power_w * (t + 20 * S) / S)
        if counter
        else Reading(t, "0", power_w=power_w)
        for t in at
    ]
    seconds = (cut[-1] - cut[0]) / S
    assert exactly(readings, cut[0], cut[-1]) == pytest.approx(power_w * seconds, rel=1e-6, abs=1e-4)


@steady
@given(times, cuts, st.data(), st.booleans())
def test_the_parts_of_a_window_add_up(
    at: list[int], cut: list[int], data: st.DataObject, counter: bool
) -> None:
    at = sorted({-S, *at, 101 * S})
    values = data.draw(st.lists(st.floats(5, 1_000), min_size=len(at), max_size=len(at)))
    if counter:
        # Power between readings is drawn; the counter is what it adds up to.
        steps = [w * (b - a) / S for w, (a, b) in zip(values, pairwise(at), strict=False)]
        readings = [Reading(t, "0", energy_j=7 + sum(steps[:k])) for k, t in enumerate(at)]
    else:
        readings = [Reading(t, "0", power_w=w) for t, w in zip(at, values, strict=True)]
    parts = sum(exactly(readings, a, b) for a, b in pairwise(cut))
    assert exactly(readings, cut[0], cut[-1]) == pytest.approx(parts, rel=1e-6, abs=1e-4)
