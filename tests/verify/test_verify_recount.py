from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.kept import Spoken, ToolCall
from pytest_agentperf.verify.prompts import PromptCounter, open_prompt_counter
from pytest_agentperf.verify.recount import (
    ARGUMENT_TOKENS,
    CALL_TOKENS,
    END_TOKENS,
    REASONING_TOKENS,
    recount_answer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.token_check import Recount

DEEPSEEK_V4 = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "deepseek-v4"


class Words:
    def count(self, text: str) -> int:
        return len(text.split())

    def count_many(self, texts: Sequence[str]) -> list[int]:
        return [self.count(text) for text in texts]


def pieces(spoken: Spoken) -> Recount:
    found = recount_answer(spoken, "here", counter=Words(), prompts=None)
    assert found is not None
    assert not found.rendered
    return found


def test_a_plain_text_is_known_to_its_end() -> None:
    assert pieces(Spoken(content="one two", output_tokens=3)) == ("here", 3, 2, 2 + END_TOKENS, False)


def test_reasoning_may_be_set_apart() -> None:
    found = pieces(Spoken(reasoning="a b c", content="one", output_tokens=9))
    assert (found.low, found.high) == (4, 4 + END_TOKENS + REASONING_TOKENS)


def test_a_call_counts_as_json_or_as_text_between_tags() -> None:
    arguments = json.dumps({"path": "a b c", "limit": 3})
    found = pieces(Spoken(calls=(ToolCall("read", arguments),), output_tokens=9))
    assert found.low == 1 + 4
    assert found.high == 1 + 6 + END_TOKENS + CALL_TOKENS + 2 * ARGUMENT_TOKENS


@pytest.mark.parametrize("arguments", ["not json", "[1, 2]", ""])
def test_arguments_that_are_no_object_count_as_they_are(arguments: str) -> None:
    found = pieces(Spoken(calls=(ToolCall("f", arguments),), output_tokens=9))
    assert found.low == 1 + len(arguments.split())


def test_who_claims_nothing_is_not_recounted() -> None:
    assert recount_answer(Spoken(content="a"), "here", counter=Words(), prompts=None) is None


def chat(messages: Any, tools: Any = None) -> str:
    """A template that keeps no reasoning."""
    said = "".join(f"<{m['role']}> {m['content']} <end>\n" for m in messages)
    return said if messages[-1]["role"] == "assistant" else said + "<assistant> "


def rendered(spoken: Spoken, render: Any = chat) -> Recount:
    found = recount_answer(spoken, "here", counter=Words(), prompts=PromptCounter(Words(), render))
    assert found is not None
    return found


def test_a_template_shows_the_answer_to_its_end() -> None:
    assert rendered(Spoken(content="one two", output_tokens=3)) == ("here", 3, 2, 3, True)


def test_what_the_template_drops_is_counted_by_pieces() -> None:
    assert not rendered(Spoken(reasoning="because", content="one", output_tokens=3)).rendered


def test_an_answer_that_was_cut_is_counted_by_pieces() -> None:
    assert not rendered(Spoken(content="one two", output_tokens=2, finish_reason="length")).rendered


def test_a_template_that_renders_answers_in_another_place_or_not_at_all() -> None:
    def elsewhere(messages: Any, tools: Any = None) -> str:
        return f"{len(messages)} {chat(messages)}"

    def refusing(messages: Any, tools: Any = None) -> str:
        raise DatasetError("no")

    for render in (elsewhere, refusing):
        assert not rendered(Spoken(content="one two", output_tokens=3), render).rendered


def test_answers_of_a_real_model_as_its_encoding_writes_them() -> None:
    pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not installed")
    if not DEEPSEEK_V4.is_dir():
        pytest.skip(f"{DEEPSEEK_V4} is not there")
    prompts = open_prompt_counter(str(DEEPSEEK_V4))
    written = (
        "I look at the file.</think>Here it is.\n\n<｜DSML｜tool_calls>\n"
        '<｜DSML｜invoke name="read">\n<｜DSML｜parameter name="path" string="true">a.py</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="limit" string="false">20</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        "</｜DSML｜tool_calls><｜end▁of▁sentence｜>"
    )
    spoken = Spoken(
        reasoning="I look at the file.",
        content="Here it is.",
        calls=(ToolCall("read", '{"path": "a.py", "limit": 20}'),),
        finish_reason="tool_calls",
        output_tokens=prompts.count(written),
    )
    exact = recount_answer(spoken, "here", counter=prompts, prompts=prompts)
    assert exact is not None
    assert (exact.high, exact.rendered, exact.beyond) == (exact.claimed, True, 0)
    by_pieces = recount_answer(spoken, "here", counter=prompts, prompts=None)
    assert by_pieces is not None
    assert by_pieces.low < by_pieces.claimed <= by_pieces.high
