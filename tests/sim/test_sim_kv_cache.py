from __future__ import annotations

from pytest_agentperf.sim.kv_cache import KvCache


def test_blocks_move_from_private_to_shared_to_idle() -> None:
    cache = KvCache(10)
    assert cache.admit((1, 2, 3), 3, 4) == 0
    assert cache.used == 4
    cache.share((1, 2, 3))
    assert (cache.used, cache.idle) == (4, 0)
    cache.release((1, 2, 3), 1)
    assert (cache.used, cache.idle) == (0, 3)


def test_the_hit_limit_holds() -> None:
    cache = KvCache(10)
    cache.admit((1, 2, 3), 3, 3)
    cache.share((1, 2, 3))
    assert cache.admit((1, 2, 3), 2, 3) == 2
    assert cache.used == 4


def test_a_copy_of_a_known_block_is_dropped() -> None:
    cache = KvCache(10)
    for _ in range(2):
        cache.admit((1, 2), 0, 2)
    cache.share((1, 2))
    cache.share((1, 2))
    assert cache.used == 2
    cache.release((1, 2), 0)
    assert (cache.used, cache.idle) == (2, 0)
    cache.release((1, 2), 0)
    assert (cache.used, cache.idle) == (0, 2)


def test_the_own_idle_prefix_is_not_counted_as_room() -> None:
    cache = KvCache(4)
    cache.admit((1, 2, 3), 0, 3)
    cache.share((1, 2, 3))
    cache.release((1, 2, 3), 0)
    assert cache.admit((1, 2, 3), 3, 5) is None
    assert (cache.used, cache.idle) == (0, 3)
    assert cache.admit((1, 2, 3), 3, 4) == 3
    assert (cache.used, cache.idle, cache.evictions) == (4, 0, 0)


def test_allocation_evicts_the_end_of_the_oldest_prompt_first() -> None:
    cache = KvCache(4)
    cache.admit((1, 2, 3), 0, 3)
    cache.share((1, 2, 3))
    cache.release((1, 2, 3), 0)
    assert cache.allocate(2)
    assert cache.evictions == 1
    assert cache.admit((1, 2, 3), 3, 2) == 2
    assert not cache.allocate(1)
