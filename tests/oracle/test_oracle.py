"""The search against brute force over N, on three engines that give out for different reasons."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from virtual_system import SHAPES, Shape, brute_force, run_phase, search

if TYPE_CHECKING:
    from pytest_agentperf.core.metrics import PhaseMetrics
    from pytest_agentperf.core.pass_curve import PassCurve

BRUTE_FORCE_SEEDS = 3


@cache
def band(shape: Shape) -> PassCurve:
    return brute_force(shape, BRUTE_FORCE_SEEDS)


def metrics(shape: Shape, n_agents: int, nonce: str) -> PhaseMetrics:
    found = run_phase(shape, n_agents, nonce=nonce).metrics
    assert found is not None
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_brute_force_finds_an_edge(shape: Shape) -> None:
    found = band(shape)
    assert found.low <= found.crossing <= found.high
    assert found.all_pass_up_to <= found.capacity < found.none_pass_from
    assert 1 <= found.all_pass_up_to < found.none_pass_from <= shape.n_max


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_search_agrees_with_brute_force(shape: Shape, seed: int) -> None:
    result = search(shape, nonce=f"search-{seed}")
    assert result.complete
    assert result.agents is not None
    assert band(shape).contains(result.agents), f"{result.agents} agents, {band(shape)}"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_each_engine_gives_out_for_its_own_reason(shape: Shape) -> None:
    few = metrics(shape, max(1, band(shape).all_pass_up_to - 1), "few")
    many = metrics(shape, shape.n_max, "many")
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
    assert run_phase(SHAPES[0], 7, nonce="same") == run_phase(SHAPES[0], 7, nonce="same")


def test_first_turns_find_nothing_in_the_cache() -> None:
    found = metrics(SHAPES[0], 7, "isolated")
    assert found.first_turn_cached_tokens_max == 0
    assert found.cached_share is not None
    assert found.cached_share > 0.5


def test_the_servers_own_metrics_agree_with_the_answers() -> None:
    found = run_phase(SHAPES[1], 9, nonce="metrics")
    assert found.server is not None
    assert found.metrics is not None
    assert found.server.engines == ("sim",)
    # Nine agents, five at a time; those that think neither run nor wait.
    assert found.server.running_max is not None
    assert found.server.running_max <= 5
    assert found.server.waiting_max is not None
    assert found.server.waiting_max >= 1
    assert found.server.cache_hit_share == pytest.approx(found.metrics.cached_share, abs=0.1)
    assert found.server.generation_tokens_per_s == pytest.approx(found.metrics.throughput_tok_s, rel=0.1)
