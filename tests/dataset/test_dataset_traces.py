"""Readers of traces without text, on small hand-written traces: conversations, tool time, notes."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from trace_support import prompt_tokens, read_all, shared_tokens, write_rows

from pytest_agentperf.dataset.formats import azure, dynamo, kv_cache_tester, lmcache, mooncake
from pytest_agentperf.dataset.formats.base import ImportContext, Peek

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory


def roles(trajectory: Trajectory, turn: int) -> list[str]:
    return [message["role"] for message in trajectory.request_messages(trajectory.turns[turn])]


def lengths(trajectory: Trajectory) -> list[tuple[int | None, int | None]]:
    return [(turn.prompt_tokens, turn.output_tokens) for turn in trajectory.turns]


def mooncake_row(input_length: int, output_length: int, hash_ids: list[int]) -> dict[str, Any]:
    return {
        "timestamp": 0,
        "input_length": input_length,
        "output_length": output_length,
        "hash_ids": hash_ids,
    }


class TestMooncake:
    def test_conversations_are_rows_that_extend_one_another(self, tmp_path: Path) -> None:
        rows = [
            mooncake_row(1100, 50, [0, 1, 2]),
            mooncake_row(900, 20, [0, 3]),
            mooncake_row(1600, 30, [0, 1, 4, 5]),
            mooncake_row(1700, 30, [0, 1, 6, 7]),
            mooncake_row(2000, 40, [0, 1, 4, 8]),
        ]
        found = read_all(write_rows(tmp_path / "t.jsonl", rows))
        # Row 2 shares a system prompt alone; row 4 branches off row 1, which row 3 continued already.
        assert [lengths(trajectory) for trajectory in found] == [
            [(1100, 50), (1600, 30), (2000, 40)],
            [(900, 20)],
            [(1700, 30)],
        ]
        assert [trajectory.id for trajectory in found] == ["t-1", "t-2", "t-4"]
        assert roles(found[0], 2) == ["user", "assistant"] * 2 + ["user"]
        assert found[0].turns[2].tool_delay_ns == 0
        streams = [prompt_tokens(t.request_messages(t.turns[-1])) for t in found]
        assert 512 <= shared_tokens(streams[0], streams[1]) < 1024
        assert 1024 <= shared_tokens(streams[0], streams[2]) < 1536

    def test_a_conversation_may_go_on_within_a_block(self, tmp_path: Path) -> None:
        rows = [
            mooncake_row(600, 20, [0, 1]),
            mooncake_row(700, 20, [0, 2]),
            mooncake_row(1500, 20, [0, 3, 4]),
        ]
        (found,) = read_all(write_rows(tmp_path / "t.jsonl", rows))
        assert roles(found, 2) == ["user", "assistant"] * 2 + ["user"]
        assert all(len(turn.message_runs) == 1 for turn in found.turns)

    def test_another_question_on_a_document_is_no_continuation(self, tmp_path: Path) -> None:
        rows = [mooncake_row(1000, 20, [0, 1]), mooncake_row(1010, 20, [0, 2])]
        assert len(read_all(write_rows(tmp_path / "t.jsonl", rows))) == 2

    def test_the_same_again_is_no_continuation(self, tmp_path: Path) -> None:
        rows = [mooncake_row(1000, 20, [0, 1])] * 2
        one, other = read_all(write_rows(tmp_path / "t.jsonl", rows))
        assert one.messages == other.messages

    def test_requests_without_an_answer_are_noted(self, tmp_path: Path) -> None:
        context = ImportContext()
        rows = [mooncake_row(1000, 0, [0, 1]), mooncake_row(0, 5, [])]
        assert read_all(write_rows(tmp_path / "t.jsonl", rows), context) == []
        assert context.notes.lines() == [
            f"requests without a prompt or an answer, left out: 2 (first: {tmp_path / 't.jsonl'}:1)"
        ]

    def test_two_files_share_nothing(self, tmp_path: Path) -> None:
        write_rows(tmp_path / "a.jsonl", [mooncake_row(1000, 20, [0, 1])])
        write_rows(tmp_path / "b.jsonl", [mooncake_row(1001, 20, [0, 1])])
        one, other = (prompt_tokens(trajectory.messages) for trajectory in read_all(tmp_path))
        assert shared_tokens(one, other) < 8

    def test_memory_is_that_of_rows_not_of_blocks(self, tmp_path: Path) -> None:
        rows = [mooncake_row(20, 5, [-1])]
        rows += [mooncake_row(51_200, 20, list(range(100 * row, 100 * row + 100))) for row in range(300)]
        path = write_rows(tmp_path / "t.jsonl", rows)
        del rows
        tracemalloc.start()
        try:
            next(mooncake.read(path, ImportContext()))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # All blocks would be 30,000 numbers and their places in a dictionary, 2 MB. The first 16 MiB of rows that
        # are set aside stay in memory.
        assert peak_bytes - path.stat().st_size < 300 * 2_000


def kv_request(input_tokens: int, output_tokens: int, hash_ids: list[int], **more: Any) -> dict[str, Any]:
    return {
        "t": 0.0,
        "type": "n",
        "model": "m",
        "in": input_tokens,
        "out": output_tokens,
        "hash_ids": hash_ids,
        "input_types": ["tool_result"],
        "output_types": ["tool_use"],
        "stop": "tool_use",
        "api_time": 1.0,
        "think_time": 70.0,
        **more,
    }


def kv_trace(*requests: dict[str, Any], **more: Any) -> str:
    return json.dumps(
        {
            "id": "trace_1",
            "block_size": 64,
            "hash_id_scope": "local",
            "tool_tokens": 60,
            "system_tokens": 40,
            "requests": list(requests),
            **more,
        }
    )


class TestKvCacheTester:
    def test_sub_agents_are_trajectories_and_no_tool_time(self, tmp_path: Path) -> None:
        path = tmp_path / "trace.json"
        agent = {
            "type": "subagent",
            "t": 1.0,
            "agent_id": "agent_001",
            "duration_ms": 90_000,
            "requests": [kv_request(130, 5, [10, 11])],
        }
        path.write_text(
            kv_trace(
                kv_request(200, 20, [1, 2, 3]),
                agent,
                kv_request(300, 20, [1, 2, 3, 4], stop=""),
                kv_request(400, 20, [1, 2, 3, 4, 5, 6]),
                kv_request(450, 20, [1, 2, 3, 4, 5, 6, 7], input_types=["text"]),
            )
        )
        main, sub = read_all(path)
        assert (main.id, sub.id) == ("trace_1", "trace_1-agent_001")
        assert (main.model, sub.model) == ("m", "m")
        assert [[call.name for call in turn.tool_calls] for turn in main.turns] == [
            ["Task"],
            ["unknown"],
            [],
            ["unknown"],
        ]
        assert main.turns[0].tool_calls[0].duration_ns == 90_000_000_000
        # The think time, 70 s, is nobody's tool; a human's message follows the third turn.
        assert main.turns[0].tool_delay_ns == main.turns[2].tool_delay_ns == 0
        assert 0 < main.turns[1].tool_delay_ns < 70_000_000_000
        assert main.turns[1].tool_calls[0].duration_ns is None
        assert roles(main, 2) == ["system", "user", "assistant", "user", "assistant", "user"]
        assert len(prompt_tokens(main.messages[:1])) == 100
        for turn in main.turns:
            assert len(prompt_tokens(main.request_messages(turn))) == turn.prompt_tokens

    def test_a_changed_block_replaces_the_history(self, tmp_path: Path) -> None:
        path = tmp_path / "trace.json"
        path.write_text(
            kv_trace(kv_request(640, 20, list(range(10))), kv_request(700, 20, [0, 1, *range(20, 28)]))
        )
        (found,) = read_all(path)
        one, other = (prompt_tokens(found.request_messages(turn)) for turn in found.turns)
        assert (len(one), len(other)) == (640, 700)
        assert 128 <= shared_tokens(one, other) < 192

    @pytest.mark.parametrize(("scope", "is_shared"), [("local", False), ("global", True)])
    def test_what_hash_ids_mean_in_other_files(self, tmp_path: Path, scope: str, is_shared: bool) -> None:
        for name in ("one", "two"):
            text = kv_trace(kv_request(640, 20, list(range(10))), id=name, hash_id_scope=scope)
            (tmp_path / f"{name}.json").write_text(text)
        one, two = read_all(tmp_path)
        assert (one.messages == two.messages) is is_shared


def dynamo_event(
    event_type: str, time_ms: int, session: str | None = "s:root", **more: Any
) -> dict[str, Any]:
    context = {} if session is None else {"agent_context": {"session_id": session}}
    event = {"schema": "dynamo.request.trace.v1", "event_type": event_type, "event_time_unix_ms": time_ms}
    return {"timestamp": 0, "event": {**event, **context, **more}}


def dynamo_request(received_ms: int, tokens: int, hashes: list[int], **more: Any) -> dict[str, Any]:
    replay = {"trace_block_size": 16, "input_length": tokens, "input_sequence_hashes": hashes}
    request = {
        "request_id": "r",
        "model": "m",
        "output_tokens": 16,
        "request_received_ms": received_ms,
        "total_time_ms": 10.0,
        "replay": replay,
    }
    return dynamo_event("request_end", received_ms + 10, request=request, **more)


def dynamo_tool(call_id: str, tool: str, start_ms: int, duration_ms: float | None) -> list[dict[str, Any]]:
    call = {"tool_call_id": call_id, "tool_class": tool, "started_at_unix_ms": start_ms}
    events = [dynamo_event("tool_start", start_ms, tool=call)]
    if duration_ms is not None:
        ended = {**call, "ended_at_unix_ms": start_ms + int(duration_ms), "duration_ms": duration_ms}
        events.append(dynamo_event("tool_end", start_ms, tool=ended))
    return events


class TestDynamo:
    def test_sessions_tools_and_order(self, tmp_path: Path) -> None:
        rows = [
            dynamo_request(100, 64, [1, 2, 3, 4]),
            *dynamo_tool("a", "read", 120, 30.5),
            *dynamo_tool("b", "bash", 130, 10.0),
            *dynamo_tool("c", "ls", 170, 5.0),
            dynamo_request(140, 20, [8, 9], session="s:sub"),
            # The file has them in the order of their ends.
            dynamo_request(500, 170, [1, 2, 3, 4, *range(20, 27)]),
            dynamo_request(200, 100, [1, 2, 3, 4, 20, 21, 30]),
            *dynamo_tool("d", "subagent", 220, 200.0),
            dynamo_request(900, 15, [77], session=None),
        ]
        path = tmp_path / "trace.jsonl.gz"
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        main, sub, lone = read_all(path)
        assert [main.id, sub.id, lone.id] == ["s-root", "s-sub", "r"]
        assert [turn.prompt_tokens for turn in main.turns] == [64, 100, 170]
        # Two ran side by side: 120 to 150.5; then one from 170 to 175.
        assert main.turns[0].tool_delay_ns == 35_500_000
        assert [(c.id, c.name, c.duration_ns) for c in main.turns[0].tool_calls] == [
            ("a", "read", 30_500_000),
            ("b", "bash", 10_000_000),
            ("c", "ls", 5_000_000),
        ]
        assert main.turns[1].tool_delay_ns == 0
        assert roles(main, 2) == ["user", "assistant", "user", "assistant", "user"]
        assert main.model == "m"

    def test_a_tool_without_an_end_is_drawn(self, tmp_path: Path) -> None:
        rows = [
            dynamo_request(100, 64, [1, 2, 3, 4]),
            *dynamo_tool("a", "bash", 120, None),
            *dynamo_tool("b", "bash", 50, 1.0),
        ]
        context = ImportContext()
        (found,) = read_all(write_rows(tmp_path / "t.jsonl", rows), context)
        assert found.turns[0].tool_calls[0].duration_ns is None
        assert found.turns[0].tool_delay_ns > 0
        assert [line.split(":")[0] for line in context.notes.lines()] == [
            "tool calls of no known turn, left out"
        ]

    def test_what_cannot_be_a_turn_is_noted(self, tmp_path: Path) -> None:
        without_hashes = dynamo_request(100, 64, [1, 2, 3, 4])
        del without_hashes["event"]["request"]["replay"]
        unanswered = dynamo_request(100, 64, [1, 2, 3, 4])
        unanswered["event"]["request"]["output_tokens"] = None
        rows = [without_hashes, unanswered, dynamo_event("request_payload", 5)]
        context = ImportContext()
        assert read_all(write_rows(tmp_path / "t.jsonl", rows), context) == []
        assert len(context.notes.lines()) == 3


class TestAzure:
    def test_rows_are_single_turns(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(
            b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023,48,10\r\n2023,48,10\r\n2023,2,1\r\n2023,9,0\r\n"
        )
        context = ImportContext()
        found = read_all(path, context)
        assert [(t.id, lengths(t)) for t in found] == [
            ("t-2", [(48, 10)]),
            ("t-3", [(48, 10)]),
            ("t-4", [(2, 1)]),
        ]
        streams = [prompt_tokens(t.messages) for t in found]
        assert [len(stream) for stream in streams] == [48, 48, 5]
        assert shared_tokens(streams[0], streams[1]) < 8
        assert len(context.notes.lines()) == 1


class TestLmcache:
    def test_answers_go_between_what_the_agent_said(self, tmp_path: Path) -> None:
        first, result = "Fix it.", "<returncode>0</returncode>"
        rows = [
            {"timestamp": 3, "input": f"{first}\n\n{result}", "output": "two", "session_id": "s"},
            {"timestamp": 9, "input": "A summary.", "output": "four", "session_id": "s"},
            {"timestamp": 1, "input": first, "output": "one", "session_id": "s"},
            {"timestamp": 5, "input": f"{first}\n\n{result}\n\nMore.", "output": "three", "session_id": "s"},
            {"timestamp": 2, "input": "Else.", "output": "else", "session_id": "t"},
            {"timestamp": 4, "input": "Else.\n\nelse\n\nGo on.", "output": "", "session_id": "t"},
            {"timestamp": 5, "input": "Else.\n\nelse\n\nGo on.", "output": "on", "session_id": "t"},
        ]
        context = ImportContext()
        one, two = read_all(write_rows(tmp_path / "t.jsonl", rows), context)
        assert (one.id, two.id) == ("s", "t")
        contents = [[m["content"] for m in one.request_messages(turn)] for turn in one.turns]
        assert contents == [
            [first],
            [first, "one", result],
            [first, "one", result, "two", "More."],
            ["A summary."],
        ]
        assert [[call.name for call in turn.tool_calls] for turn in one.turns] == [["bash"], [], [], []]
        assert one.turns[0].tool_delay_ns > 0
        assert [m["content"] for m in two.request_messages(two.turns[1])] == ["Else.", "else", "Go on."]
        assert one.turns[0].prompt_tokens is None
        assert len(context.notes.lines()) == 2

    def test_the_same_asked_again_is_the_same_prompt(self, tmp_path: Path) -> None:
        rows = [{"timestamp": i, "input": "x", "output": f"{i}", "session_id": "s"} for i in range(2)]
        (found,) = read_all(write_rows(tmp_path / "t.jsonl", rows))
        assert found.request_messages(found.turns[0]) == found.request_messages(found.turns[1])


def test_each_is_recognised_by_its_reader_alone(tmp_path: Path) -> None:
    paths = {
        mooncake: write_rows(tmp_path / "m.jsonl", [mooncake_row(10, 1, [0])]),
        dynamo: write_rows(tmp_path / "d.jsonl", [dynamo_request(1, 10, [1])]),
        lmcache: write_rows(
            tmp_path / "l.jsonl", [{"timestamp": 1, "input": "a", "output": "b", "session_id": "c"}]
        ),
        kv_cache_tester: tmp_path / "k.json",
        azure: tmp_path / "a.csv",
    }
    paths[kv_cache_tester].write_text(kv_trace())
    paths[azure].write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    for reader, path in paths.items():
        recognised = [other.NAME for other in paths if other.recognises(Peek(path))]
        assert recognised == [reader.NAME]
