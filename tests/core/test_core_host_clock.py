from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.host_clock import Exchange, HostClock

NS = st.integers(0, 10**12)


def test_our_own_clock_is_the_one_that_all_times_are_in() -> None:
    clock = HostClock()
    assert (clock.to_host(5), clock.to_ours(np.array([5])).tolist(), clock.bound_ns) == (5, [5], 0)


@given(st.integers(-(10**15), 10**15), st.lists(st.tuples(NS, NS, NS), min_size=1, max_size=8))
def test_the_truth_always_lies_within_the_bound(ahead_ns: int, ways: list[tuple[int, int, int]]) -> None:
    clock = HostClock()
    clock.begin([Exchange(sent, sent + there + ahead_ns, sent + there + back) for sent, there, back in ways])
    assert abs(clock.offset_ns - ahead_ns) <= clock.bound_ns + 1
    assert clock.round_trip_ns == min(there + back for _, there, back in ways)


@given(st.integers(-(10**15), 10**15), NS)
def test_there_and_back_is_the_same_time(ahead_ns: int, t_ns: int) -> None:
    clock = HostClock()
    clock.begin([Exchange(0, ahead_ns, 0)])
    assert clock.to_ours(np.array([clock.to_host(t_ns)])).tolist() == [t_ns]


def test_a_drift_widens_the_bound_and_moves_no_time() -> None:
    clock = HostClock()
    clock.begin([Exchange(0, 1_000, 100)])
    assert (clock.offset_ns, clock.bound_ns) == (950, 50)
    clock.again([Exchange(0, 1_300, 40), Exchange(0, 9_000, 90_000)])
    assert (clock.offset_ns, clock.bound_ns) == (950, 1_280 - 950 + 20)
    # A better reading later does not take back what an earlier one showed.
    clock.again([Exchange(0, 960, 20)])
    assert clock.bound_ns == 350


def test_a_new_phase_begins_anew() -> None:
    clock = HostClock()
    clock.begin([Exchange(0, 1_000, 100)])
    clock.again([Exchange(0, 5_000, 100)])
    clock.begin([Exchange(0, 5_000, 100)])
    assert (clock.offset_ns, clock.bound_ns) == (4_950, 50)
