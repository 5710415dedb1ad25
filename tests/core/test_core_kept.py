from __future__ import annotations

from itertools import product

from pytest_agentperf.core.kept import NOTHING_KEPT, is_kept, keep_rule
from pytest_agentperf.core.records import RequestKey


def test_the_share_is_kept_and_is_the_same_every_time() -> None:
    places = product(range(20), range(10), range(20))
    requests = [RequestKey(1, 0, agent, ordinal, "t", turn) for agent, ordinal, turn in places]
    kept = [key for key in requests if is_kept("nonce", key, 0.1)]
    assert 330 < len(kept) < 470
    assert kept == [key for key in requests if is_kept("nonce", key, 0.1)]
    assert len({key.agent for key in kept}) == 20
    other = [key for key in requests if is_kept("another nonce", key, 0.1)]
    assert other != kept
    assert not any(is_kept("nonce", key, 0.0) for key in requests)
    assert all(is_kept("nonce", key, 1.0) for key in requests)


def test_the_rule_aims_at_the_number_that_is_wanted() -> None:
    assert keep_rule(2_000, 200) == (0.1, 400)
    assert keep_rule(50, 200) == (1.0, 400)
    assert keep_rule(0, 200).share == 1.0
    assert keep_rule(2_000, 0) == NOTHING_KEPT
