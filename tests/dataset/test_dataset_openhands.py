"""OpenHands v0 event arrays and SDK conversations: calls of one answer, durations, condensers, real folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_support import METADATA
from hostile_support import broken, survives, survives_all, survives_hostile
from recording_support import DATA, calls, counts, needs_recordings, one, prompts, read

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset import write_dataset

if TYPE_CHECKING:
    from pathlib import Path

NAME = "openhands"
BASH = {"type": "function", "function": {"name": "execute_bash", "parameters": {}}}
SHELL = {
    "prefix": "",
    "suffix": "\n[The command completed with exit code 0.]",
    "working_dir": "/w",
    "exit_code": 0,
}
SHOWN = (
    "\n[The command completed with exit code 0.]"
    "\n[Current working directory: /w]"
    "\n[Command finished with exit code 0]"
)


def at(second: float) -> str:
    return f"2025-01-01T00:00:{second:09.6f}"


def call(id_: str) -> dict[str, Any]:
    function = {"name": "execute_bash", "arguments": '{"command": "ls"}'}
    return {"id": id_, "type": "function", "function": function}


def v0_call(event_id: int, second: float, response: str, id_: str, *ids: str) -> dict[str, Any]:
    message = {
        "role": "assistant",
        "content": f"say {response}",
        "tool_calls": [call(one) for one in ids or (id_,)],
    }
    usage = {"prompt_tokens": 10 * event_id, "completion_tokens": event_id}
    model_response = {"id": response, "model": "m", "choices": [{"message": message}], "usage": usage}
    return {
        "id": event_id,
        "timestamp": at(second),
        "source": "agent",
        "action": "run",
        "args": {"command": "ls", "thought": ""},
        "tool_call_metadata": {
            "function_name": "execute_bash",
            "tool_call_id": id_,
            "model_response": model_response,
        },
    }


def v0_result(event_id: int, second: float, id_: str, cause: int) -> dict[str, Any]:
    return {
        "id": event_id,
        "timestamp": at(second),
        "source": "agent",
        "cause": cause,
        "observation": "run",
        "content": f"out {id_}",
        "extras": {"metadata": SHELL},
        "tool_call_metadata": {"tool_call_id": id_, "function_name": "execute_bash"},
    }


V0_OPENING: list[dict[str, Any]] = [
    {
        "id": 0,
        "timestamp": at(0),
        "source": "agent",
        "action": "system",
        "args": {"content": "s", "tools": [BASH]},
    },
    {"id": 1, "timestamp": at(1), "source": "user", "action": "message", "args": {"content": "u"}},
    {
        "id": 2,
        "timestamp": at(1),
        "source": "environment",
        "observation": "agent_state_changed",
        "extras": {},
    },
]
V0 = [
    *V0_OPENING,
    v0_call(3, 5, "r1", "a", "a", "b"),
    v0_result(4, 5.5, "a", 3),
    v0_call(5, 5.5, "r1", "b", "a", "b"),
    v0_result(6, 7.5, "b", 5),
    v0_call(7, 9, "r2", "c"),
    v0_result(8, 9.25, "c", 7),
    {
        "id": 9,
        "timestamp": at(20),
        "source": "agent",
        "action": "message",
        "args": {"content": "done", "wait_for_response": True},
    },
]


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_v0_actions_of_one_answer_are_one_request(tmp_path: Path) -> None:
    found = one(write(tmp_path / "run.json", V0), NAME)
    assert (found.id, found.model) == ("run", "m")
    assert [[message["role"] for message in prompt] for prompt in prompts(found)] == [
        ["system", "user"],
        ["system", "user", "assistant", "tool", "tool"],
        ["system", "user", "assistant", "tool", "tool", "assistant", "tool"],
    ]
    assert prompts(found)[1][2]["tool_calls"] == [call("a"), call("b")]
    assert prompts(found)[1][3] == {"role": "tool", "tool_call_id": "a", "content": "out a" + SHOWN}
    assert counts(found) == [(30, 3), (70, 7), (None, None)]
    assert calls(found) == [
        [("a", "execute_bash", 500.0), ("b", "execute_bash", 2_000.0)],
        [("c", "execute_bash", 250.0)],
        [],
    ]
    assert found.tool_sets == ((BASH,),)


def test_v0_condensation_forgets(tmp_path: Path) -> None:
    condensation = {
        "id": 20,
        "timestamp": at(8),
        "source": "agent",
        "action": "condensation",
        "args": {
            "forgotten_events_start_id": 3,
            "forgotten_events_end_id": 6,
            "summary": "sum",
            "summary_offset": 2,
        },
    }
    found = one(write(tmp_path / "run.json", [*V0[:7], condensation, *V0[7:]]), NAME)
    assert [message["content"] for message in prompts(found)[1]] == ["s", "u", "sum"]
    assert [message["role"] for message in prompts(found)[2]] == [
        "system",
        "user",
        "user",
        "assistant",
        "tool",
    ]


def test_v0_without_the_models_answers(tmp_path: Path) -> None:
    action = v0_call(3, 5, "r1", "a")
    action["tool_call_metadata"]["model_response"] = None
    found = read(write(tmp_path / "run.json", [*V0_OPENING, action]), NAME)
    assert not found.trajectories
    assert found.notes["an action without the model's answer, left out"] == 1


def text(content: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content, "cache_prompt": False, "enable_truncation": True}]


def sdk_call(event_id: str, second: float, response: str, id_: str, thought: str = "") -> dict[str, Any]:
    return {
        "kind": "ActionEvent",
        "id": event_id,
        "timestamp": at(second),
        "source": "agent",
        "thought": text(thought) if thought else [],
        "reasoning_content": "hm" if thought else None,
        "tool_name": "terminal",
        "tool_call_id": id_,
        "tool_call": {"id": id_, "name": "terminal", "arguments": '{"command": "ls"}'},
        "llm_response_id": response,
    }


def sdk_result(event_id: str, second: float, id_: str, **observation: Any) -> dict[str, Any]:
    return {
        "kind": "ObservationEvent",
        "id": event_id,
        "timestamp": at(second),
        "source": "environment",
        "tool_call_id": id_,
        "observation": {"content": text(f"out {id_}"), "is_error": False, **observation},
    }


def sdk_message(event_id: str, role: str, content: str, response: str | None = None) -> dict[str, Any]:
    return {
        "kind": "MessageEvent",
        "id": event_id,
        "timestamp": at(30),
        "source": "agent" if role == "assistant" else role,
        "llm_message": {"role": role, "content": text(content), "thinking_blocks": []},
        "llm_response_id": response,
    }


SYSTEM = {
    "kind": "SystemPromptEvent",
    "id": "e0",
    "timestamp": at(0),
    "source": "agent",
    "system_prompt": {"type": "text", "text": "s", "cache_prompt": True},
    "tools": [{"kind": "TerminalTool", "title": "terminal", "description": "runs", "action_type": "A"}],
}
SDK = [
    SYSTEM,
    sdk_message("e1", "user", "u"),
    {"kind": "ConversationStateUpdateEvent", "id": "e2", "key": "x"},
    sdk_call("e3", 5, "r1", "a", "look"),
    sdk_call("e4", 5, "r1", "b"),
    sdk_result("e5", 5.5, "a", metadata=SHELL),
    sdk_result("e6", 7.5, "b", is_error=True),
    sdk_call("e7", 9, "r2", "c"),
    {
        "kind": "AgentErrorEvent",
        "id": "e8",
        "timestamp": at(9.25),
        "tool_call_id": "c",
        "error": "no such tool",
    },
    sdk_message("e9", "assistant", "done", "r3"),
]
STATE = {
    "id": "conversation-1",
    "agent": {"llm": {"model": "openai/m"}},
    "confirmation_policy": {"kind": "NeverConfirm"},
    "stats": {
        "usage_to_metrics": {
            "agent": {
                "token_usages": [
                    {
                        "response_id": "r1",
                        "prompt_tokens": 100,
                        "completion_tokens": 7,
                        "cache_read_tokens": 90,
                    },
                    {"response_id": "r3", "prompt_tokens": 200, "completion_tokens": 3},
                ]
            }
        }
    },
}


def folder(path: Path, events: Any, state: Any = STATE, *, inside: str = "") -> Path:
    write(path / "base_state.json", state)
    for i, event in enumerate(events):
        write(path / inside / f"event-{i:05}-{i:08}.json", event)
    return path


@pytest.mark.parametrize("inside", ["", "events"])
def test_sdk_calls_of_one_answer_are_one_request(tmp_path: Path, inside: str) -> None:
    found = one(folder(tmp_path / "c", SDK, inside=inside), NAME)
    assert (found.id, found.model) == ("conversation-1", "openai/m")
    assert [len(prompt) for prompt in prompts(found)] == [2, 5, 7]
    arguments = {"name": "terminal", "arguments": '{"command": "ls"}'}
    assert prompts(found)[1] == [
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "look"}],
            "reasoning_content": "hm",
            "tool_calls": [{"id": id_, "type": "function", "function": arguments} for id_ in ("a", "b")],
        },
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "out a" + SHOWN}]},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [
                {"type": "text", "text": "[An error occurred during execution.]"},
                {"type": "text", "text": "out b"},
            ],
        },
    ]
    assert prompts(found)[2][5]["content"] is None
    assert prompts(found)[2][6] == {"role": "tool", "tool_call_id": "c", "content": "no such tool"}
    assert counts(found) == [(100, 7), (None, None), (200, 3)]
    # The second call waited for the first.
    assert calls(found) == [
        [("a", "terminal", 500.0), ("b", "terminal", 2_000.0)],
        [("c", "terminal", 250.0)],
        [],
    ]


def test_sdk_tools_have_no_parameters(tmp_path: Path) -> None:
    found = read(folder(tmp_path / "c", SDK), NAME)
    function = {"name": "terminal", "description": "runs"}
    assert found.trajectories[0].tool_sets == (({"type": "function", "function": function},),)
    assert found.notes == {"OpenHands records tools without their parameters": 1}


def test_sdk_later_system_prompt_replaces_the_first(tmp_path: Path) -> None:
    later = {**SYSTEM, "kind": "SystemPromptUpdateEvent", "system_prompt": text("s2")[0], "tools": []}
    found = one(folder(tmp_path / "c", [*SDK[:9], later, SDK[9]]), NAME)
    assert [prompt[0]["content"][0]["text"] for prompt in prompts(found)] == ["s", "s", "s2"]
    assert [turn.tools_index for turn in found.turns] == [0, 0, None]


def test_sdk_confirmed_calls_are_not_timed(tmp_path: Path) -> None:
    found = read(
        folder(tmp_path / "c", SDK, {**STATE, "confirmation_policy": {"kind": "AlwaysConfirm"}}), NAME
    )
    assert {ms for turn in calls(found.trajectories[0]) for _, _, ms in turn} == {None}
    assert found.notes["a human confirmed calls, so that their durations are no tool time"] == 1


def test_sdk_condensation_forgets(tmp_path: Path) -> None:
    def condensation(id_: str, *forgotten: str) -> dict[str, Any]:
        more = {"forgotten_event_ids": list(forgotten), "summary": f"sum {id_}", "summary_offset": 2}
        return {"kind": "Condensation", "id": id_, **more}

    events = [
        *SDK[:7],
        condensation("x1", "e3", "e4", "e5", "e6"),
        *SDK[7:9],
        condensation("x2", "e7", "e8"),
        SDK[9],
    ]
    found = one(folder(tmp_path / "c", events), NAME)
    assert [message["content"] for message in prompts(found)[1]][2:] == ["sum x1"]
    # The newest summary replaces the older one.
    assert [message["content"] for message in prompts(found)[2]][2:] == ["sum x2"]


def test_sdk_events_without_a_state(tmp_path: Path) -> None:
    path = folder(tmp_path / "c", SDK)
    (path / "base_state.json").unlink()
    found = one(path, NAME)
    assert found.id == "c"
    assert counts(found) == [(None, None)] * 3


def test_a_broken_event_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "c", [*SDK, []])
    with pytest.raises(DatasetError) as caught:
        read(path, NAME)
    assert str(caught.value.where).endswith("event-00010-00000010.json")


def test_hostile_events(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    survives_all(path, NAME, [V0[0], V0[1], V0[3], V0[4], V0[9]])
    survives_hostile(path, NAME)


@pytest.mark.parametrize("position", [0, 1, 3, 5, 8, 9])
def test_hostile_conversation(tmp_path: Path, position: int) -> None:
    path = folder(tmp_path / "c", SDK)
    for changed in broken(SDK[position]):
        write(path / f"event-{position:05}-{position:08}.json", changed)
        survives(path, NAME)


def test_hostile_state(tmp_path: Path) -> None:
    path = folder(tmp_path / "c", SDK)
    for changed in broken(STATE):
        write(path / "base_state.json", changed)
        survives(path, NAME)


@needs_recordings
def test_real_conversation() -> None:
    found = one(DATA / "openhands" / "sdk_v1_cd945624", NAME)
    assert counts(found) == [(3_778, 36), (3_869, 32), (3_936, 26)]
    assert [len(prompt) for prompt in prompts(found)] == [2, 4, 7]
    assert calls(found) == [
        [("call_KaQ0kUcBb5tbMzhxbIx9dvoZ", "terminal", 141.198)],
        [("call_HhojVstik9LFNxVlLTgV0iIA", "finish", 3.076)],
        [],
    ]
    assert found.model == "openai/gpt-4o-mini"


@needs_recordings
def test_real_conversation_with_a_later_system_prompt() -> None:
    found = read(DATA / "openhands" / "sdk_v1_38868567", NAME)
    (run,) = found.trajectories
    assert counts(run) == [(10, 5), (None, None)]
    assert [message["role"] for message in prompts(run)[1]] == ["system", "user", "assistant", "tool", "user"]
    assert [len(tools) for tools in run.tool_sets] == [3, 4]
    assert calls(run) == [[("call_e0f87d7c", "finish", 0.752)], [("call_0b04e27a", "finish", 0.848)]]
    assert found.notes["a later system prompt, taken to replace the first"] == 1


@needs_recordings
def test_real_recordings_can_be_stored(tmp_path: Path) -> None:
    found = read(DATA / "openhands", NAME).trajectories
    store = write_dataset(tmp_path / "set", found, METADATA)
    store.verify()
    assert [store.load(trajectory.id) for trajectory in found] == found
