from __future__ import annotations

import hashlib
from itertools import islice

import pytest
from core_support import steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.assignment import assigned_trajectories, isolation_prefix, trajectory_order

IDS = ["a", "b", "c", "d", "e", "f"]
seeds = st.integers(0, 2**63)
small = st.integers(0, 10_000)


@steady
@given(seeds, small, small, st.lists(st.text(), unique=True, max_size=12), st.randoms())
def test_an_order_is_a_permutation_that_the_order_of_the_ids_does_not_change(
    seed: int, agent: int, round_: int, ids: list[str], random: object
) -> None:
    order = trajectory_order(seed, agent, round_, ids)
    assert sorted(order) == sorted(ids)
    random.shuffle(ids)  # type: ignore[attr-defined]
    assert trajectory_order(seed, agent, round_, ids) == order


def test_golden_order() -> None:
    """Changing this value makes every older result incomparable."""
    assert trajectory_order(7, 3, 2, IDS) == ["e", "b", "f", "a", "d", "c"]


def test_the_order_is_that_of_sha256_over_seed_agent_round_id() -> None:
    def digest(id_: str) -> bytes:
        return hashlib.sha256(f"2:421:01:1{len(id_)}:{id_}".encode()).digest()

    ids = ["x", "yy", "zzz", "x1", "y2"]
    assert trajectory_order(42, 0, 1, ids) == sorted(ids, key=digest)


def test_seed_agent_and_round_each_change_the_order() -> None:
    ids = [str(i) for i in range(50)]
    base = trajectory_order(1, 2, 3, ids)
    others = [trajectory_order(9, 2, 3, ids), trajectory_order(1, 9, 3, ids), trajectory_order(1, 2, 9, ids)]
    assert all(order != base for order in others)


def test_agents_work_through_round_after_round() -> None:
    found = list(islice(assigned_trajectories(7, 3, IDS), 18))
    assert found == [id_ for round_ in range(3) for id_ in trajectory_order(7, 3, round_, IDS)]
    assert found[:6] != found[6:12]


def test_an_agent_works_the_same_in_every_phase() -> None:
    """An agent's work depends on the seed and its number alone, so a larger N only adds agents."""
    first = list(islice(assigned_trajectories(7, 3, IDS), 30))
    assert list(islice(assigned_trajectories(7, 3, tuple(reversed(IDS))), 30)) == first


def test_nothing_to_assign_is_an_error() -> None:
    with pytest.raises(ValueError, match="no trajectories"):
        next(assigned_trajectories(0, 0, []))


def test_golden_prefix() -> None:
    assert isolation_prefix("nonce", 2, 1, 5, 9) == (
        "60ac9ed47796877737adf21dc89e717da2372b92b6e42af61c831f2b302f15c5"
        "d033820201d64cf4ea45aaf2eeb923f1587ff1d0fddafe154e4aa4a91a10e6e4"
    )


@steady
@given(st.text(), small, small, small, small)
def test_a_prefix_is_128_hex_characters(
    nonce: str, phase: int, attempt: int, agent: int, ordinal: int
) -> None:
    prefix = isolation_prefix(nonce, phase, attempt, agent, ordinal)
    assert len(prefix) == 128
    assert set(prefix) <= set("0123456789abcdef")


# Digits only, and few: the neighbours that a plain concatenation would mix up.
fields = st.tuples(st.sampled_from(["", "1", "11", "1:", "1:1"]), *[st.sampled_from([0, 1, 11, 111])] * 4)


@steady
@given(fields, fields)
def test_prefixes_are_equal_only_for_equal_fields(
    a: tuple[str, int, int, int, int], b: tuple[str, int, int, int, int]
) -> None:
    assert (isolation_prefix(*a) == isolation_prefix(*b)) == (a == b)


def test_every_field_enters_the_prefix() -> None:
    found = {
        isolation_prefix(nonce, phase, attempt, agent, ordinal)
        for nonce in ("n", "m")
        for phase in range(3)
        for attempt in range(3)
        for agent in range(3)
        for ordinal in range(3)
    }
    assert len(found) == 2 * 3**4


def test_fields_cannot_run_into_each_other() -> None:
    assert isolation_prefix("1", 23, 4, 5, 6) != isolation_prefix("12", 3, 4, 5, 6)
    assert isolation_prefix("n", 1, 11, 5, 6) != isolation_prefix("n", 11, 1, 5, 6)
    assert trajectory_order(1, 23, 0, [str(i) for i in range(50)]) != trajectory_order(
        12, 3, 0, [str(i) for i in range(50)]
    )
