from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.sim.answer import Answer, AnswerModel, Limits

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("bash", "edit")]
FREE = Limits(max_tokens=100_000)


def conversation(last: str = "hello", *, first: str = "You are an agent.") -> list[dict[str, Any]]:
    return [{"role": "system", "content": first}, {"role": "user", "content": last}]


def plan(
    messages: list[dict[str, Any]] | None = None, limits: Limits = FREE, *, tools: bool = False, **config: Any
) -> Answer:
    model = AnswerModel(EngineConfig(**config))
    return model.plan(messages or conversation(), TOOLS if tools else [], limits)


def tokens_of(answer: Answer) -> list[tuple[str, ...]]:
    return [answer.delta(index, 1) for index in range(answer.tokens)]


def test_equal_requests_get_equal_answers() -> None:
    assert plan() == plan()
    assert plan() != plan(seed=1)
    assert plan() != plan(conversation("hello!"))


@pytest.mark.parametrize("opening", ["", "\n\n"])
def test_an_isolation_prefix_changes_nothing(opening: str) -> None:
    prefixes = ["0123456789abcdef" * 8 + opening, "fedcba9876543210" * 8 + opening]
    first, second = (plan(conversation(first=prefix + "add tests")) for prefix in prefixes)
    assert first == second == plan(conversation(first="add tests"))
    alone = [plan([{"role": "user", "content": prefix + "add tests"}]) for prefix in prefixes]
    assert alone[0] == alone[1]


def test_later_turns_depend_on_what_is_new() -> None:
    past = [*conversation(), {"role": "assistant", "content": "x"}]
    one = plan([*past, {"role": "tool", "content": "OK"}])
    other_first = plan([{"role": "system", "content": "Else."}, *past[1:], {"role": "tool", "content": "OK"}])
    assert one == other_first
    assert one != plan([*past, {"role": "tool", "content": "Failed"}])
    assert one != plan([*past, *past[1:], {"role": "tool", "content": "OK"}])


def test_natural_lengths_follow_the_distribution() -> None:
    model = AnswerModel(EngineConfig(output_tokens_median=150, output_tokens_p95=2_000))
    lengths = [model.plan(conversation(str(index)), [], FREE).tokens for index in range(4_000)]
    assert statistics.median(lengths) == pytest.approx(150, rel=0.1)
    assert statistics.quantiles(lengths, n=20)[-1] == pytest.approx(2_000, rel=0.15)
    assert min(lengths) >= 1
    assert max(lengths) <= 16_384


@pytest.mark.parametrize(
    ("limits", "tokens", "finish_reason"),
    [
        (Limits(50), 50, "length"),
        (Limits(100), 100, "stop"),
        (Limits(1_000), 100, "stop"),
        (Limits(1_000, min_tokens=300), 300, "stop"),
        (Limits(1_000, exact=True), 1_000, "length"),
        (Limits(10, exact=True), 10, "length"),
    ],
)
def test_limits(limits: Limits, tokens: int, finish_reason: str) -> None:
    answer = plan(limits=limits, output_tokens_median=100, output_tokens_p95=100)
    assert (answer.tokens, answer.finish_reason) == (tokens, finish_reason)
    assert len(tokens_of(answer)) == tokens


def test_reasoning_comes_first_and_has_its_share() -> None:
    answer = plan(limits=Limits(100, exact=True), reasoning_share=0.4)
    deltas = [answer.delta(index, 1) for index in range(100)]
    assert [bool(delta.reasoning) for delta in deltas] == [True] * 40 + [False] * 60
    assert [bool(delta.content) for delta in deltas] == [False] * 40 + [True] * 60
    assert all(len(delta.reasoning + delta.content) == 4 for delta in deltas)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 10, 101, 9_000])
def test_a_tool_call_ends_the_answer(length: int) -> None:
    answer = plan(tools=True, output_tokens_median=length, output_tokens_p95=length)
    assert (answer.tokens, answer.finish_reason) == (length, "tool_calls")
    deltas = [answer.delta(index, 1) for index in range(length)]
    assert [delta.tool_name for delta in deltas if delta.tool_name] in (["bash"], ["edit"])
    arguments = json.loads("".join(delta.arguments for delta in deltas))
    assert isinstance(arguments, dict)
    assert all(any(delta) for delta in deltas)


def test_a_call_cut_off_by_max_tokens_is_incomplete() -> None:
    answer = plan(
        tools=True, limits=Limits(80), output_tokens_median=100, output_tokens_p95=100, reasoning_share=0.2
    )
    assert answer.finish_reason == "length"
    deltas = [answer.delta(index, 1) for index in range(80)]
    assert "".join(delta.arguments for delta in deltas).startswith('{"input":"')
    assert not deltas[-1].arguments.endswith("}")


@given(
    length=st.integers(1, 6_000),
    chunk=st.integers(1, 5_000),
    tools=st.booleans(),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_chunks_of_any_size_say_the_same(length: int, chunk: int, tools: bool, share: float) -> None:
    answer = plan(tools=tools, limits=Limits(length, exact=True), reasoning_share=share)
    whole = answer.delta(0, length)
    parts = [answer.delta(start, min(chunk, length - start)) for start in range(0, length, chunk)]
    assert tuple("".join(texts) for texts in zip(*parts, strict=True)) == whole
    assert all(any(part) for part in parts)
