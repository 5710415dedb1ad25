from __future__ import annotations

import math
from itertools import pairwise

import pytest
from core_support import S, steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.energy import PowerReading, WindowEnergy, integrate


def watts(device: str, *points: tuple[float, float]) -> list[PowerReading]:
    return [PowerReading(round(t * S), device, power_w=w) for t, w in points]


def joules(device: str, *points: tuple[float, float]) -> list[PowerReading]:
    return [PowerReading(round(t * S), device, energy_j=e) for t, e in points]


def over(
    readings: list[PowerReading],
    open_s: float = 0,
    close_s: float = 10,
    *,
    devices: int = 1,
    coverage: float = 0.99,
    gap: float = 5,
) -> WindowEnergy:
    return integrate(
        readings,
        open_ns=round(open_s * S),
        close_ns=round(close_s * S),
        devices_expected=devices,
        coverage_min=coverage,
        gap_max_s=gap,
    )


def refused(found: WindowEnergy) -> str:
    """The reason; and nothing that could be taken for a number."""
    assert (found.energy_j, found.mean_power_w, found.method) == (None, None, None)
    assert found.invalid_reason
    return found.invalid_reason


# By hand


def test_sampled_power_is_the_area_under_the_line() -> None:
    # 100 W rising to 300 W over 4 s, then 300 W for 6 s: 800 J + 1,800 J.
    found = over(watts("0", (0, 100), (4, 300), (7, 300), (10, 300)))
    assert found == WindowEnergy(
        energy_j=2_600.0,
        mean_power_w=260.0,
        devices=1,
        coverage=1.0,
        method="sampled power",
        invalid_reason=None,
    )


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
    both = [PowerReading(t * S, "0", power_w=1e6, energy_j=100.0 * t) for t in (0, 5, 10)]
    assert (over(both).energy_j, over(both).method) == (1_000.0, "energy counter")


def test_a_lone_counter_reading_is_none() -> None:
    found = over([*joules("0", (5, 1)), *watts("0", (0, 10), (5, 10), (10, 10))])
    assert (found.energy_j, found.method) == (100.0, "sampled power")


def test_power_and_counter_of_one_moment_may_come_apart() -> None:
    readings = [*watts("0", (0, 1), (5, 1), (10, 1)), *joules("0", (0, 0), (5, 50), (10, 100))]
    assert over(readings).energy_j == 100.0


def test_two_readings_of_one_moment() -> None:
    assert over(watts("0", (0, 10), (5, 10), (5, 30), (10, 30))).energy_j == pytest.approx(50 + 150)


# What is missing is never zero


def test_a_gap_is_not_covered() -> None:
    reason = refused(over(watts("0", (0, 1), (2, 1), (8, 1), (10, 1))))
    assert reason == "readings cover 40.0% of the window, 99% are needed"
    assert over(watts("0", (0, 1), (2, 1), (8, 1), (10, 1))).coverage == pytest.approx(0.4)
    assert (
        over(watts("0", (0, 1), (2, 1), (7, 1), (10, 1))).coverage == 1.0
    )  # exactly the longest gap allowed
    assert "cover" in refused(over(joules("0", (0, 1), (2, 1), (8, 1), (10, 1))))


def test_only_the_part_of_a_gap_inside_the_window_counts() -> None:
    assert over(watts("0", (-8, 1), (1, 1), (5, 1), (9, 1), (99, 1)), coverage=0.5).coverage == pytest.approx(
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
    whole, half = watts("a", (0, 1), (5, 1), (10, 1)), watts("b", (0, 1), (5, 1))
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
    assert refused(found) == f"readings of {present} devices, the deployment has 2"
    assert found.devices == present


def test_an_empty_window() -> None:
    readings = watts("0", (0, 1), (10, 1))
    assert refused(over(readings, 5, 5)) == "the window is empty"
    assert refused(over(readings, 6, 5)) == "the window is empty"


@pytest.mark.parametrize(
    "readings", [watts("0", (5, 100)), joules("0", (5, 100)), [PowerReading(5, "0")] * 3]
)
def test_fewer_than_two_readings(readings: list[PowerReading]) -> None:
    assert "at least two are needed" in refused(over(readings))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_readings_that_are_no_numbers_are_missing(value: float) -> None:
    assert "at least two" in refused(over(watts("0", (0, value), (10, value))))
    assert "at least two" in refused(over(joules("0", (0, value), (10, value))))
    assert over(watts("0", (0, 10), (4, value), (5, 10), (10, 10))).energy_j == pytest.approx(100)


def test_a_counter_that_goes_backwards() -> None:
    readings = joules("gpu7", (0, 100), (5, 200), (6, 3), (10, 50))
    assert refused(over(readings)) == "device gpu7: its energy counter went backwards"


def test_a_counter_that_stands_still_has_used_nothing() -> None:
    assert over(joules("0", (0, 100), (5, 100), (10, 100))).energy_j == 0.0


# Properties

times = st.lists(st.integers(-20 * S, 120 * S), min_size=2, max_size=20, unique=True).map(sorted)
cuts = st.lists(st.integers(0, 100 * S), min_size=2, max_size=6, unique=True).map(sorted)


def exactly(readings: list[PowerReading], open_ns: int, close_ns: int) -> float:
    found = integrate(
        readings,
        open_ns=open_ns,
        close_ns=close_ns,
        devices_expected=1,
        coverage_min=0.99,
        gap_max_s=1_000,
    )
    assert found.energy_j is not None, found.invalid_reason
    return found.energy_j


@steady
@given(times, cuts, st.floats(0, 2_000), st.booleans())
def test_constant_power_gives_power_times_time(
    at: list[int], cut: list[int], power_w: float, counter: bool
) -> None:
    at = sorted({-S, *at, 101 * S})
    readings = [
        PowerReading(t, "0", energy_j=7 + power_w * (t + 20 * S) / S)
        if counter
        else PowerReading(t, "0", power_w=power_w)
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
    values = data.draw(st.lists(st.floats(0, 1_000), min_size=len(at), max_size=len(at)))
    if counter:
        readings = [PowerReading(t, "0", energy_j=e) for t, e in zip(at, sorted(values), strict=True)]
    else:
        readings = [PowerReading(t, "0", power_w=w) for t, w in zip(at, values, strict=True)]
    parts = sum(exactly(readings, a, b) for a, b in pairwise(cut))
    assert exactly(readings, cut[0], cut[-1]) == pytest.approx(parts, rel=1e-6, abs=1e-4)
