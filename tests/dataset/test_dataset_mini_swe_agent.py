"""mini-swe-agent trajectories: usage, durations from timestamps, format errors, and the real files by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import survives_all, survives_hostile
from recording_support import DATA, calls, counts, needs_recordings, one, prompts, read

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mini-swe-agent"
NO_TOOLS = "tool definitions are not in the recording, so requests have none"
START = 1_775_800_000.0


def call(id_: str) -> dict[str, Any]:
    return {
        "index": 0,
        "id": id_,
        "type": "function",
        "function": {"name": "bash", "arguments": '{"command": "ls"}'},
    }


def answer(at: float, *ids: str, prompt: int = 100, output: int = 7, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "prompt_cache_hit_tokens": prompt}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [call(id_) for id_ in ids],
        "function_call": None,
        "extra": {"response": {"usage": usage}, "timestamp": START + at, "actions": []},
        **more,
    }


def result(at: float, id_: str) -> dict[str, Any]:
    return {
        "role": "tool",
        "tool_call_id": id_,
        "content": f"out {id_}",
        "extra": {"timestamp": START + at, "raw_output": "out"},
    }


def document(*messages: dict[str, Any]) -> dict[str, Any]:
    return {
        "info": {"config": {"model": {"model_name": "deepseek/deepseek-chat"}}, "exit_status": "Submitted"},
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            *messages,
            {"role": "exit", "content": "diff", "extra": {"exit_status": "Submitted"}},
        ],
        "trajectory_format": "mini-swe-agent-1.1",
        "instance_id": "django__django-1",
    }


def write(tmp_path: Path, content: Any, name: str = "run.traj.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


RUN = document(
    answer(1, "a", prompt=100, output=7, reasoning_content="hm"),
    result(1.5, "a"),
    answer(5, "b", "c", prompt=150, output=9),
    result(7, "b"),
    result(7.25, "c"),
    answer(9, "d", prompt=200, output=3),
)


def test_answers_become_turns(tmp_path: Path) -> None:
    found = one(write(tmp_path, RUN), NAME)
    assert (found.id, found.model) == ("django__django-1", "deepseek/deepseek-chat")
    assert counts(found) == [(100, 7), (150, 9), (200, 3)]
    assert [len(prompt) for prompt in prompts(found)] == [2, 4, 7]
    # What was never sent, or only noted by the agent, is not in the requests; nor is the exit message.
    plain = {key: value for key, value in call("a").items() if key != "index"}
    assert prompts(found)[1][2:] == [
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [plain]},
        {"role": "tool", "content": "out a", "tool_call_id": "a"},
    ]


def test_durations_are_differences_of_timestamps(tmp_path: Path) -> None:
    found = one(write(tmp_path, RUN), NAME)
    assert calls(found) == [
        [("a", "bash", 500.0)],
        [("b", "bash", 2_000.0), ("c", "bash", 250.0)],
        [("d", "bash", None)],
    ]
    assert [turn.tool_delay_ns for turn in found.turns[:2]] == [500_000_000, 2_250_000_000]


def test_the_bash_tool_is_not_in_the_file(tmp_path: Path) -> None:
    found = read(write(tmp_path, RUN), NAME)
    assert found.notes == {NO_TOOLS: 1}
    assert {turn.tools_index for turn in found.trajectories[0].turns} == {None}


@pytest.mark.parametrize("late", [0.5, -1e9, None, "soon", 1e300])
def test_a_clock_that_says_nothing_measures_nothing(tmp_path: Path, late: Any) -> None:
    wrong = result(0, "a")
    wrong["extra"]["timestamp"] = START + late if isinstance(late, float) else late
    found = one(write(tmp_path, document(answer(1, "a"), wrong)), NAME)
    assert calls(found) == [[("a", "bash", None)]]


def test_zero_tokens_are_unknown(tmp_path: Path) -> None:
    assert counts(one(write(tmp_path, document(answer(1, prompt=0, output=0))), NAME)) == [(None, None)]


def test_reasoning_beside_the_message(tmp_path: Path) -> None:
    reasoned = answer(1, "a", provider_specific_fields={"reasoning_content": "deep"})
    found = one(write(tmp_path, document(reasoned, result(2, "a"), answer(3))), NAME)
    assert prompts(found)[1][2]["reasoning_content"] == "deep"


def error(at: float, **extra: Any) -> dict[str, Any]:
    stamps = {"timestamp": START + at, "interrupt_type": "FormatError", **extra}
    return {"role": "user", "content": "Tool call error", "extra": stamps}


def test_an_answer_refused_for_its_format(tmp_path: Path) -> None:
    content = document(answer(1, "a"), result(2, "a"), error(3, model_response="no block"), answer(4, "b"))
    found = one(write(tmp_path, content), NAME)
    # The refused answer was a request, but the agent did not send it back.
    assert [[message["role"] for message in prompt] for prompt in prompts(found)] == [
        ["system", "user"],
        ["system", "user", "assistant", "tool"],
        ["system", "user", "assistant", "tool", "user"],
    ]
    assert calls(found)[1] == []
    assert found.turns[1].tool_delay_ns == 0


def test_a_refused_answer_that_is_not_recorded(tmp_path: Path) -> None:
    content = document(answer(1, "a"), result(2, "a"), error(3), answer(4, "b"))
    found = read(write(tmp_path, content), NAME)
    assert len(found.trajectories[0].turns) == 2
    assert found.notes["an answer refused for its format and not recorded, left out"] == 1


def test_version_1_has_commands_in_text(tmp_path: Path) -> None:
    def said(role: str, content: str, at: float) -> dict[str, Any]:
        return {"role": role, "content": content, "timestamp": START + at}

    messages = [
        said("system", "s", 0),
        said("user", "u", 0),
        said("assistant", "look\n```bash\nls\n```", 1),
        said("user", "<output>", 1.5),
        said("assistant", "no command", 3),
        said("user", "Please always provide EXACTLY ONE action", 3),
        said("assistant", "```mswea_bash_command\nls\n```", 5),
        said("user", "<output>", 5.125),
    ]
    content = {"messages": messages, "trajectory_format": "mini-swe-agent-1"}
    found = one(write(tmp_path, content, "a-run.traj.json"), NAME)
    assert found.id == "a-run"
    assert calls(found) == [[(None, "bash", 500.0)], [], [(None, "bash", 125.0)]]
    assert prompts(found)[2][-1] == {"role": "user", "content": "Please always provide EXACTLY ONE action"}


def test_no_answer_is_no_trajectory(tmp_path: Path) -> None:
    found = read(write(tmp_path, document()), NAME)
    assert found == ([], {"a recording in which the model never answered, left out": 1})


def test_a_broken_message_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="messages\\[3\\]"):
        read(write(tmp_path, document(answer(1, "a"), {"role": "robot"})), NAME)


def test_hostile_input(tmp_path: Path) -> None:
    path = tmp_path / "run.traj.json"
    survives_all(
        path, NAME, document(answer(1, "a"), result(2, "a"), error(3, model_response="x"), answer(4))
    )
    survives_hostile(path, NAME)


@needs_recordings
@pytest.mark.parametrize(
    ("file", "turns", "prompt_tokens", "output_tokens", "timed", "total_ms", "reasoned"),
    [
        # In the first, one result is stamped before its call.
        ("django__django-11422", 102, 2_685_717, 20_455, 100, 44_522.5, 0),
        ("django__django-13757", 73, 1_656_844, 24_139, 72, 28_407.8, 0),
        ("django__django-14752", 31, 294_301, 7_074, 30, 8_375.6, 0),
        ("reasoner.sqlfluff__sqlfluff-2419", 55, 717_685, 8_752, 54, 46_379.4, 53),
    ],
)
def test_real_runs(
    file: str,
    turns: int,
    prompt_tokens: int,
    output_tokens: int,
    timed: int,
    total_ms: float,
    reasoned: int,
) -> None:
    found = one(DATA / "mini_swe_agent" / f"{file}.traj.json", NAME)
    assert len(found.turns) == turns
    assert [len(prompt) for prompt in prompts(found)] == [2 + 2 * k for k in range(turns)]
    assert sum(prompt or 0 for prompt, _ in counts(found)) == prompt_tokens
    assert sum(output or 0 for _, output in counts(found)) == output_tokens
    durations_ms = [ms for turn in calls(found) for _, _, ms in turn if ms is not None]
    assert len(durations_ms) == timed
    assert sum(durations_ms) == pytest.approx(total_ms, abs=0.1)
    assert sum("reasoning_content" in message for message in prompts(found)[-1]) == reasoned


@needs_recordings
def test_real_run_of_version_1() -> None:
    found = one(DATA / "mini_swe_agent" / "github_issue.traj.json", NAME)
    assert len(found.turns) == 10
    assert calls(found) == [[(None, "bash", None)]] * 10


@needs_recordings
def test_real_run_without_an_answer() -> None:
    assert not read(
        DATA / "mini_swe_agent" / "reasoner.pvlib__pvlib-python-1154.traj.json", NAME
    ).trajectories
