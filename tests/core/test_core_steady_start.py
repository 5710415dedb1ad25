"""Agents that begin where a steady state would find them."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.steady_start import TurnLoad, steady_starts

TURNS = {
    f"t{i:02}": [TurnLoad(1_000 * (k + 1) * (i + 1), 100 + 50 * (k % 3), 0.5) for k in range(5 + i)]
    for i in range(20)
}


def starts(seed: int, n_agents: int, **changes: Any) -> tuple[tuple[str, int], ...]:
    rules: dict[str, Any] = {"output_speed_tok_s": 20.0, "tool_delay_max_s": 5.0} | changes
    return steady_starts(seed, n_agents, TURNS, **rules)


def duration_s(turn: TurnLoad) -> float:
    return 1.0 + (turn.output_tokens or 150) / 20 + turn.tool_delay_s


@given(st.integers(0, 2**31), st.integers(1, 300))
def test_every_start_is_a_turn_and_seeds_repeat(seed: int, n_agents: int) -> None:
    found = starts(seed, n_agents)
    assert len(found) == n_agents
    assert all(0 <= turn < len(TURNS[trajectory]) for trajectory, turn in found)
    assert found == starts(seed, n_agents)


def test_seeds_differ() -> None:
    assert starts(1, 50) != starts(2, 50)


def test_attempts_differ_and_the_first_is_the_seeds() -> None:
    found = [starts(1, 50), *(starts(1, 50, attempt=attempt) for attempt in (0, 1, 2))]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_turns_are_met_in_proportion_to_how_long_they_last() -> None:
    """Of many agents, each turn has its share of the time, to the one agent that strata leave open."""
    total_s = sum(duration_s(turn) for turns in TURNS.values() for turn in turns)
    found = starts(7, 5_000)
    for trajectory, turns in TURNS.items():
        for number, turn in enumerate(turns):
            share = duration_s(turn) / total_s * 5_000
            assert abs(found.count((trajectory, number)) - share) <= 1


def test_the_sum_of_contexts_is_the_steady_states_in_every_phase() -> None:
    loads = [turn for turns in TURNS.values() for turn in turns]
    total_s = sum(map(duration_s, loads))
    mean = sum(turn.context_tokens * duration_s(turn) for turn in loads) / total_s
    spread = statistics.pstdev([turn.context_tokens for turn in loads]) / 50**0.5
    for seed in range(20):
        found = statistics.fmean(TURNS[name][turn].context_tokens for name, turn in starts(seed, 50))
        # A sample of 50 would lie off by its standard error; strata leave a tenth of it.
        assert abs(found - mean) < 0.3 * spread


def test_tool_delays_count_as_the_ruleset_cuts_them() -> None:
    turns = {"a": [TurnLoad(1, 20, 1_000.0)], "b": [TurnLoad(2, 20, 0.0)]}
    found = steady_starts(0, 700, turns, output_speed_tok_s=20, tool_delay_max_s=3)
    assert found.count(("a", 0)) == pytest.approx(700 * 5 / 7, abs=1)
