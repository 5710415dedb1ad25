from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.sharding import shards

WEIGHTS = st.lists(st.floats(0.1, 10), min_size=1, max_size=8)


def test_equal_workers_take_turns() -> None:
    assert shards(7, [1.0, 1.0, 1.0], [9, 9, 9]) == [[0, 3, 6], [1, 4], [2, 5]]


@given(st.integers(0, 500), WEIGHTS)
def test_each_agent_is_somebodys_and_shares_are_those_of_the_weights(n: int, weights: list[float]) -> None:
    found = shards(n, weights, [n] * len(weights))
    assert sorted(agent for shard in found for agent in shard) == list(range(n))
    for shard, weight in zip(found, weights, strict=True):
        assert shard == sorted(shard)
        assert abs(len(shard) - n * weight / sum(weights)) <= len(weights)


@given(st.integers(0, 60), WEIGHTS, st.data())
def test_limits_hold(n: int, weights: list[float], data: st.DataObject) -> None:
    limits = data.draw(st.lists(st.integers(0, 40), min_size=len(weights), max_size=len(weights)))
    if sum(limits) < n:
        with pytest.raises(ValueError, match="room for"):
            shards(n, weights, limits)
        return
    found = shards(n, weights, limits)
    assert all(len(shard) <= limit for shard, limit in zip(found, limits, strict=True))
    assert sorted(agent for shard in found for agent in shard) == list(range(n))
