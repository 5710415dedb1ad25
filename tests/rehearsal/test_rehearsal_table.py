"""What a dataset's requests weigh, and how long their answers are."""

from __future__ import annotations

from statistics import fmean

import pytest
from virtual_system import DEMO_SET, SHAPES

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.records import RequestKey
from pytest_agentperf.core.token_table import PREFIX_TOKENS, TokenTable, TurnTokens
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.dataset import open_dataset
from pytest_agentperf.sim.lengths import SAMPLING_CV, DrawnLengths, ExactLengths, SampledLengths
from pytest_agentperf.tabulation import TabulatedDataset, shared_tokens

ENGINE = SHAPES[0].engine


def key(**changes: int) -> RequestKey:
    fields = {"phase": 1, "attempt": 0, "agent": 0, "ordinal": 0, "turn": 0, **changes}
    return RequestKey(trajectory="t", **fields)


def trajectory(*runs: tuple[tuple[int, int], ...], tools: tuple[int | None, ...] = ()) -> Trajectory:
    """Turns over messages that are all equally long."""
    last = max(stop for turn in runs for _, stop in turn)
    return Trajectory(
        id="t",
        messages=tuple({"role": "user", "content": f"{i:04}"} for i in range(last)),
        turns=tuple(
            Turn(message_runs=turn, tool_delay_ns=0, tools_index=tools[k] if tools else None)
            for k, turn in enumerate(runs)
        ),
        tool_sets=((), ()) if tools else (),
    )


def test_the_table_has_the_recorded_counts_and_the_prefix() -> None:
    data = TabulatedDataset(DEMO_SET, max_prompt_tokens=100_000, history_reasoning="all")
    source = open_dataset(DEMO_SET)
    assert data.prepared.ids == tuple(source.ids())
    assert data.table.estimated == 0
    for name in source.ids():
        recorded = source.load(name).turns
        turns = data.table.turns[name]
        assert [t.prompt - PREFIX_TOKENS for t in turns] == [t.prompt_tokens for t in recorded]
        assert [t.output for t in turns] == [t.output_tokens for t in recorded]
        assert list(data.table.tool_delays_ns(name)) == [t.tool_delay_ns for t in recorded]
        assert turns[0].shared == 0
        assert all(0 < t.shared <= t.prompt for t in turns[1:])


def test_a_turn_that_goes_on_shares_all_of_the_one_before() -> None:
    found = shared_tokens(trajectory(((0, 2),), ((0, 4),), ((0, 7),)), [20, 45, 71])
    assert found == [0, 20, 45]


def test_a_turn_that_returns_to_an_older_history_shares_that() -> None:
    # A sub-agent's turns in between, which share nothing.
    found = shared_tokens(trajectory(((0, 3),), ((3, 5),), ((0, 3), (5, 7))), [30, 20, 50])
    assert found == [0, 0, 30]


def test_where_a_turn_leaves_every_history_bytes_decide() -> None:
    # Two of four messages are those of the turn before.
    found = shared_tokens(trajectory(((0, 3),), ((0, 2), (3, 5))), [30, 40])
    assert found == [0, 20]


def test_other_tools_share_nothing() -> None:
    found = shared_tokens(trajectory(((0, 2),), ((0, 3),), ((0, 4),), tools=(0, 1, 0)), [20, 30, 40])
    assert found == [0, 0, 20]


def table(outputs: list[int | None]) -> TokenTable:
    return TokenTable(
        {"t": [TurnTokens(100, 0, output) for output in outputs]}, {"t": [0] * len(outputs)}, estimated=0
    )


def test_sampled_lengths_vary_about_the_recorded_ones() -> None:
    lengths = SampledLengths(table([10_000] * 8), ENGINE, nonce="n")
    found = [n for agent in range(500) for n in lengths.of(key(agent=agent))]
    assert fmean(found) == pytest.approx(10_000, rel=0.02)
    spread = fmean((n / 10_000 - 1) ** 2 for n in found) ** 0.5
    assert spread == pytest.approx(SAMPLING_CV, rel=0.1)


@pytest.mark.parametrize("change", [{"phase": 2}, {"attempt": 1}, {"agent": 1}, {"ordinal": 1}])
def test_sampled_lengths_are_those_of_their_request_alone(change: dict[str, int]) -> None:
    lengths = SampledLengths(table([10_000] * 8), ENGINE, nonce="n")
    first = lengths.of(key())
    assert lengths.of(key(**change)) != first
    assert SampledLengths(table([10_000] * 8), ENGINE, nonce="n").of(key()) == first
    assert SampledLengths(table([10_000] * 8), ENGINE, nonce="m").of(key()) != first


def test_more_turns_than_factors_have_lengths_too() -> None:
    assert len(SampledLengths(table([5] * 9_000), ENGINE, nonce="n").of(key())) == 9_000


def test_a_length_that_was_not_recorded_is_drawn() -> None:
    unknown = table([100, None])
    drawn = DrawnLengths(unknown, ENGINE).of(key())
    assert SampledLengths(unknown, ENGINE, nonce="n").of(key())[1] == drawn[1]
    with pytest.raises(DatasetError, match="trajectory 't', turn 1: no recorded output length"):
        ExactLengths(unknown)


def test_exact_lengths_are_the_recorded_ones() -> None:
    assert ExactLengths(table([3, 0, 7])).of(key()) == [3, 1, 7]


def test_drawn_lengths_follow_the_engine_and_stay_with_their_turn() -> None:
    lengths = DrawnLengths(table([None] * 4_000), ENGINE)
    found = sorted(lengths.of(key()))
    assert lengths.of(key(agent=3, phase=9)) == lengths.of(key())
    assert found[2_000] == pytest.approx(ENGINE.output_tokens_median, rel=0.1)
    assert found[3_800] == pytest.approx(ENGINE.output_tokens_p95, rel=0.1)
    assert found[-1] <= ENGINE.output_tokens_max
