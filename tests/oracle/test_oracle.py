"""The search against brute force over N, on three engines that give out for different reasons."""

from __future__ import annotations

from functools import cache

import pytest
from virtual_system import SHAPES, Band, Shape, VirtualSystem, brute_force, search

from pytest_agentperf.core.search import SearchRules

BRUTE_FORCE_SEEDS = 7
RULES = SearchRules(
    start=1,
    max_agents=256,
    ramp_factor=2,
    resolution=0.0,
    confirm=True,
    confirm_descents_max=2,
    invalid_retries=1,
)


@cache
def band(shape: Shape) -> Band:
    nonces = [f"brute-{seed}" for seed in range(BRUTE_FORCE_SEEDS)]
    return brute_force(VirtualSystem(shape.engine), shape.tier, shape.n_max, nonces)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_brute_force_finds_an_edge(shape: Shape) -> None:
    found = band(shape)
    assert 1 <= found.all_pass_up_to < found.none_pass_from <= shape.n_max


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_search_agrees_with_brute_force(shape: Shape, seed: int) -> None:
    agents = search(VirtualSystem(shape.engine), shape.tier, seed=seed, rules=RULES)
    assert agents is not None
    assert band(shape).contains(agents), f"{agents} agents, {band(shape)}"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_each_engine_gives_out_for_its_own_reason(shape: Shape) -> None:
    system = VirtualSystem(shape.engine)
    few = system.measure(max(1, band(shape).all_pass_up_to - 1), nonce="few")
    many = system.measure(shape.n_max, nonce="many")
    assert many.output_speed_p25_tok_s is not None
    assert many.ttft_p95_s is not None
    assert few.cached_share is not None
    assert many.cached_share is not None
    too_slow = many.output_speed_p25_tok_s < shape.tier.output_speed_p25_tok_s
    too_late = many.ttft_p95_s > shape.tier.ttft_p95_s
    evicted = many.cached_share < few.cached_share / 2
    expected = {
        "speed-bound": (True, False, False),
        "ttft-bound": (False, True, False),
        "cache-cliff": (True, True, True),
    }
    assert (too_slow, too_late, evicted) == expected[shape.name]


def test_equal_seeds_give_equal_phases() -> None:
    system = VirtualSystem(SHAPES[0].engine)
    assert system.measure(7, nonce="same") == system.measure(7, nonce="same")


def test_first_turns_find_nothing_in_the_cache() -> None:
    metrics = VirtualSystem(SHAPES[0].engine).measure(7, nonce="isolated")
    assert metrics.first_turn_cached_tokens_max == 0
    assert metrics.cached_share is not None
    assert metrics.cached_share > 0.5
