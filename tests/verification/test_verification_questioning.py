from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentperf.config.suite import Accuracy
from pytest_agentperf.questioning import Asking, Questioner
from pytest_agentperf.verify.questions import Question, QuestionSet

if TYPE_CHECKING:
    from collections.abc import Mapping

SUMS = tuple(Question(id=f"q{i}", kind="numeric", prompt=f"{i}", answer=i) for i in range(6))


def questioner(**rules: Any) -> Questioner:
    accuracy = Accuracy.model_validate({"questions": "x", "max_tokens": 9, "concurrency": 8, **rules})
    return Questioner(QuestionSet("sums", "00", SUMS), accuracy, model="m", parameters={"temperature": 0.5})


def ended(asking: Asking) -> Asking:
    for _ in range(1_000):
        if asking.done:
            return asking
        time.sleep(0.01)
    raise AssertionError("it did not end")


def stream(text: str, finish: str = "stop", tokens: int = 3) -> bytes:
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":"%b"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d}}\n\ndata: [DONE]\n\n'
    ) % (text.encode(), finish.encode(), tokens)


def test_marks_are_in_the_questions_order_round_after_round() -> None:
    def ask(body: Mapping[str, Any]) -> bytes | None:
        number = int(body["messages"][0]["content"])
        if number == 2:
            return None
        return stream(
            "no number" if number == 4 else f"Answer: {number}", "length" if number == 5 else "stop"
        )

    found = questioner(repeats=2)
    score = found.score(ended(found.begin(ask, 32)), 32)
    assert score.marks == "11-101" * 2
    assert (score.right, score.asked, score.cut, score.output_tokens_mean) == (8, 12, 2, 3.0)
    assert (score.questions, score.questions_digest, score.concurrency) == ("sums", "00", 8)


@pytest.mark.parametrize(("n_agents", "at_once"), [(0, 1), (1, 1), (8, 2), (31, 7), (400, 8)])
def test_questions_are_a_small_part_of_the_load(n_agents: int, at_once: int) -> None:
    assert questioner().concurrency(n_agents) == at_once


def test_a_question_goes_out_as_agents_requests_do() -> None:
    bodies: list[Mapping[str, Any]] = []

    def ask(body: Mapping[str, Any]) -> bytes | None:
        bodies.append(body)
        return None

    ended(questioner().begin(ask, 0))
    assert [body["messages"][0]["content"] for body in bodies] == [question.prompt for question in SUMS]
    assert bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "0"}],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
    }


def test_what_goes_wrong_on_our_side_is_no_wrong_answer() -> None:
    def ask(body: Mapping[str, Any]) -> bytes | None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        ended(questioner().begin(ask, 0))
