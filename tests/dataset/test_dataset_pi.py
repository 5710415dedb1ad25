"""pi sessions: trees of entries, compaction, answers that were cut, hostile files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dataset_reader_support import DATA, DEEP, NO_DATA, chosen, imported, is_storable, lines_file
from hostile_support import survives, survives_all
from recording_support import json_lines

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import pi

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_000_000
HEADER = {"type": "session", "id": "s1", "cwd": "/w", "version": 3}
NO_ID = "no id"


def entry(id_: str, parent: str | None, at_ms: int = 0, **more: Any) -> dict[str, Any]:
    ids = {} if id_ == NO_ID else {"id": id_, "parentId": parent}
    return {"type": "message", **ids, "timestamp": f"2026-01-01T00:00:{at_ms / 1000:06.3f}Z", **more}


def user(id_: str, parent: str | None, words: str) -> dict[str, Any]:
    return entry(id_, parent, message={"role": "user", "content": words})


def answer(id_: str, parent: str | None, *parts: Any, at_ms: int = 0, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    usage = {"input": 3, "output": 7, "cacheRead": 100, "cacheWrite": 20}
    message = {"role": "assistant", "content": content, "model": "m", "usage": usage, "stopReason": "stop"}
    return entry(id_, parent, at_ms, message={**message, **more})


def call(id_: str, name: str = "bash") -> dict[str, Any]:
    return {"type": "toolCall", "id": id_, "name": name, "arguments": {"command": "ls"}}


def result(id_: str, parent: str | None, call_id: str, shown: str = "f", at_ms: int = 0) -> dict[str, Any]:
    content = [{"type": "text", "text": shown}]
    message = {"role": "toolResult", "toolCallId": call_id, "toolName": "bash", "content": content}
    return entry(id_, parent, at_ms, message=message)


def contents(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["content"] for message in messages]


def test_a_session_without_ids_is_one_line_of_entries(tmp_path: Path) -> None:
    rows = [
        {"type": "session", "id": "s1", "cwd": "/w", "provider": "p", "modelId": "m"},
        user(NO_ID, None, "Go."),
        answer(NO_ID, None, "Looking.", call("a"), call("b", "read"), at_ms=1_000),
        result(NO_ID, None, "a", at_ms=1_200),
        result(NO_ID, None, "b", at_ms=1_250),
        {"type": "model_change", "provider": "p", "modelId": "n"},
        answer(NO_ID, None, "Done."),
    ]
    path = lines_file(tmp_path / "s.jsonl", *rows)
    assert chosen(path) == "pi"
    found = imported(pi, path)
    first, second = found.only.turns
    assert (found.only.id, found.only.model) == ("s1", "m")
    assert (first.prompt_tokens, first.output_tokens) == (123, 7)
    # The second ran, or was written, after the first.
    assert [(c.name, c.duration_ns) for c in first.tool_calls] == [("bash", 200 * MS), ("read", 50 * MS)]
    assert first.tool_delay_ns == 250 * MS
    assert [message["role"] for message in found.prompts(1)] == ["user", "assistant", "tool", "tool"]
    assert found.prompts(1)[1]["tool_calls"][0]["function"] == {
        "name": "bash",
        "arguments": '{"command":"ls"}',
    }
    assert second.tool_calls == ()


def test_a_branch_continues_from_its_parent(tmp_path: Path) -> None:
    rows = [
        HEADER,
        user("u1", None, "One."),
        answer("a1", "u1", "A."),
        user("u2", "a1", "Two."),
        answer("a2", "u2", "B."),
        {"type": "branch_summary", "id": "b", "parentId": "a1", "summary": "tried B"},
        user("u3", "b", "Three."),
        answer("a3", "u3", "C."),
        user("u4", "a2", "Four."),
        answer("a4", "u4", "D."),
        user("u5", None, "Anew."),
        answer("a5", "u5", "E."),
    ]
    found = imported(pi, lines_file(tmp_path / "s.jsonl", *rows))
    assert len(found.only.turns) == 5
    summary = "The following is a summary of a branch that this conversation came back from:"
    assert contents(found.prompts(2)) == [
        "One.",
        "A.",
        f"{summary}\n\n<summary>\ntried B</summary>",
        "Three.",
    ]
    assert contents(found.prompts(3)) == ["One.", "A.", "Two.", "B.", "Four."]
    assert contents(found.prompts(4)) == ["Anew."]


@pytest.mark.parametrize("kept", [{"firstKeptEntryId": "u2"}, {"firstKeptEntryIndex": 3}])
def test_a_compaction_keeps_the_latest_entries(tmp_path: Path, kept: dict[str, Any]) -> None:
    rows = [
        HEADER,
        user("u1", None, "One."),
        answer("a1", "u1", "A."),
        user("u2", "a1", "Two."),
        answer("a2", "u2", "B."),
        {"type": "compaction", "id": "c", "parentId": "a2", "summary": "so far", **kept},
        user("u3", "c", "Three."),
        answer("a3", "u3", "C."),
    ]
    found = imported(pi, lines_file(tmp_path / "s.jsonl", *rows))
    summary, *rest = contents(found.prompts(2))
    assert summary.endswith("<summary>\nso far\n</summary>")
    assert rest == ["Two.", "B.", "Three."]


def test_an_answer_that_was_cut_counts_but_its_calls_did_not_run(tmp_path: Path) -> None:
    rows = [
        HEADER,
        user("u1", None, "One."),
        answer("a0", "u1", stopReason="aborted"),
        answer("a1", "u1", "Let me", call("x"), stopReason="aborted"),
        user("u2", "a1", "Two."),
        answer("a2", "u2", call("y"), stopReason="error"),
        user("u3", "a2", "Three."),
        answer("a3", "u3", "Done."),
    ]
    found = imported(pi, lines_file(tmp_path / "s.jsonl", *rows))
    assert [turn.output_tokens for turn in found.only.turns] == [None, None, 7]
    assert [turn.tool_calls for turn in found.only.turns] == [(), (), ()]
    assert [turn.tool_delay_ns for turn in found.only.turns] == [0, 0, 0]
    assert contents(found.prompts(2)) == ["One.", "Let me", "Two.", "Three."]
    assert not any("tool_calls" in message for message in found.prompts(2))
    assert found.notes["requests without an answer"] == 1


def test_reasoning_and_other_entries(tmp_path: Path) -> None:
    thinking = {"type": "thinking", "thinking": "because"}
    bash = {"role": "bashExecution", "command": "ls", "output": "f", "exitCode": 2}
    rows = [
        HEADER,
        user("u1", None, "One."),
        answer("a1", "u1", thinking, "A."),
        answer("a2", "a1", thinking, "B.", api="openai-responses"),
        entry("x", "a2", message=bash),
        entry("y", "x", message={**bash, "excludeFromContext": True}),
        {"type": "custom_message", "id": "z", "parentId": "y", "content": "from an extension"},
        {"type": "label", "id": "l", "parentId": "z", "targetId": "x"},
        answer("a3", "l", "C."),
    ]
    found = imported(pi, lines_file(tmp_path / "s.jsonl", *rows))
    messages = found.prompts(2)
    assert [message.get("reasoning_content") for message in messages] == [None, "because", None, None, None]
    assert contents(messages)[3:] == [
        "Ran `ls`\n```\nf\n```\n\nCommand exited with code 2",
        "from an extension",
    ]


def test_a_parent_that_is_not_recorded(tmp_path: Path) -> None:
    rows = [HEADER, user("u1", None, "One."), user("u2", "lost", "Two."), answer("a1", "u2", "A.")]
    found = imported(pi, lines_file(tmp_path / "s.jsonl", *rows))
    assert contents(found.prompts(0)) == ["One.", "Two."]
    assert found.notes["entries whose parent is not recorded: taken to follow the one before"] == 1


SMALL = [
    HEADER,
    user("u1", None, "One."),
    answer("a1", "u1", "A.", call("x"), {"type": "thinking", "thinking": "t"}),
    result("r1", "a1", "x", at_ms=5),
    {"type": "compaction", "id": "c", "parentId": "r1", "summary": "s", "firstKeptEntryId": "a1"},
    {"type": "branch_summary", "id": "b", "parentId": "u1", "summary": "s"},
    entry("e", "b", message={"role": "bashExecution", "command": "ls", "output": "f", "exitCode": 2}),
    answer("a2", "c", "B."),
]


def test_junk_in_any_place_is_refused_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    survives_all(path, pi.NAME, SMALL, json_lines)


def test_an_id_that_comes_twice_and_is_its_own_parent(tmp_path: Path) -> None:
    rows = [
        HEADER,
        user("u", None, "One."),
        user("u", "u", "Two."),
        user("u", "u", "Three."),
        answer("a", "u", "A."),
    ]
    assert survives(lines_file(tmp_path / "s.jsonl", *rows), pi.NAME)


@pytest.mark.parametrize("data", [b'"x"\n', b'{"type":"session","id":"\xff"}\n', b"[" * DEEP + b"\n"])
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"s\.jsonl"):
        imported(pi, path)


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
def test_a_real_session(tmp_path: Path) -> None:
    path = DATA / "trajectories" / "pi" / "large-session.jsonl"
    assert chosen(path) == "pi"
    found = imported(pi, path)
    trajectory = found.only
    turns = trajectory.turns
    assert (trajectory.model, trajectory.language) == ("claude-sonnet-4-5", "TypeScript")
    assert len(turns) == 439
    assert (turns[0].prompt_tokens, turns[-1].prompt_tokens) == (1_687, 177_604)
    assert sum(turn.prompt_tokens or 0 for turn in turns) == 47_526_750
    assert sum(turn.output_tokens or 0 for turn in turns) == 83_121
    assert [turn.output_tokens for turn in turns].count(None) == 8
    durations_ns = [call.duration_ns for turn in turns for call in turn.tool_calls]
    assert len(durations_ns) == 373
    assert sum(duration or 0 for duration in durations_ns) == 116_936 * MS
    assert max(duration or 0 for duration in durations_ns) == 7_808 * MS
    assert found.notes["requests without an answer"] == 14
    is_storable([trajectory], tmp_path / "set")
