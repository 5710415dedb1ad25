"""SWE-agent trajectories: the three layouts of requests, execution times, and the real files counted by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import survives_all, survives_hostile
from recording_support import DATA, calls, needs_recordings, one, prompts, read

if TYPE_CHECKING:
    from pathlib import Path

NAME = "swe-agent"
REBUILT = "requests rebuilt from the whole history; a history processor may have sent less"
NO_TOOLS = "tool definitions are not in the recording, so requests have none"
UNRECORDED = "a step without a request, left out"


def item(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, "agent": "main", "message_type": "observation", **more}


def answer(k: int, *, called: bool = False, **more: Any) -> dict[str, Any]:
    function = {"name": "bash", "arguments": f'{{"command": "ls {k}"}}'}
    tool_calls = [{"id": f"c{k}", "type": "function", "function": function}] if called else None
    said = {"thought": f"t{k}", "action": f"ls {k}", "tool_calls": tool_calls}
    return item("assistant", f"t{k}", **said, **more)


def observed(k: int, text: str | None = None, *, called: bool = False) -> dict[str, Any]:
    ids = {"tool_call_ids": [f"c{k}"]} if called else {}
    return item("tool" if called else "user", text or f"out {k}", **ids)


def step(k: int, **more: Any) -> dict[str, Any]:
    return {
        "action": f"ls {k}",
        "observation": f"out {k}",
        "response": f"t{k}",
        "thought": f"t{k}",
        "state": '{"open_file": "n/a"}',
        **more,
    }


OPENING = [item("system", "s"), item("user", [{"type": "text", "text": "u", "cache_control": {"type": "e"}}])]


def write(tmp_path: Path, content: Any, name: str = "task.traj") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def called_run() -> dict[str, Any]:
    history = [
        *OPENING,
        *[piece for k in range(3) for piece in (answer(k, called=True), observed(k, called=True))],
    ]
    window = [*OPENING, answer(0, called=True), observed(0, "Old output omitted", called=True), *history[4:6]]
    return {
        "trajectory": [
            step(0, query=OPENING, execution_time=0.5, state={"open_file": "n/a"}),
            step(1, query=history[:4], execution_time=0.25),
            step(2, query=window, execution_time=0.125),
            step(3, query=[{}], execution_time=0.0, action="", response=""),
        ],
        "history": history,
        "info": {"exit_status": "exit_cost"},
        "replay_config": json.dumps({"agent": {"model": {"name": "claude-sonnet-4"}}}),
    }


def test_a_query_is_the_request(tmp_path: Path) -> None:
    found = read(write(tmp_path, called_run()), NAME)
    (run,) = found.trajectories
    assert (run.id, run.model) == ("task", "claude-sonnet-4")
    assert [len(prompt) for prompt in prompts(run)] == [2, 4, 6]
    # Content parts stay parts; the mark of a provider's cache is no content.
    assert prompts(run)[0][1] == {"role": "user", "content": [{"type": "text", "text": "u"}]}
    assert prompts(run)[1][3] == {"role": "tool", "content": "out 0", "tool_call_id": "c0"}
    # A later request shows an earlier observation in another way: the history is not append-only.
    assert prompts(run)[2][3]["content"] == "Old output omitted"
    assert found.notes == {UNRECORDED: 1, NO_TOOLS: 1}


def test_the_execution_time_is_the_calls(tmp_path: Path) -> None:
    run = one(write(tmp_path, called_run()), NAME)
    assert calls(run) == [[("c0", "bash", 500.0)], [("c1", "bash", 250.0)], [("c2", "bash", 125.0)]]
    assert [turn.tool_delay_ns for turn in run.turns] == [500_000_000, 250_000_000, 125_000_000]


def test_the_configuration_may_be_a_document(tmp_path: Path) -> None:
    content = {**called_run(), "replay_config": {"agent": {"model": {"name": "gpt-4o"}}}}
    assert one(write(tmp_path, content), NAME).model == "gpt-4o"


def test_a_refused_answer_is_a_request_too(tmp_path: Path) -> None:
    content = called_run()
    complaint = [*OPENING, item("assistant", "oops"), item("user", "not so")]
    refused = step(9, query=OPENING, action="", response="oops", thought="oops", execution_time=0.0)
    content["trajectory"] = [
        refused,
        {**content["trajectory"][0], "query": complaint},
        *content["trajectory"][1:3],
    ]
    run = one(write(tmp_path, content), NAME)
    assert [len(prompt) for prompt in prompts(run)] == [2, 4, 4, 6]
    assert [len(turn.tool_calls) for turn in run.turns] == [0, 1, 1, 1]
    assert calls(run)[1] == [("c0", "bash", 500.0)]


def test_messages_are_the_next_steps_request(tmp_path: Path) -> None:
    content = called_run()
    history = content["history"]
    seen_after = [history[:4], [*content["trajectory"][2]["query"]], history]
    content["trajectory"] = [
        step(k, messages=messages, execution_time=0.5) for k, messages in enumerate(seen_after)
    ]
    run = one(write(tmp_path, content), NAME)
    assert [len(prompt) for prompt in prompts(run)] == [2, 4, 6]
    assert prompts(run)[2][3]["content"] == "Old output omitted"
    assert calls(run)[2] == [("c2", "bash", 500.0)]


def old_run() -> dict[str, Any]:
    demonstration = item("assistant", "like this", is_demo=True, action="ls", thought="like this")
    other = {**item("user", "for another"), "agent": "helper"}
    history = [OPENING[0], item("user", "demo", is_demo=True), demonstration, OPENING[1], answer(0)]
    return {
        "environment": "swe_main",
        "trajectory": [step(0), step(1)],
        "history": [*history, observed(0), other, answer(1)],
        "info": {"model_stats": {"tokens_sent": 0}},
    }


def test_requests_are_rebuilt_from_the_history(tmp_path: Path) -> None:
    found = read(write(tmp_path, old_run()), NAME)
    (run,) = found.trajectories
    # A demonstration is sent, but nobody answered it there; other agents' messages are not sent.
    assert [[message["role"] for message in prompt] for prompt in prompts(run)] == [
        ["system", "user", "assistant", "user"],
        ["system", "user", "assistant", "user", "assistant", "user"],
    ]
    assert calls(run) == [[(None, "ls", None)], [(None, "ls", None)]]
    assert run.turns[0].prompt_tokens is None
    assert found.notes == {"messages of another agent, left out": 1, REBUILT: 1}


def test_a_demonstration_file_has_only_a_history(tmp_path: Path) -> None:
    history = [*OPENING, answer(0, called=True), observed(0, called=True), answer(1, called=True)]
    run = one(write(tmp_path, {"history": history}), NAME)
    assert [len(prompt) for prompt in prompts(run)] == [2, 4]
    assert calls(run) == [[("c0", "bash", None)], [("c1", "bash", None)]]


def test_no_answer_is_no_trajectory(tmp_path: Path) -> None:
    found = read(write(tmp_path, {"trajectory": [], "history": OPENING}), NAME)
    assert found == ([], {"a recording in which the model never answered, left out": 1})


@pytest.mark.parametrize("field", ["query", "messages"])
def test_hostile_steps(tmp_path: Path, field: str) -> None:
    history = [*OPENING, answer(0, called=True), observed(0, called=True)]
    steps = [step(0, **{field: history[:2]}, execution_time=0.5), step(1, **{field: history})]
    survives_all(tmp_path / "task.traj", NAME, {"trajectory": steps, "history": history[2:]})


def test_hostile_history(tmp_path: Path) -> None:
    path = tmp_path / "task.traj"
    survives_all(path, NAME, old_run())
    survives_hostile(path, NAME)


@needs_recordings
@pytest.mark.parametrize(
    ("file", "turns", "first", "last"),
    [
        # Messages of the first and the last request: demonstrations stand in some of the first.
        ("django__django-12965", 28, 24, 78),
        ("function_calling_simple", 5, 2, 10),
        ("marshmallow-1867.xml_window100", 11, 2, 22),
        ("pydata__xarray-4629", 8, 24, 38),
        ("pydicom__pydicom-1458", 12, 3, 25),
        ("test-repo-i1", 5, 3, 11),
    ],
)
def test_real_runs_without_queries(file: str, turns: int, first: int, last: int) -> None:
    found = read(DATA / "swe_agent" / f"{file}.traj", NAME)
    (run,) = found.trajectories
    assert [len(prompt) for prompt in prompts(run)] == list(range(first, last + 1, 2))
    assert len(run.turns) == turns
    assert {call.duration_ns for turn in run.turns for call in turn.tool_calls} == {None}
    assert calls(run)[-1][0][1] == "submit"
    assert found.notes[REBUILT] == 1


@needs_recordings
def test_real_run_with_a_window() -> None:
    run = one(DATA / "swe_agent" / "marshmallow-1867.function_calling_replace_from_source.traj", NAME)
    assert [len(prompt) for prompt in prompts(run)] == list(range(2, 27, 2))
    old = [sum(str(m["content"]).startswith("Old environment output") for m in p) for p in prompts(run)]
    # The last five observations are shown in full.
    assert old == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert sum(turn.tool_delay_ns for turn in run.turns) == 4_477_759_241
    assert calls(run)[2] == [("call_xK8mN2pQr5vSjTyL9hB3zWc", "bash", 1_951.447270)]
    assert run.model is None
