"""Codex rollouts: requests out of usage events, durations out of times or outputs, compaction, hostile files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_reader_support import DATA, DEEP, NO_DATA, chosen, imported, is_storable, lines_file
from hostile_support import survives_all
from recording_support import json_lines

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import codex
from pytest_agentperf.dataset.formats.codex_items import stated_duration_ns

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_000_000


def line(kind: str, at_ms: int = 0, **payload: Any) -> dict[str, Any]:
    return {"timestamp": f"2026-01-01T00:00:{at_ms / 1000:06.3f}Z", "type": kind, "payload": payload}


def item(kind: str, at_ms: int = 0, **payload: Any) -> dict[str, Any]:
    return line("response_item", at_ms, **{"type": kind, **payload})


def said(role: str, words: str, at_ms: int = 0) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item("message", at_ms, role=role, content=[{"type": kind, "text": words}])


def call(call_id: str, at_ms: int = 0, name: str = "exec_command") -> dict[str, Any]:
    return item("function_call", at_ms, name=name, arguments='{"cmd":"ls"}', call_id=call_id)


def output(call_id: str, at_ms: int = 0, shown: Any = "done") -> dict[str, Any]:
    return item("function_call_output", at_ms, call_id=call_id, output=shown)


def usage(total: int, prompt: int, answer: int) -> dict[str, Any]:
    last = {"input_tokens": prompt, "cached_input_tokens": 1, "output_tokens": answer, "total_tokens": 9}
    info = {"total_token_usage": {"input_tokens": total}, "last_token_usage": last}
    return line("event_msg", type="token_count", info=info)


NO_USAGE = line("event_msg", type="token_count", info=None)
META = line("session_meta", id="s1", cwd="/w", instructions=None)


def test_a_session_whose_usage_follows_the_answer(tmp_path: Path) -> None:
    rows = [
        META,
        line("turn_context", model="gpt-x"),
        said("developer", "Be brief."),
        said("user", "List."),
        NO_USAGE,
        said("assistant", "Looking."),
        call("a", 1_000),
        usage(10, 10, 5),
        usage(10, 10, 5),
        output("a", 1_250, "f.py"),
        said("assistant", "One file."),
        usage(30, 20, 3),
    ]
    found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
    trajectory = found.only
    assert (trajectory.id, trajectory.model) == ("s1", "gpt-x")
    assert [(turn.prompt_tokens, turn.output_tokens) for turn in trajectory.turns] == [(10, 5), (20, 3)]
    assert [(c.id, c.name, c.duration_ns) for c in trajectory.turns[0].tool_calls] == [
        ("a", "exec_command", 250 * MS)
    ]
    assert found.prompts(1) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "List."},
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "exec_command", "arguments": '{"cmd":"ls"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "f.py"},
    ]


def test_a_session_whose_usage_comes_before_the_answer(tmp_path: Path) -> None:
    shown = json.dumps({"output": "x", "metadata": {"exit_code": 0, "duration_seconds": 1.3}})
    rows = [
        META,
        said("user", "Go."),
        NO_USAGE,
        usage(10, 10, 5),
        call("a", 1_000),
        output("a", 1_001, shown),
        usage(10, 10, 5),
        usage(30, 20, 3),
        call("b", 2_000, "update_plan"),
        output("b", 2_001, "Plan updated"),
        usage(30, 20, 3),
        usage(60, 30, 4),
        said("assistant", "Done."),
    ]
    turns = imported(codex, lines_file(tmp_path / "r.jsonl", *rows)).only.turns
    assert [(turn.prompt_tokens, turn.output_tokens) for turn in turns] == [(10, 5), (20, 3), (30, 4)]
    # All of an answer's rows were written at once: only what the output states is a time.
    assert [call.duration_ns for turn in turns for call in turn.tool_calls] == [1_300 * MS, None]


def test_calls_with_outputs_between_them_are_one_answer_if_usage_says_so(tmp_path: Path) -> None:
    rows = [
        META,
        said("user", "Go."),
        call("a", 100),
        output("a", 400),
        call("b", 300),
        output("b", 500),
        usage(10, 10, 5),
    ]
    (turn,) = imported(codex, lines_file(tmp_path / "r.jsonl", *rows)).only.turns
    assert [call.duration_ns for call in turn.tool_calls] == [300 * MS, 200 * MS]
    # From 100 to 500 ms, side by side.
    assert turn.tool_delay_ns == 400 * MS


def test_without_usage_an_output_ends_an_answer(tmp_path: Path) -> None:
    rows = [
        META,
        said("user", "Go."),
        call("a"),
        output("a"),
        call("b"),
        output("b"),
        said("assistant", "Done."),
    ]
    turns = imported(codex, lines_file(tmp_path / "r.jsonl", *rows)).only.turns
    assert [len(turn.tool_calls) for turn in turns] == [1, 1, 0]
    assert [turn.prompt_tokens for turn in turns] == [None] * 3


@pytest.mark.parametrize(
    ("shown", "duration_ns"),
    [
        ("Exit code: 0\nWall time: 1.5 seconds\nOutput:\nx", 1_500 * MS),
        ("x" * 500 + "\nWall time: 1.5 seconds\n", None),
        ('{"output":"","metadata":{"duration_seconds":0.2}}', 200 * MS),
        ('{"output":"","metadata":{"duration_seconds":true}}', None),
        ('{"output":"","metadata":{"duration_seconds":-1}}', None),
        ('{"output":"","metadata":{"duration_seconds":1e300}}', None),
        ('{"output":"","metadata":{"duration_seconds":NaN}}', None),
        ('{"output":"","metadata":{"duration_seconds":', None),
        ('{"duration_seconds":1}', None),
        ("Plan updated", None),
    ],
)
def test_durations_that_outputs_state(shown: str, duration_ns: int | None) -> None:
    assert stated_duration_ns(shown) == duration_ns


def test_a_stated_duration_excludes_the_wait_for_approval(tmp_path: Path) -> None:
    shown = "Wall time: 0.2 seconds\n"
    rows = [META, said("user", "Go."), call("a", 0), usage(1, 1, 1), output("a", 30_000, shown)]
    (turn,) = imported(codex, lines_file(tmp_path / "r.jsonl", *rows)).only.turns
    assert turn.tool_calls[0].duration_ns == 200 * MS


def test_a_call_that_never_returned_did_not_run_and_is_sent_as_aborted(tmp_path: Path) -> None:
    rows = [
        META,
        said("user", "Go."),
        call("a"),
        usage(1, 1, 1),
        said("user", "Stop."),
        said("assistant", "Yes."),
        usage(2, 2, 2),
        output("a"),
    ]
    found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
    assert found.only.turns[0].tool_calls == ()
    assert found.only.turns[0].tool_delay_ns == 0
    assert [message["content"] for message in found.prompts(1)] == ["Go.", None, "aborted", "Stop."]
    assert found.notes["tool outputs without a call"] == 1


def test_every_kind_of_call(tmp_path: Path) -> None:
    rows = [
        META,
        said("user", "Go."),
        item("custom_tool_call", name="apply_patch", input="*** Begin", call_id="p"),
        item("local_shell_call", action={"type": "exec", "command": ["ls"]}, call_id="l"),
        item("web_search_call", action={"query": "q"}),
        usage(1, 1, 1),
        item("custom_tool_call_output", call_id="p", output=[{"type": "input_text", "text": "ok"}]),
        output("l", shown={"content": "f", "success": True}),
        said("assistant", "Done."),
        usage(2, 2, 2),
    ]
    found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
    calls = found.prompts(1)[1]["tool_calls"]
    assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == [
        ("apply_patch", {"input": "*** Begin"}),
        ("local_shell", {"type": "exec", "command": ["ls"]}),
    ]
    assert [message["content"] for message in found.prompts(1)[2:]] == ["ok", "f"]
    assert found.notes["items that a chat has no message for"] == 1


def test_reasoning_is_carried_where_it_is_text_and_a_summary_never(tmp_path: Path) -> None:
    rows = [
        META,
        said("user", "Go."),
        item(
            "reasoning",
            summary=[{"type": "summary_text", "text": "sum"}],
            content=None,
            encrypted_content="x",
        ),
        said("assistant", "A."),
        usage(1, 1, 1),
        said("user", "On."),
        item("reasoning", summary=[], content=[{"type": "reasoning_text", "text": "because"}]),
        said("assistant", "B."),
        usage(2, 2, 2),
        said("user", "More."),
        said("assistant", "C."),
        usage(3, 3, 3),
    ]
    found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
    assert [m.get("reasoning_content") for m in found.prompts(2) if m["role"] == "assistant"] == [
        None,
        "because",
    ]
    assert found.notes["reasoning whose text is encrypted or not recorded"] == 1


def test_instructions_are_put_first_unless_the_history_has_them(tmp_path: Path) -> None:
    def first(*rows: dict[str, Any]) -> list[Any]:
        answered = (said("user", "Go."), said("assistant", "A."), usage(1, 1, 1))
        found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows, *answered))
        return [(message["role"], message["content"]) for message in found.prompts(0)]

    assert first(line("session_meta", id="s", base_instructions={"text": "Base."})) == [
        ("system", "Base."),
        ("user", "Go."),
    ]
    old = line("session_meta", id="s", instructions="House rules.")
    assert first(old) == [("system", "House rules."), ("user", "Go.")]
    repeated = "<user_instructions>House rules.</user_instructions>"
    assert first(old, said("user", repeated)) == [("user", repeated), ("user", "Go.")]


def test_a_compaction_replaces_the_history(tmp_path: Path) -> None:
    before = [
        line("session_meta", id="s", base_instructions={"text": "Base."}),
        said("user", "Go."),
        said("assistant", "A."),
        usage(1, 1, 1),
    ]
    after = [said("user", "On."), said("assistant", "B."), usage(9, 2, 2)]

    def history(compacted: dict[str, Any]) -> list[Any]:
        rows = [*before, usage(5, 4, 4), line("compacted", **compacted), *after]
        found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
        assert found.notes["requests whose answer is not recorded"] == 1
        return [message["content"] for message in found.prompts(1)]

    replaced = {"message": "S.", "replacement_history": [said("user", "New.")["payload"]]}
    assert history(replaced) == ["Base.", "New.", "On."]
    assert history({"message": "S."}) == ["Base.", "Go.", "S.", "On."]


def test_a_session_ends_where_its_history_becomes_unreadable(tmp_path: Path) -> None:
    encrypted = {"type": "compaction", "encrypted_content": "gAAA"}
    rows = [
        META,
        said("user", "Go."),
        said("assistant", "A."),
        usage(1, 1, 1),
        line("compacted", message="", replacement_history=[encrypted]),
        said("user", "On."),
        said("assistant", "B."),
        usage(2, 2, 2),
    ]
    found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
    assert len(found.only.turns) == 1
    assert found.notes["sessions cut at a compaction whose summary is encrypted"] == 1


def test_a_rollback_takes_the_last_turns_out_of_the_history(tmp_path: Path) -> None:
    rows = [META]
    for n, words in enumerate(("One.", "Two.", "Three.")):
        rows += [said("user", words), said("assistant", f"A{n}."), usage(n, 1, 1)]
    rows += [line("event_msg", type="thread_rolled_back", num_turns=2)]
    rows += [said("user", "Again."), said("assistant", "B."), usage(9, 1, 1)]
    found = imported(codex, lines_file(tmp_path / "r.jsonl", *rows))
    assert [message["content"] for message in found.prompts(3)] == ["One.", "A0.", "Again."]


def test_the_first_versions_have_bare_items(tmp_path: Path) -> None:
    rows = [
        {"id": "old", "timestamp": "2025-05-01T00:00:00Z", "instructions": None},
        {"record_type": "state"},
        said("user", "Go.")["payload"],
        call("a")["payload"],
        output("a")["payload"],
        said("assistant", "Done.")["payload"],
    ]
    path = lines_file(tmp_path / "r.jsonl", *rows, head="# written by the app server\n")
    assert chosen(path) == "codex"
    found = imported(codex, path)
    assert found.only.id == "old"
    assert len(found.only.turns) == 2


def test_a_session_that_was_never_answered_is_none(tmp_path: Path) -> None:
    found = imported(codex, lines_file(tmp_path / "r.jsonl", META, said("user", "Go."), NO_USAGE))
    assert found.trajectories == []
    assert found.notes["sessions without an answered request"] == 1


SMALL = [
    line("session_meta", id="s", base_instructions={"text": "Base."}),
    line("turn_context", model="m"),
    said("user", "Go."),
    item("reasoning", content=[{"type": "reasoning_text", "text": "r"}]),
    call("a", 5),
    item("custom_tool_call", name="p", input="i", call_id="b"),
    usage(1, 1, 1),
    output("a", 9, '{"output":"","metadata":{"duration_seconds":0.2}}'),
    line("compacted", message="m", replacement_history=[said("user", "x")["payload"]]),
    line("event_msg", type="thread_rolled_back", num_turns=1),
    said("user", "On."),
    said("assistant", "B."),
    usage(2, 2, 2),
]


def test_junk_in_any_place_is_refused_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    survives_all(path, codex.NAME, SMALL, json_lines)


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"response_item","payload":{"type":"message","role":"user","content":"\xff"}}\n',
        b'{"type":"response_item","payload":' + b"[" * DEEP + b"]" * DEEP + b"}\n",
        b"[]\n",
        b"{}{\n",
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"r\.jsonl"):
        imported(codex, path)


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
def test_a_real_session_of_version_0_58(tmp_path: Path) -> None:
    path = DATA / "trajectories" / "codex" / "rollout-2025-11-17T15-30-28-019a93b9.jsonl"
    assert chosen(path) == "codex"
    found = imported(codex, path)
    trajectory = found.only
    turns = trajectory.turns
    assert (trajectory.model, trajectory.language) == ("gpt-5.1-codex", "TypeScript")
    assert len(turns) == 39
    assert [turn.prompt_tokens for turn in turns][:3] == [10_128, 10_334, 11_862]
    assert [turn.output_tokens for turn in turns][-2:] == [11_803, 731]
    assert sum(turn.prompt_tokens or 0 for turn in turns) == 1_099_261
    assert sum(turn.output_tokens or 0 for turn in turns) == 22_305
    calls = [call for turn in turns for call in turn.tool_calls]
    assert [len(turn.tool_calls) for turn in turns] == [1] * 39
    # All shell calls state 0.0 s; the two of update_plan state nothing.
    assert [call.duration_ns for call in calls if call.name == "shell"] == [0] * 37
    assert [call.duration_ns for call in calls if call.name == "update_plan"] == [None] * 2
    assert [len(found.prompts(n)) for n in (0, 1, 38)] == [2, 4, 78]
    is_storable([trajectory], tmp_path / "set")


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
def test_the_sample_of_version_0_142() -> None:
    found = imported(codex, DATA / "trajectories" / "codex" / "rollout-0.142-sample.jsonl")
    turns = found.only.turns
    assert [(turn.prompt_tokens, turn.output_tokens) for turn in turns] == [(40_856, 292), (41_200, 48)]
    assert [call.duration_ns for call in turns[0].tool_calls] == [121 * MS, 220 * MS]
    assert turns[0].tool_delay_ns == 341 * MS
    assert [message["role"] for message in found.prompts(1)] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
    ]
