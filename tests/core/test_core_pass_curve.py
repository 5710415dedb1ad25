"""The oracle's statistics: probabilities that never rise, where they cross one half, and how sure that is."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.pass_curve import decreasing_fit, pass_curve


def test_a_sharp_edge_lies_between_its_two_sides() -> None:
    found = pass_curve({n: [n <= 8] * 10 for n in range(5, 12)})
    assert (found.all_pass_up_to, found.none_pass_from, found.at_least) == (8, 9, False)
    assert (found.crossing, found.capacity) == (8.5, 8)
    assert (found.low, found.high) == (8.0, 9.0)
    assert [point.probability for point in found.points] == [1, 1, 1, 1, 0, 0, 0]


def test_coarse_numbers_leave_more_doubt() -> None:
    found = pass_curve({n: [n <= 800] * 10 for n in (700, 800, 900)})
    assert found.crossing == 850
    assert (found.low, found.high) == (800, 900)


def test_seeds_that_differ_widen_the_interval() -> None:
    steady = {n: [n <= 100] * 20 for n in range(80, 121)}
    shaky = {n: [n <= 90 + seed for seed in range(20)] for n in range(80, 121)}
    sure, unsure = pass_curve(steady), pass_curve(shaky)
    assert unsure.crossing == pytest.approx(99.5, abs=1)
    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)
    assert (unsure.all_pass_up_to, unsure.none_pass_from) == (90, 110)


def test_the_interval_covers_the_truth() -> None:
    # Every seed has an edge of its own about 100: its median is what the curve looks for.
    generator = random.Random(1)
    covered = 0
    for _ in range(40):
        edges = [generator.gauss(100, 4) for _ in range(15)]
        found = pass_curve({n: [n <= edge for edge in edges] for n in range(85, 116, 2)})
        covered += found.low <= 100 <= found.high
    assert covered >= 34


def test_nothing_passes_or_everything_does() -> None:
    none = pass_curve({n: [False] * 3 for n in (1, 2, 3)})
    assert (none.crossing, none.capacity, none.all_pass_up_to, none.none_pass_from) == (0, 0, 0, 1)
    all_ = pass_curve({n: [True] * 3 for n in (1, 2, 3)})
    assert (all_.capacity, all_.at_least, all_.all_pass_up_to, all_.none_pass_from) == (3, True, 3, 4)


def test_what_has_no_verdict_is_left_out_and_never_counted_as_a_failure() -> None:
    found = pass_curve({1: [True, None, True], 2: [False, False, None]})
    assert [(point.passes, point.trials) for point in found.points] == [(2, 2), (0, 2)]
    with pytest.raises(ValueError, match="2 agents have no verdict"):
        pass_curve({1: [True], 2: [None]})
    with pytest.raises(ValueError, match="no number of agents"):
        pass_curve({})


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda t: (min(t), t[1])), min_size=1))
def test_the_fit_never_rises_and_keeps_all_passes(counts: list[tuple[int, int]]) -> None:
    fitted = decreasing_fit(counts)
    assert len(fitted) == len(counts)
    assert all(a >= b - 1e-12 for a, b in pairwise(fitted))
    expected = sum(p * trials for p, (_, trials) in zip(fitted, counts, strict=True))
    assert expected == pytest.approx(sum(passes for passes, _ in counts))
    rising = all(a[0] * b[1] >= b[0] * a[1] for a, b in pairwise(counts))
    if rising:
        assert fitted == pytest.approx([passes / trials for passes, trials in counts])
