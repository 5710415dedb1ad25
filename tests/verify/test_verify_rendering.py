from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.verify.rendering import deepseek_v4, deepseek_v32, renderer_for

TOKENIZERS = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
SYSTEM = {"role": "system", "content": "S"}
USER = {"role": "user", "content": "U"}
TOOL = {"type": "function", "function": {"name": "f"}}


def called(*ids: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    calls = [
        {"id": one, "type": "function", "function": {"name": one, "arguments": arguments}} for one in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls, **more}


def result(call_id: str, content: Any = "R") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("deepseek-v3.2", "test_input.json", "test_output.txt"),
        ("deepseek-v3.2", "test_input_search_wo_date.json", "test_output_search_wo_date.txt"),
        ("deepseek-v4", "test_input_1.json", "test_output_1.txt"),
        ("deepseek-v4", "test_input_2.json", "test_output_2.txt"),
        ("deepseek-v4", "test_input_3.json", "test_output_3.txt"),
    ],
)
def test_published_vectors(name: str, given: str, expected: str) -> None:
    folder = TOKENIZERS / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    value = json.loads((folder / given).read_bytes())
    messages, tools = (value, None) if isinstance(value, list) else (value["messages"], value.get("tools"))
    render = deepseek_v4.render if name == "deepseek-v4" else deepseek_v32.render
    # One of the files ends with a line end that is the file's own.
    assert render(messages, tools).encode() == (folder / expected).read_bytes().removesuffix(b"\n")


def test_v4_ends_where_the_answer_begins() -> None:
    assert deepseek_v4.render([SYSTEM, USER]).endswith("S<｜User｜>U<｜Assistant｜><think>")
    text = deepseek_v4.render([USER, called("a"), result("a")])
    assert text.endswith("<｜User｜><tool_result>R</tool_result><｜Assistant｜><think>")


def test_v4_puts_results_in_the_order_of_their_calls() -> None:
    text = deepseek_v4.render([USER, called("a", "b"), result("b", "2"), result("a", "1"), USER])
    assert (
        "<｜User｜><tool_result>1</tool_result>\n\n<tool_result>2</tool_result>\n\nU<｜Assistant｜>" in text
    )


def test_v4_keeps_all_reasoning_only_with_tools() -> None:
    messages = [USER, {"role": "assistant", "content": "A", "reasoning_content": "why"}, USER]
    assert "why" not in deepseek_v4.render(messages)
    text = deepseek_v4.render(messages, [TOOL])
    assert "<think>why</think>A" in text
    assert text.startswith("<｜begin▁of▁sentence｜>\n\n## Tools")


def test_v32_keeps_reasoning_of_the_last_question() -> None:
    turn = called("a", reasoning_content="why")
    assert "<think>why</think>" in deepseek_v32.render([USER, turn, result("a")])
    text = deepseek_v32.render([USER, turn, result("a"), USER])
    assert "why" not in text
    assert "<｜Assistant｜></think>\n\n<｜DSML｜function_calls>" in text
    assert text.endswith("</function_results>\n\n</think><｜User｜>U<｜Assistant｜><think>")


def test_arguments() -> None:
    text = deepseek_v4.render([USER, called("f", arguments='{"a": "x", "b": [1, "é"], "c": null}')])
    assert 'name="a" string="true">x<' in text
    assert 'name="b" string="false">[1, "é"]<' in text
    assert 'name="c" string="false">null<' in text
    for odd in ("{oops", "[1]"):
        assert f'name="arguments" string="true">{odd}<' in deepseek_v4.render(
            [USER, called("f", arguments=odd)]
        )


@pytest.mark.parametrize("render", [deepseek_v32.render, deepseek_v4.render])
def test_what_cannot_be_rendered(render: Any) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert "a\nb" in render([{"role": "user", "content": parts}])
    for messages in (
        [],
        [{"role": "critic", "content": "x"}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "user", "content": 5}],
    ):
        with pytest.raises(DatasetError):
            render(messages)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deepseek-ai/DeepSeek-V4-Pro", "deepseek-v4"),
        ("deepseek-ai/DeepSeek-V3.2", "deepseek-v3.2"),
        ("/models/deepseek_v4/", "deepseek-v4"),
        ("deepseek-ai/DeepSeek-V4.1", None),
        ("deepseek-ai/DeepSeek-V3", None),
        ("deepseek-v4/other", None),
    ],
)
def test_which_encoding_a_name_means(name: str, expected: str | None) -> None:
    assert renderer_for(name) == expected
