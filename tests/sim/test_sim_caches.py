from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.sim.engine.block_cache import BlockCache
from pytest_agentperf.sim.engine.sequence import Sequence
from pytest_agentperf.sim.engine.session_cache import SessionCache

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK_TOKENS = 10


def sequence(prompt: int, *, session: int = 0, shared: int = 0, hashes: Iterable[int] = ()) -> Sequence:
    return Sequence(0, prompt, 1, 1, session, shared, tuple(hashes))


def compute(cache: BlockCache | SessionCache, held: Sequence) -> None:
    held.computed = held.prompt
    cache.computed(held)


def test_blocks_move_from_private_to_shared_to_idle() -> None:
    cache = BlockCache(10, BLOCK_TOKENS)
    held = sequence(35, hashes=(1, 2, 3))
    assert cache.admit(held, 3, 4) == 0
    assert cache.used == 4
    compute(cache, held)
    assert (cache.used, cache.idle) == (4, 0)
    cache.release(held, 4)
    assert (cache.used, cache.idle) == (0, 3)


def test_the_hit_limit_holds() -> None:
    cache = BlockCache(10, BLOCK_TOKENS)
    first = sequence(30, hashes=(1, 2, 3))
    cache.admit(first, 2, 3)
    compute(cache, first)
    assert cache.admit(sequence(30, hashes=(1, 2, 3)), 2, 3) == 2
    assert cache.used == 4


def test_a_copy_of_a_known_block_is_dropped() -> None:
    cache = BlockCache(10, BLOCK_TOKENS)
    twins = [sequence(20, hashes=(1, 2)) for _ in range(2)]
    for twin in twins:
        cache.admit(twin, 0, 2)
    for twin in twins:
        compute(cache, twin)
    assert cache.used == 2
    cache.release(twins[0], 2)
    assert (cache.used, cache.idle) == (2, 0)
    cache.release(twins[1], 2)
    assert (cache.used, cache.idle) == (0, 2)


def test_the_own_idle_prefix_is_not_counted_as_room() -> None:
    for cache in (BlockCache(4, BLOCK_TOKENS), SessionCache(4, BLOCK_TOKENS)):
        first = sequence(30, hashes=(1, 2, 3))
        cache.admit(first, 0, 3)
        compute(cache, first)
        cache.release(first, 3)
        longer = sequence(50, shared=30, hashes=(1, 2, 3, 4, 5))
        assert cache.admit(longer, 3, 5) is None
        assert (cache.used, cache.idle) == (0, 3)
        assert cache.admit(longer, 3, 4) == 3
        assert (cache.used, cache.idle, cache.evictions) == (4, 0, 0)


def test_allocation_evicts_the_end_of_the_oldest_prompt_first() -> None:
    for cache in (BlockCache(7, BLOCK_TOKENS), SessionCache(7, BLOCK_TOKENS)):
        for session in (1, 2):
            held = sequence(30, session=session, hashes=range(session * 10, session * 10 + 3))
            cache.admit(held, 0, 3)
            compute(cache, held)
            cache.release(held, 3)
        assert cache.allocate(2)
        assert (cache.evictions, cache.idle) == (1, 5)
        again = sequence(30, session=1, shared=30, hashes=(10, 11, 12))
        assert cache.admit(again, 3, 3) == 2
        assert not cache.allocate(3)


def test_a_session_finds_only_what_its_prompt_shares_with_the_last_one() -> None:
    cache = SessionCache(20, BLOCK_TOKENS)
    first = sequence(95)
    cache.admit(first, 9, 10)
    compute(cache, first)
    cache.release(first, 10)
    assert cache.idle == 9
    assert cache.admit(sequence(95, session=1, shared=95), 9, 10) == 0
    assert cache.admit(sequence(95, shared=45), 9, 10) == 4
    # What the earlier prompt did not share was evicted for it.
    assert (cache.used, cache.idle, cache.evictions) == (20, 0, 5)


@given(
    turns=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(0, 12), st.integers(0, 40)),
        min_size=1,
        max_size=40,
    ),
    capacity=st.integers(20, 60),
)
def test_both_caches_agree_on_isolated_conversations(
    turns: list[tuple[int, int, int, int]], capacity: int
) -> None:
    """Each turn grows its conversation, keeps `held` blocks busy meanwhile, and computes all or part of itself."""
    caches = (SessionCache(capacity, BLOCK_TOKENS), BlockCache(capacity, BLOCK_TOKENS))
    lengths: dict[int, int] = {}
    for session, more, held, cut in turns:
        shared = lengths.get(session, 0)
        prompt = min(shared + more, (capacity - 1) * BLOCK_TOKENS)
        shared = min(shared, prompt)
        lengths[session] = prompt
        hashes = [session * 1_000 + index for index in range(prompt // BLOCK_TOKENS)]
        blocks = -(-prompt // BLOCK_TOKENS)
        found = []
        for cache in caches:
            one = sequence(prompt, session=session, shared=shared, hashes=hashes)
            assert cache.allocate(held)
            hits = cache.admit(one, (prompt - 1) // BLOCK_TOKENS, blocks)
            if hits is not None:
                one.computed = max(hits * BLOCK_TOKENS, prompt - cut)
                cache.computed(one)
                cache.release(one, blocks)
            other = sequence(0)
            cache.release(other, held)
            found.append((hits, cache.used, cache.idle, cache.evictions))
        assert found[0] == found[1]
