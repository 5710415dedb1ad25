"""JSONL of conversations: every row layout, calls in text, and the real files counted by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import survives_all, survives_hostile
from recording_support import DATA, calls, counts, json_lines, needs_recordings, one, prompts, read

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import messages_jsonl
from pytest_agentperf.dataset.formats.base import Peek

if TYPE_CHECKING:
    from pathlib import Path

NAME = "messages-jsonl"
NO_TOOLS = "tool definitions are not in the recording, so requests have none"
BASH = {"type": "function", "function": {"name": "bash"}}
CALL = {"id": "a", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
OPENAI = {
    "messages": [
        {"role": "system", "content": "s", "tool_calls": None, "name": None},
        {"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "text", "text": "v"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{**CALL, "index": None}],
        },
        {"role": "tool", "tool_call_id": "a", "name": "bash", "content": "out"},
        {"role": "assistant", "content": "done", "tool_calls": []},
        {"role": "user", "content": "never answered"},
    ],
    "tools": [BASH],
    "instance_id": "task-1",
    "model": "m",
}


def write(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json_lines(list(rows)), encoding="utf-8")
    return path


def test_openai_rows(tmp_path: Path) -> None:
    found = one(write(tmp_path, OPENAI), NAME)
    assert (found.id, found.model) == ("task-1", "m")
    assert prompts(found)[0] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "text", "text": "v"}]},
    ]
    assert prompts(found)[1][2:] == [
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
        {"role": "tool", "content": "out", "name": "bash", "tool_call_id": "a"},
    ]
    # The last user message was not answered.
    assert calls(found) == [[("a", "bash", None)], []]
    assert counts(found) == [(None, None), (None, None)]
    assert found.tool_sets == ((BASH,),)


def test_columns_may_hold_json_text(tmp_path: Path) -> None:
    packed = {"messages": json.dumps(OPENAI["messages"]), "tools": json.dumps([BASH]), "traj_id": "t"}
    found = one(write(tmp_path, packed), NAME)
    assert prompts(found) == prompts(one(write(tmp_path, OPENAI), NAME))
    assert found.id == "t"


def test_arguments_become_json_text(tmp_path: Path) -> None:
    parsed = {"id": "a", "function": {"name": "bash", "arguments": {"command": "ä"}}}
    messages = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [parsed]},
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "assistant", "content": "done"},
    ]
    found = read(write(tmp_path, {"messages": messages}), NAME)
    sent = prompts(found.trajectories[0])[1][1]["tool_calls"][0]
    assert sent["function"]["arguments"] == '{"command":"ä"}'
    assert found.notes == {NO_TOOLS: 1}
    assert found.trajectories[0].id == "rows-1"


def test_calls_in_text_stay_text(tmp_path: Path) -> None:
    text = "Look:\n<function=str_replace_editor>\n<parameter=command>view</parameter>\n</function>"
    messages = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": text},
        {"role": "user", "content": "OBSERVATION: x"},
        {"role": "assistant", "content": "```\nls\n```"},
    ]
    found = one(write(tmp_path, {"messages": messages}), NAME)
    assert prompts(found)[1][1] == {"role": "assistant", "content": text}
    # The tool is known, so that its delay can be drawn; a code block alone is no call.
    assert calls(found) == [[(None, "str_replace_editor", None)], []]
    assert found.turns[0].tool_delay_ns > 0
    assert found.turns[1].tool_delay_ns == 0


def nebius(role: str, text: str | None, prompt: str | None = None) -> dict[str, Any]:
    return {"role": role, "text": text, "system_prompt": prompt, "mask": False, "cutoff_date": None}


def test_nebius_rows(tmp_path: Path) -> None:
    said = 'First ```x``` then\n```\nfind_file "a.py" src\n```'
    trajectory = [
        nebius("system", None, "s"),
        nebius("user", "u"),
        nebius("ai", said),
        nebius("user", "found"),
        nebius("ai", "nothing to run"),
    ]
    row = {"instance_id": "i", "model_name": "llama", "trajectory": trajectory}
    found = one(write(tmp_path, row), NAME)
    assert prompts(found)[1] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "found"},
    ]
    assert found.model == "llama"
    assert calls(found) == [[(None, "find_file", None)], []]


def test_rows_without_an_answer(tmp_path: Path) -> None:
    greeting = {"messages": [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "u"}]}
    found = read(write(tmp_path, greeting, OPENAI), NAME)
    assert [trajectory.id for trajectory in found.trajectories] == ["task-1"]
    assert found.notes["a recording in which the model never answered, left out"] == 1


def test_equal_ids_are_told_apart(tmp_path: Path) -> None:
    found = read(write(tmp_path, OPENAI, OPENAI), NAME)
    assert [trajectory.id for trajectory in found.trajectories] == ["task-1", "task-1+2"]


def test_snapshots_of_one_conversation_are_not_conversations(tmp_path: Path) -> None:
    path = write(tmp_path, {**OPENAI, "conversation_id": "c", "conversation_idx": 0})
    assert not messages_jsonl.recognises(Peek(path))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": 7},
        {"messages": "["},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": {"text": "x"}}]},
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "a"}]}]},
        {**OPENAI, "tools": ["bash"]},
        [],
    ],
)
def test_broken_rows_are_named(tmp_path: Path, row: Any) -> None:
    with pytest.raises(DatasetError) as caught:
        read(write(tmp_path, OPENAI, row), NAME)
    assert str(caught.value.where).endswith("rows.jsonl:2")


def test_hostile_input(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    survives_all(path, NAME, [OPENAI], json_lines)
    survives_all(path, NAME, [{"trajectory": [nebius("user", "u"), nebius("ai", "a")]}], json_lines)
    survives_hostile(path, NAME)


@needs_recordings
@pytest.mark.parametrize(
    ("file", "turns", "called", "tools"),
    [
        # Rows: answers, calls (in text but for SWE-Gym, where an answer has up to four), tool definitions.
        ("swe-smith", [15, 23], [15, 23], [0, 0]),
        ("swe-gym_openhands_sampled_trajectories", [17, 11], [21, 9], [3, 3]),
        ("nebius_SWE-agent-trajectories", [6, 14], [6, 14], [0, 0]),
    ],
)
def test_real_rows(file: str, turns: list[int], called: list[int], tools: list[int]) -> None:
    found = read(DATA / "messages_jsonl" / f"{file}.jsonl", NAME)
    assert [len(trajectory.turns) for trajectory in found.trajectories] == turns
    assert [sum(map(len, calls(trajectory))) for trajectory in found.trajectories] == called
    assert [sum(map(len, trajectory.tool_sets)) for trajectory in found.trajectories] == tools
    assert found.notes == {}


@needs_recordings
def test_real_rows_keep_their_text() -> None:
    path = DATA / "messages_jsonl" / "swe-smith.jsonl"
    row = json.loads(path.read_bytes().split(b"\n")[0])
    found = read(path, NAME).trajectories[0]
    assert prompts(found)[-1] == row["messages"][:-1]
