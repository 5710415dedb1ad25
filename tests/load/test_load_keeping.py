"""Answers that are kept: whole, bounded, and measured as they would be anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from load_support import DONE, answering, chunked, connected, delta, key, raw_server, usage

from pytest_agentperf.core.kept import KeepRule, KeptAnswer, ToolCall
from pytest_agentperf.load import keeping
from pytest_agentperf.load.keeping import AnswerKeeper
from pytest_agentperf.load.spoken import spoken

if TYPE_CHECKING:
    from pytest_agentperf.core.records import Answer, RequestKey

EVERY = KeepRule(1.0, 100)
EVENTS = (
    delta(role="assistant", content=""),
    delta(reasoning_content="Let me see. "),
    *(delta(content=f"w{i} ") for i in range(50)),
    delta(tool_calls=[{"index": 0, "function": {"name": "read", "arguments": ""}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '{"path":'}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '"a"}'}}]),
    delta("tool_calls"),
    usage(10, 60),
    DONE,
)
BODY = b"".join(EVENTS)


def ask(
    keeper: AnswerKeeper | None, *requests: RequestKey, response: bytes = chunked(EVENTS)
) -> list[Answer]:
    with (
        raw_server(answering(response)) as server,
        connected(server.url, keeper=keeper) as client,
    ):
        return [client.ask_all([request])[0] for request in requests]


def timeless(answer: Answer) -> Answer:
    return answer._replace(t_sent_ns=0, t_end_ns=0, t_first_ns=0, t_last_ns=0, connect_ns=0)


def test_a_kept_answer_is_recorded_like_any_other() -> None:
    keeper = AnswerKeeper("n", EVERY)
    (kept,) = ask(keeper, key())
    (plain,) = ask(None, key())
    assert timeless(kept) == timeless(plain)
    assert kept.content_chunks == 54


def test_its_body_is_whole() -> None:
    keeper = AnswerKeeper("n", EVERY)
    ask(keeper, key(agent=3, turn=2, ordinal=1))
    (found,) = keeper.take()
    assert found._replace(first_text="") == KeptAnswer(3, 1, "t1", 2, "", BODY)
    assert found.first_text.startswith("Let me see. ")
    assert keeper.take() == []


def test_only_the_sample_is_kept() -> None:
    keeper = AnswerKeeper("n", KeepRule(0.3, 100))
    requests = [key(turn=turn) for turn in range(20)]
    ask(keeper, *requests)
    assert [one.turn for one in keeper.take()] == [r.turn for r in requests if keeper.wants(r)]
    assert 0 < sum(keeper.wants(request) for request in requests) < 20


def test_no_more_than_the_rule_says() -> None:
    keeper = AnswerKeeper("n", KeepRule(1.0, 2))
    ask(keeper, *(key(turn=turn) for turn in range(4)))
    assert [one.turn for one in keeper.take()] == [0, 1]


@pytest.mark.parametrize("bound", ["BODY_BYTES_MAX", "WORKER_BYTES_MAX"])
def test_what_is_too_large_is_named_and_dropped(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, bound, len(BODY) - 1)
    keeper = AnswerKeeper("n", EVERY)
    (answer,) = ask(keeper, key())
    assert answer.failure is None
    (found,) = keeper.take()
    assert (found.whole, found.body) == (False, b"")


def test_a_failed_answer_is_not_kept() -> None:
    keeper = AnswerKeeper("n", EVERY)
    (answer,) = ask(keeper, key(), response=chunked(EVENTS[:5]))
    assert answer.failure == "cut"
    assert keeper.take() == []


def test_what_was_spoken() -> None:
    found = spoken(BODY)
    assert found.reasoning == "Let me see. "
    assert found.content == "".join(f"w{i} " for i in range(50))
    assert found.calls == (ToolCall("read", '{"path":"a"}'),)
    assert (found.finish_reason, found.prompt_tokens, found.output_tokens) == ("tool_calls", 10, 60)


def test_reasoning_under_two_names_is_spoken_once() -> None:
    body = delta(reasoning="a", reasoning_content="a") + delta(reasoning="b") + delta(reasoning_content="c")
    assert spoken(body).reasoning == "abc"


def test_calls_side_by_side() -> None:
    first, second = ({"index": i, "function": {"name": f"f{i}", "arguments": ""}} for i in range(2))
    more = {"index": 1, "function": {"arguments": "{}"}}
    body = delta(tool_calls=[first]) + delta(tool_calls=[second]) + delta(tool_calls=[more])
    assert spoken(body).calls == (ToolCall("f0", ""), ToolCall("f1", "{}"))


@pytest.mark.parametrize("body", [b"data: nonsense\n\n", b"data: 3\n\n", b'data: {"choices": [3]}\n\n'])
def test_what_is_no_stream(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        spoken(body)
