"""Minima of known functions, inside the box and at its edge."""

from __future__ import annotations

import pytest

from pytest_agentperf.core.minimise import minimise


def test_a_curved_valley_in_two_dimensions() -> None:
    def valley(p: tuple[float, ...]) -> float:
        return (p[0] - 0.62) ** 2 + 30 * (p[1] - p[0] ** 2) ** 2

    found = minimise(valley, (0.1, 0.9), evaluations=300)
    assert found.point == pytest.approx((0.62, 0.3844), abs=0.01)
    assert found.converged
    assert found.evaluations < 150


def test_one_dimension_with_a_kink() -> None:
    found = minimise(lambda p: abs(p[0] - 0.303), (0.9,), evaluations=100)
    assert found.point[0] == pytest.approx(0.303, abs=0.004)


def test_what_lies_beyond_the_box_ends_at_its_edge() -> None:
    found = minimise(lambda p: (p[0] - 2) ** 2 + (p[1] - 0.5) ** 2, (0.5, 0.2), evaluations=200)
    assert found.point == pytest.approx((1.0, 0.5), abs=0.01)


def test_it_stops_when_evaluations_are_used_up_and_says_so() -> None:
    calls: list[tuple[float, ...]] = []

    def count(point: tuple[float, ...]) -> float:
        calls.append(point)
        return sum((x - 0.4) ** 2 for x in point)

    found = minimise(count, (0.9, 0.9, 0.9), evaluations=12)
    assert not found.converged
    assert found.evaluations == len(calls)
    assert 12 <= len(calls) <= 12 + 4
    assert found.value == min(sum((x - 0.4) ** 2 for x in point) for point in calls)
