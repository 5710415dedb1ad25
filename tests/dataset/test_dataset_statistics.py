"""Histograms that lose nothing, and findings that truncation cannot cause."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.trajectory import ToolCall, Trajectory
from pytest_agentperf.dataset import fit_trajectory
from pytest_agentperf.dataset.checks import check_trajectory
from pytest_agentperf.dataset.histories import RecordedRequest, TrajectoryBuilder
from pytest_agentperf.dataset.statistics import (
    Bin,
    DatasetFigures,
    linear_histogram,
    log_histogram,
    summary,
)

# Eighths: exact, and soon drawn.
values = st.lists(st.integers(0, 8 * 10**7).map(lambda eighths: eighths / 8), max_size=20)


@pytest.mark.parametrize("histogram", [linear_histogram, log_histogram])
@given(values=values)
def test_every_value_is_in_its_bar(histogram: object, values: list[float]) -> None:
    assert callable(histogram)
    bins: list[Bin] = histogram(values)
    assert sum(entry.count for entry in bins) == len(values)
    assert all(entry.low < entry.high for entry in bins)
    assert all(a.high == b.low for a, b in pairwise(bins))
    for entry in bins:
        assert entry.count == sum(entry.low <= value < entry.high for value in values)
    assert len(bins) <= 25


def test_linear_bars_have_round_bounds() -> None:
    bins = linear_histogram([1_545, 44_051])
    assert {entry.high - entry.low for entry in bins} == {5_000}
    assert (bins[0].low, bins[-1].high) == (0, 45_000)


def test_log_bars_begin_and_end_where_values_are() -> None:
    assert log_histogram([25, 30, 4_999]) == [
        Bin(20, 50, 2),
        Bin(50, 100, 0),
        Bin(100, 200, 0),
        Bin(200, 500, 0),
        Bin(500, 1_000, 0),
        Bin(1_000, 2_000, 0),
        Bin(2_000, 5_000, 1),
    ]
    assert log_histogram([0]) == [Bin(0, 1, 1)]


def test_six_numbers() -> None:
    found = summary([1, 2, 3, 10])
    assert found is not None
    assert (found.count, found.min, found.mean, found.median, found.max) == (4, 1, 4, 2.5, 10)
    assert found.p95 == pytest.approx(8.95)
    assert summary([]) is None


def agent(answers: list[int], prompts: list[int]) -> Trajectory:
    """Return an agent's run: `answers` are how many calls each answer makes."""
    history: list[dict[str, object]] = [{"role": "user", "content": "go"}]
    builder = TrajectoryBuilder("t")
    for k, (calls, prompt) in enumerate(zip(answers, prompts, strict=True)):
        names = [f"c{k}.{i}" for i in range(calls)]
        builder.add(
            RecordedRequest(
                list(history),
                None,
                0,
                prompt_tokens=prompt,
                output_tokens=1,
                tool_calls=tuple(ToolCall(name, "bash", 0) for name in names),
            )
        )
        made = [{"id": n, "type": "function", "function": {"name": "bash", "arguments": "{}"}} for n in names]
        history.append({"role": "assistant", "content": f"{k}", **({"tool_calls": made} if made else {})})
        history += [{"role": "tool", "tool_call_id": name, "content": "ok"} for name in names]
        if not names:
            history.append({"role": "user", "content": f"and {k}?"})
    return builder.build()


runs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100)), min_size=1, max_size=8)


@given(run=runs, limit=st.integers(1, 100))
def test_truncation_cuts_no_message_and_orphans_no_result(run: list[tuple[int, int]], limit: int) -> None:
    whole = agent([calls for calls, _ in run], [prompt for _, prompt in run])
    assert list(check_trajectory(whole)) == []
    cut = fit_trajectory(whole, max_prompt_tokens=limit)
    kept = next((k for k, (_, prompt) in enumerate(run) if prompt > limit), len(run))
    assert len(cut.turns) == kept
    for turn, before in zip(cut.turns, whole.turns, strict=False):
        assert cut.request_messages(turn) == whole.request_messages(before)
        assert turn.tool_calls == before.tool_calls
    if kept:
        assert list(check_trajectory(cut)) == []


def test_only_turns_that_tools_followed_have_a_delay() -> None:
    figures = DatasetFigures()
    figures.add(agent([1, 0], [5, 6]))
    assert (figures.turns, figures.tool_delays_ms, figures.calls_timed) == (2, [0.0], 1)
