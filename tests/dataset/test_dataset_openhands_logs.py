"""OpenHands completion logs: which files are one conversation, what lies between requests, the real folder."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import broken, survives, survives_all, survives_hostile
from recording_support import DATA, calls, counts, needs_recordings, one, prompts, read

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "openhands"
BASH = {"type": "function", "function": {"name": "bash"}}
START = 1_757_003_000.0


def call(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "bash", "arguments": "{}"}}


def said(content: str, *ids: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": content}]}
    return {**message, "tool_calls": [call(id_) for id_ in ids]} if ids else message


def result(id_: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "name": "bash", "content": [{"type": "text", "text": "out"}]}


OPENING = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def log(messages: list[Any], content: str, *ids: str, ended: float, **more: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "content": content, "tool_calls": [call(id_) for id_ in ids] or None}
    usage = {"prompt_tokens": 100 * len(messages), "completion_tokens": len(messages)}
    return {
        "messages": messages,
        "tools": [BASH],
        "kwargs": {"tools": [BASH]},
        "response": {"id": "r", "model": "m", "choices": [{"message": answer}], "usage": usage},
        "timestamp": START + ended,
        "latency_sec": 2.0,
        **more,
    }


SECOND = [*OPENING, said("first", "a"), result("a")]
THIRD = [*SECOND, said("second", "b", "c"), result("b"), result("c")]
RUN = [
    log(OPENING, "first", "a", ended=10),
    log(SECOND, "second", "b", "c", ended=12.5),
    log(THIRD, "third", ended=20),
]


def write(folder: Path, logs: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, value in enumerate(logs):
        (folder / f"m-{i}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_files_that_continue_one_another_are_one_trajectory(tmp_path: Path) -> None:
    # Told by time, not by name.
    found = one(write(tmp_path / "logs", [RUN[2], RUN[0], RUN[1]]), NAME)
    assert (found.id, found.model) == ("m-1", "m")
    assert prompts(found) == [OPENING, SECOND, THIRD]
    assert counts(found) == [(200, 2), (400, 4), (700, 7)]
    assert found.tool_sets == ((BASH,),)


def test_what_lies_between_two_requests_is_tool_time(tmp_path: Path) -> None:
    found = one(write(tmp_path / "logs", RUN), NAME)
    assert calls(found) == [[("a", "bash", 500.0)], [("b", "bash", None), ("c", "bash", None)], []]
    assert [turn.tool_delay_ns for turn in found.turns] == [500_000_000, 5_500_000_000, 0]


def test_a_humans_time_is_no_tool_time(tmp_path: Path) -> None:
    asked = [*OPENING, said("first", "a"), result("a"), {"role": "user", "content": "go on"}]
    found = one(write(tmp_path / "logs", [RUN[0], log(asked, "second", ended=500)]), NAME)
    assert calls(found)[0] == [("a", "bash", None)]
    assert found.turns[0].tool_delay_ns < 100 * 10**9


def test_a_request_without_a_log_is_no_turn(tmp_path: Path) -> None:
    found = one(write(tmp_path / "logs", [RUN[0], RUN[2]]), NAME)
    assert prompts(found) == [OPENING, THIRD]
    assert calls(found)[0] == [("a", "bash", None)]


def test_of_two_equal_openings_the_answer_decides(tmp_path: Path) -> None:
    other = [*OPENING, said("otherwise", "x"), result("x")]
    logs = [*RUN[:2], log(OPENING, "otherwise", "x", ended=11), log(other, "end", ended=30)]
    found = read(write(tmp_path / "logs", logs), NAME)
    assert [prompts(trajectory) for trajectory in found.trajectories] == [[OPENING, SECOND], [OPENING, other]]


def test_what_a_condenser_rewrote_is_a_trajectory_of_its_own(tmp_path: Path) -> None:
    rewritten = [OPENING[0], {"role": "user", "content": "summary"}]
    found = read(write(tmp_path / "logs", [*RUN, log(rewritten, "next", ended=40)]), NAME)
    assert [len(trajectory.turns) for trajectory in found.trajectories] == [3, 1]


def test_moving_cache_marks_change_no_history(tmp_path: Path) -> None:
    part = {"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}}
    plain = {"role": "user", "content": [{"type": "text", "text": "u"}]}
    marked = [OPENING[0], {"role": "user", "content": [part]}]
    unmarked = [OPENING[0], plain, said("first", "a"), result("a")]
    logs = [log(marked, "first", "a", ended=10), log(unmarked, "second", ended=20)]
    found = one(write(tmp_path / "logs", logs), NAME)
    assert prompts(found) == [[OPENING[0], plain], unmarked]


def test_lost_calls_are_found_in_the_next_request(tmp_path: Path) -> None:
    logs = [json.loads(json.dumps(value)) for value in RUN]
    for value in logs:
        value["response"]["choices"][0]["message"]["tool_calls"] = [{}]
    found = read(write(tmp_path / "logs", logs), NAME)
    assert [[id_ for id_, _, _ in turn] for turn in calls(found.trajectories[0])] == [["a"], ["b", "c"], []]
    assert found.notes == {"tool calls that the log lost": 1}


def test_simulated_calls_send_no_tools(tmp_path: Path) -> None:
    found = one(write(tmp_path / "logs", [log(OPENING, "x", "a", ended=1, raw_messages=OPENING)]), NAME)
    assert found.turns[0].tools_index is None
    assert calls(found) == [[("a", "bash", None)]]


def test_a_single_file_is_one_request(tmp_path: Path) -> None:
    folder = write(tmp_path / "logs", RUN)
    found = one(folder / "m-1.json", NAME)
    assert prompts(found) == [SECOND]


def test_files_that_are_none_are_noted(tmp_path: Path) -> None:
    folder = write(tmp_path / "logs", RUN)
    (folder / "z.json").write_bytes(b"{")
    found = read(folder, NAME)
    assert len(found.trajectories) == 1
    assert found.notes == {"a file among completion logs that is none, or has no answer, left out": 1}


def test_hostile_logs(tmp_path: Path) -> None:
    path = tmp_path / "m-0.json"
    survives_all(path, NAME, RUN[1])
    survives_hostile(path, NAME)


def test_hostile_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "logs", RUN)
    for changed in islice(broken(RUN[1]), 0, None, 5):
        (folder / "m-1.json").unlink()
        (folder / "m-1.json").write_text(json.dumps(changed), encoding="utf-8")
        survives(folder, NAME)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "logs", [{**RUN[0], "messages": [{"role": "robot"}]}]) / "m-0.json"
    with pytest.raises(DatasetError, match="messages\\[0\\]"):
        read(path, NAME)


@needs_recordings
def test_the_real_folder() -> None:
    found = read(DATA / "openhands" / "completion_logs", NAME)
    runs = [
        ([len(prompt) for prompt in prompts(t)], counts(t), sum(map(len, t.tool_sets)))
        for t in found.trajectories
    ]
    # The first conversation lacks the three requests between its two; the simulated ones send no tools.
    assert runs == [
        ([2, 10], [(None, None), (None, None)], 3),
        ([2], [(None, None)], 0),
        ([6], [(6_123, 120)], 3),
        ([2], [(7_911, 59)], 0),
    ]
    names = [[name for _, name, _ in turn] for t in found.trajectories for turn in calls(t)]
    assert names == [["str_replace_editor"], [], [], ["str_replace_editor"], ["terminal"]]
    # Two answers' calls were written as {}, and no later request shows them.
    assert found.notes == {"tool calls that the log lost": 2}
