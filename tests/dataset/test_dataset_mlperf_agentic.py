"""MLPerf agentic rows: delays, parallel calls, order, and the real file counted by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import survives_all, survives_hostile
from recording_support import DATA, calls, json_lines, needs_recordings, one, prompts, read

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mlperf-agentic"
BASH = {"type": "function", "function": {"name": "bash"}}


def call(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}


def rows(conversation: str = "c1") -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = [
        {"role": "user", "content": "fix it", "system": "be good", "tools": [BASH]},
        {"role": "assistant", "reasoning_content": "hm", "tool_calls": [call("a")]},
        {"role": "tool", "tool_results": [{"tool_call_id": "a", "content": "x"}], "delay_seconds": 0.25},
        {"role": "assistant", "tool_calls": [call("b"), call("c")]},
        {
            "role": "tool",
            "tool_results": [{"tool_call_id": "c", "content": "y"}, {"tool_call_id": "b", "content": "z"}],
            "delay_seconds": 1.5,
        },
        {"role": "assistant", "content": "done"},
    ]
    return [{"conversation_id": conversation, "turn": i, **body} for i, body in enumerate(bodies, start=1)]


def write(tmp_path: Path, content: list[Any]) -> Path:
    path = tmp_path / "set.jsonl"
    path.write_text(json_lines(content), encoding="utf-8")
    return path


def test_rows_become_requests(tmp_path: Path) -> None:
    found = one(write(tmp_path, rows()), NAME)
    assert found.id == "c1"
    assert [len(prompt) for prompt in prompts(found)] == [2, 4, 7]
    assert prompts(found)[0] == [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "fix it"},
    ]
    assert prompts(found)[2][2:] == [
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call("b"), call("c")]},
        {"role": "tool", "tool_call_id": "c", "content": "y"},
        {"role": "tool", "tool_call_id": "b", "content": "z"},
    ]
    assert found.tool_sets == ((BASH,),)
    assert [turn.tools_index for turn in found.turns] == [0, 0, 0]


def test_a_delay_is_its_only_calls_or_the_whole_turns(tmp_path: Path) -> None:
    found = one(write(tmp_path, rows()), NAME)
    assert calls(found) == [[("a", "bash", 250.0)], [("b", "bash", None), ("c", "bash", None)], []]
    assert [turn.tool_delay_ns for turn in found.turns] == [250_000_000, 1_500_000_000, 0]


def test_a_delay_before_a_user_is_a_humans(tmp_path: Path) -> None:
    more = {"conversation_id": "c1", "turn": 7, "role": "user", "content": "thanks", "delay_seconds": 60.0}
    last = {"conversation_id": "c1", "turn": 8, "role": "assistant", "content": "welcome"}
    found = read(write(tmp_path, [*rows(), more, last]), NAME)
    assert [turn.tool_delay_ns for turn in found.trajectories[0].turns][2:] == [0, 0]
    assert found.notes == {"delay_seconds before a user message is no tool time": 1}


def test_a_missing_delay_is_drawn_and_zero_is_zero(tmp_path: Path) -> None:
    changed = rows()
    del changed[2]["delay_seconds"]
    changed[4]["delay_seconds"] = 0
    turns = one(write(tmp_path, changed), NAME).turns
    assert turns[0].tool_calls[0].duration_ns is None
    assert turns[0].tool_delay_ns > 0
    assert turns[1].tool_delay_ns == 0


def test_conversations_follow_one_another(tmp_path: Path) -> None:
    found = read(write(tmp_path, [*rows("c1"), *rows("c2")[:1], *rows("c3")]), NAME)
    assert [trajectory.id for trajectory in found.trajectories] == ["c1", "c3"]
    assert found.notes == {"a recording in which the model never answered, left out": 1}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([*rows("c1"), *rows("c2"), *rows("c1")], 13),
        ([*rows()[:2], *rows()[3:]], 3),
        (rows()[1:], 1),
        ([*rows()[:2], {**rows()[2], "tool_results": []}], 3),
        ([*rows()[:2], {**rows()[2], "delay_seconds": -1}], 3),
        ([*rows()[:2], {**rows()[2], "role": "robot"}], 3),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, content: list[Any], line: int) -> None:
    with pytest.raises(DatasetError) as caught:
        read(write(tmp_path, content), NAME)
    assert str(caught.value.where).endswith(f"set.jsonl:{line}")


def test_hostile_input(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    survives_all(path, NAME, rows(), json_lines)
    survives_hostile(path, NAME)


@needs_recordings
def test_the_real_set() -> None:
    found = read(DATA / "mlperf_agentic" / "agentic_coding_1h.jsonl", NAME)
    assert {trajectory.id: len(trajectory.turns) for trajectory in found.trajectories} == {
        "django__django-16899": 58,
        "sympy__sympy-12096": 58,
        "scikit-learn__scikit-learn-26323": 58,
        "sphinx-doc__sphinx-11445": 52,
        "matplotlib__matplotlib-26342": 53,
        "pydata__xarray-6721": 52,
        "astropy__astropy-7671": 47,
        "pytest-dev__pytest-6202": 61,
        "psf__requests-1921": 44,
    }
    assert found.notes == {}
    delay_ns = sum(turn.tool_delay_ns for t in found.trajectories for turn in t.turns[:-1])
    assert delay_ns == 250_293_723_000
    reasoned = sum("reasoning_content" in message for t in found.trajectories for message in t.messages)
    # 483 answers reason; each conversation's last is in no request.
    assert reasoned == 474
