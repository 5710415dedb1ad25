"""OpenTelemetry gen_ai traces: shapes of export, forms of messages, conversations, tool spans, hostile files."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_reader_support import (
    DATA,
    DEEP,
    NO_DATA,
    Imported,
    chosen,
    imported,
    is_storable,
    json_file,
    lines_file,
)
from hostile_support import survives_all

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import otel_genai

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_000_000
USER = {"role": "user", "parts": [{"type": "text", "content": "Go."}]}
CALL = {
    "role": "assistant",
    "parts": [
        {"type": "reasoning", "content": "because"},
        {"type": "text", "content": "Looking."},
        {"type": "tool_call", "id": "c1", "name": "bash", "arguments": {"cmd": "ls"}},
    ],
}
RESULT = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "f.py"}]}
DONE = {"role": "assistant", "parts": [{"type": "text", "content": "Done."}], "finish_reason": "stop"}


def span(span_id: str, start_ms: int, end_ms: int, operation: str = "chat", **more: Any) -> dict[str, Any]:
    attributes = {f"gen_ai.{name.replace('__', '.')}": value for name, value in more.items()}
    return {
        "trace_id": "t1",
        "span_id": span_id,
        "parent_span_id": None,
        "name": f"{operation} x",
        "start_time": f"2026-01-01T00:00:{start_ms / 1000:06.3f}Z",
        "end_time": f"2026-01-01T00:00:{end_ms / 1000:06.3f}Z",
        "attributes": {"gen_ai.operation.name": operation, **attributes},
    }


def chat(span_id: str, start_ms: int, end_ms: int, asked: Any, answered: Any, **more: Any) -> dict[str, Any]:
    asked = asked if isinstance(asked, str) else json.dumps(asked)
    return span(span_id, start_ms, end_ms, input__messages=asked, output__messages=answered, **more)


FIRST = chat(
    "a",
    0,
    1_000,
    [USER],
    json.dumps([CALL]),
    usage__input_tokens=100,
    usage__output_tokens=9,
    request__model="m",
)
TOOL = span("b", 1_000, 1_250, "execute_tool", tool__name="bash", tool__call__id="c1")
SECOND = chat("c", 1_300, 2_000, [USER, CALL, RESULT], [DONE])


def check_two_turns(found: Imported) -> None:
    first, second = found.only.turns
    assert (found.only.id, found.only.model) == ("t1", "m")
    assert (first.prompt_tokens, first.output_tokens) == (100, 9)
    assert (second.prompt_tokens, second.output_tokens) == (None, None)
    assert [(c.id, c.name, c.duration_ns) for c in first.tool_calls] == [("c1", "bash", 250 * MS)]
    assert first.tool_delay_ns == 250 * MS
    assert found.prompts(1) == [
        {"role": "user", "content": "Go."},
        {
            "role": "assistant",
            "content": "Looking.",
            "reasoning_content": "because",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"cmd":"ls"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "f.py"},
    ]


def typed(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(one) for one in value]}}
    return {"kvlistValue": {"values": [{"key": key, "value": typed(one)} for key, one in value.items()]}}


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    start_ns = 1_767_225_600_000_000_000

    def at(time: str) -> str:
        return str(start_ns + round(float(time[17:-1]) * 1e9))

    converted = [
        {
            "traceId": one["trace_id"],
            "spanId": one["span_id"],
            "name": one["name"],
            "startTimeUnixNano": at(one["start_time"]),
            "endTimeUnixNano": at(one["end_time"]),
            "attributes": [{"key": key, "value": typed(value)} for key, value in one["attributes"].items()],
        }
        for one in spans
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "agent"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": converted}]}]}


def test_every_shape_of_export(tmp_path: Path) -> None:
    spans = (TOOL, SECOND, FIRST)
    paths = [
        json_file(tmp_path / "spans.json", {"spans": spans}),
        json_file(tmp_path / "list.json", spans),
        lines_file(tmp_path / "spans.jsonl", *spans),
        json_file(tmp_path / "otlp.json", otlp(*spans)),
        lines_file(tmp_path / "otlp.jsonl", otlp(TOOL), otlp(FIRST), otlp(SECOND)),
    ]
    pretty = tmp_path / "pretty.json"
    pretty.write_text(json.dumps({"spans": spans}, indent=1))
    packed = tmp_path / "pretty.json.gz"
    packed.write_bytes(gzip.compress(pretty.read_bytes()))
    for path in (*paths, pretty):
        assert chosen(path) == "otel-genai"
    for path in (*paths, pretty, packed):
        check_two_turns(imported(otel_genai, path))


def test_messages_in_the_providers_own_forms(tmp_path: Path) -> None:
    anthropic = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Go.", "cache_control": {"type": "ephemeral"}}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "because"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c1", "name": "bash", "input": {"cmd": "ls"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "f.py"}]}
            ],
        },
    ]
    function = {"name": "bash", "arguments": '{"cmd":"ls"}'}
    openai = [
        {"role": "user", "content": "Go."},
        {
            "role": "assistant",
            "content": "Looking.",
            "reasoning_content": "because",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "f.py"},
    ]
    for asked in (anthropic, openai):
        second = chat("c", 1_300, 2_000, asked, [DONE])
        check_two_turns(imported(otel_genai, lines_file(tmp_path / "t.jsonl", FIRST, TOOL, second)))


def test_system_instructions_and_tools_have_attributes_of_their_own(tmp_path: Path) -> None:
    tool = {"type": "function", "name": "bash", "description": "Run.", "parameters": {"type": "object"}}
    one = chat("a", 0, 1, [USER], [DONE], system_instructions='[{"type":"text","content":"Be brief."}]')
    one["attributes"]["gen_ai.tool.definitions"] = json.dumps([tool])
    found = imported(otel_genai, lines_file(tmp_path / "t.jsonl", one))
    assert found.prompts(0)[0] == {"role": "system", "content": "Be brief."}
    function = {"name": "bash", "description": "Run.", "parameters": {"type": "object"}}
    assert found.only.tool_sets == (({"type": "function", "function": function},),)


def test_messages_recorded_as_an_event(tmp_path: Path) -> None:
    attributes = {"gen_ai.input.messages": [USER], "gen_ai.output.messages": [DONE]}
    one = {**span("a", 0, 1), "events": [{"name": "details", "attributes": attributes}]}
    assert len(imported(otel_genai, lines_file(tmp_path / "t.jsonl", one)).only.turns) == 1


@pytest.mark.parametrize(
    ("usage", "prompt_tokens"),
    [
        ({"usage__input_tokens": 100, "usage__cache_read__input_tokens": 90}, 100),
        ({"usage__input_tokens": 10, "usage__cache_read__input_tokens": 90}, 100),
        ({"usage__prompt_tokens": 7}, 7),
        ({"usage__input_tokens": "7"}, None),
    ],
)
def test_cached_tokens_are_part_of_the_prompt(
    tmp_path: Path, usage: dict[str, Any], prompt_tokens: int | None
) -> None:
    one = chat("a", 0, 1, [USER], [DONE], **usage)
    (turn,) = imported(otel_genai, lines_file(tmp_path / "t.jsonl", one)).only.turns
    assert turn.prompt_tokens == prompt_tokens


def test_a_request_that_two_instrumentations_recorded_is_one(tmp_path: Path) -> None:
    again = {**FIRST, "span_id": "z", "attributes": {**FIRST["attributes"], "gen_ai.response.id": "r"}}
    twice = [again, {**again, "span_id": "y"}]
    inside = {**SECOND, "span_id": "d", "parent_span_id": "c"}
    found = imported(otel_genai, lines_file(tmp_path / "t.jsonl", *twice, TOOL, SECOND, inside))
    assert len(found.only.turns) == 2
    assert found.notes == {"requests recorded twice": 1, "requests recorded again by a span inside": 1}


def test_conversations_agents_and_overlapping_requests_are_kept_apart(tmp_path: Path) -> None:
    spans = [
        chat("a", 0, 10, [USER], [DONE], conversation__id="one"),
        chat("b", 5, 15, [USER], [DONE], conversation__id="one"),
        chat("c", 20, 30, [USER], [DONE], conversation__id="one"),
        chat("d", 20, 30, [USER], [DONE], conversation__id="one", agent__name="helper"),
        chat("e", 0, 10, [USER], [DONE], conversation__id="two"),
    ]
    found = imported(otel_genai, lines_file(tmp_path / "t.jsonl", *spans))
    assert [(trajectory.id, len(trajectory.turns)) for trajectory in found.trajectories] == [
        ("one", 2),
        ("one", 1),
        ("two", 1),
        ("one-helper", 1),
    ]


def test_tool_spans_without_ids_go_by_name_and_time_and_parallel_ones_count_once(tmp_path: Path) -> None:
    calls = [{"type": "tool_call", "id": id_, "name": "bash", "arguments": "{}"} for id_ in ("x", "y")]
    spans = [
        chat("a", 0, 1_000, [USER], [{"role": "assistant", "parts": calls}]),
        span("b", 1_000, 1_400, "execute_tool", tool__name="bash"),
        span("c", 1_100, 1_500, "execute_tool", tool__name="bash"),
        span("d", 1_100, 9_000, "execute_tool", tool__name="bash"),
        chat("e", 1_500, 2_000, [USER], [DONE]),
    ]
    turn = imported(otel_genai, lines_file(tmp_path / "t.jsonl", *spans)).only.turns[0]
    assert [call.duration_ns for call in turn.tool_calls] == [400 * MS, 400 * MS]
    assert turn.tool_delay_ns == 500 * MS


def test_traces_without_requests_or_text_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = lines_file(tmp_path / "t.jsonl", TOOL)
    with pytest.raises(DatasetError, match="no span is a model request"):
        imported(otel_genai, path)
    silent = span("a", 0, 1, usage__input_tokens=5)
    with pytest.raises(DatasetError, match="no message text: none of its 2 chat spans") as refused:
        imported(otel_genai, lines_file(path, silent, silent))
    assert "CAPTURE_MESSAGE_CONTENT" in str(refused.value)


def test_requests_that_are_cut_or_unanswered_are_left_out(tmp_path: Path) -> None:
    spans = [
        chat("a", 0, 1, '[{"role": "user", "cont', [DONE]),
        chat("b", 2, 3, [USER], []),
        chat("c", 4, 5, [USER], [DONE]),
    ]
    found = imported(otel_genai, lines_file(tmp_path / "t.jsonl", *spans))
    assert len(found.only.turns) == 1
    assert found.notes == {
        "requests without message text, or with a text that is cut": 1,
        "requests without an answer": 1,
    }


def test_junk_in_any_place_is_refused_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    plain = {**FIRST, "attributes": {**FIRST["attributes"], "gen_ai.input.messages": [USER, CALL, RESULT]}}
    for small in ([plain, TOOL, SECOND], otlp(FIRST, TOOL, SECOND)):
        survives_all(path, otel_genai.NAME, small)


@pytest.mark.parametrize("data", [b"", b"7", b'{"spans": "\xff"}', b"[" * DEEP, b"{}\n{\n"])
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"t\.json"):
        imported(otel_genai, path)


REAL = {
    "simple_chain.json": [("paris_conversation_chain", 3)],
    "fan_in_dependencies.json": [("test_trace_003", 3), ("test_trace_003", 1)],
    "code_review_workflow.json": [
        ("test_trace_005-coordinator-agent", 6),
        ("test_trace_005-security-agent", 2),
        ("test_trace_005-performance-agent", 2),
        ("test_trace_005-quality-agent", 2),
        ("test_trace_005-qa-unit-agent", 1),
        ("test_trace_005-qa-integration-agent", 1),
        ("test_trace_005-qa-security-agent", 1),
    ],
    "tau2_retail_claude_code_315397.json": [("6c59de4e", 2)],
}


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
@pytest.mark.parametrize("name", REAL)
def test_traces_of_inference_perf(name: str, tmp_path: Path) -> None:
    path = DATA / "traces" / "otel_genai" / name
    assert chosen(path) == "otel-genai"
    found = imported(otel_genai, path)
    assert [(trajectory.id, len(trajectory.turns)) for trajectory in found.trajectories] == REAL[name]
    if name != "fan_in_dependencies.json":
        is_storable(found.trajectories, tmp_path / "set")


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
def test_a_real_run_of_claude_code_as_spans() -> None:
    found = imported(otel_genai, DATA / "traces" / "otel_genai" / "tau2_retail_claude_code_315397.json")
    turns = found.only.turns
    assert [(turn.prompt_tokens, turn.output_tokens) for turn in turns] == [(1_690, 161), (1_780, 54)]
    assert [(call.name, call.duration_ns) for call in turns[0].tool_calls] == [("AskUserQuestion", None)]
    # A person answers that question.
    assert turns[0].tool_delay_ns == 0
    assert [message["role"] for message in found.prompts(1)] == ["user", "assistant", "tool"]
    assert found.prompts(0) == found.prompts(1)[:1]
    assert found.prompts(1)[2]["content"] == "Answer questions?"
    assert found.notes == {"requests recorded twice": 2}
