"""ATIF documents: an agent's step is a request; copied, merged and embedded ones; hostile files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dataset_reader_support import DATA, DEEP, NO_DATA, chosen, imported, json_file
from hostile_support import survives_all

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import atif

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    agent = {"name": "a", "version": "1", "model_name": "m", "tool_definitions": TOOLS}
    return {"schema_version": "ATIF-v1.5", "session_id": "s1", "agent": agent, "steps": list(steps), **more}


def step(source: str, message: Any, **more: Any) -> dict[str, Any]:
    return {"step_id": 1, "source": source, "message": message, **more}


CALLING = step(
    "agent",
    "Looking.",
    reasoning_content="because",
    tool_calls=[{"tool_call_id": "c1", "function_name": "bash", "arguments": {"cmd": "ls"}}],
    observation={"results": [{"source_call_id": "c1", "content": "f.py"}]},
    metrics={"prompt_tokens": 100, "completion_tokens": 9, "cached_tokens": 50},
)


def test_an_agents_step_is_a_request(tmp_path: Path) -> None:
    steps = (step("system", "Be brief."), step("user", "Go."), CALLING, step("agent", "Done."))
    path = json_file(tmp_path / "t.json", document(*steps))
    assert chosen(path) == "atif"
    found = imported(atif, path)
    first, second = found.only.turns
    assert (found.only.id, found.only.model) == ("s1", "m")
    assert found.only.tool_sets == (tuple(TOOLS),)
    assert (first.prompt_tokens, first.output_tokens) == (100, 9)
    assert (second.prompt_tokens, second.output_tokens) == (None, None)
    assert [(c.id, c.name, c.duration_ns) for c in first.tool_calls] == [("c1", "bash", None)]
    assert found.prompts(1) == [
        {"role": "system", "content": "Be brief."},
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


def test_what_no_call_asked_for_is_the_next_user_message(tmp_path: Path) -> None:
    plain = step("agent", "```ls```", observation={"results": [{"content": [{"type": "text", "text": "f"}]}]})
    steps = (step("user", "Go."), plain, step("agent", "Done."))
    found = imported(atif, json_file(tmp_path / "t.json", document(*steps)))
    assert [(m["role"], m["content"]) for m in found.prompts(1)] == [
        ("user", "Go."),
        ("assistant", "```ls```"),
        ("user", "f"),
    ]


def test_steps_that_are_not_one_request(tmp_path: Path) -> None:
    metrics = {"prompt_tokens": 5, "completion_tokens": 5}
    steps = (
        step("user", "Go."),
        step("agent", "Copied.", is_copied_context=True),
        step("agent", "No model.", llm_call_count=0),
        step("agent", "", metrics=metrics),
        step("agent", "Two in one.", llm_call_count=2, metrics=metrics),
        step("agent", "One.", llm_call_count=1, metrics=metrics),
    )
    found = imported(atif, json_file(tmp_path / "t.json", document(*steps)))
    assert [turn.prompt_tokens for turn in found.only.turns] == [None, 5]
    assert [message["content"] for message in found.prompts(0)] == ["Go.", "Copied.", "No model."]


def test_embedded_sub_agents_are_trajectories_of_their_own(tmp_path: Path) -> None:
    inner = document(step("user", "Sub."), step("agent", "Yes."), trajectory_id="sub")
    outer = document(step("user", "Go."), step("agent", "Done."), subagent_trajectories=[inner])
    found = imported(atif, json_file(tmp_path / "t.json", outer))
    assert [trajectory.id for trajectory in found.trajectories] == ["s1", "sub"]


@pytest.mark.parametrize("version", ["ATIF-v2.0", "1", 1.4, None])
def test_other_versions_are_not_ours(tmp_path: Path, version: Any) -> None:
    path = json_file(tmp_path / "t.json", {**document(step("user", "Go.")), "schema_version": version})
    assert chosen(path) is None
    with pytest.raises(DatasetError, match="not an ATIF"):
        imported(atif, path)


def test_junk_in_any_place_is_refused_or_skipped(tmp_path: Path) -> None:
    inner = document(step("user", "Sub."), step("agent", "Yes."))
    small = document(step("user", "Go."), CALLING, step("agent", "Done."), subagent_trajectories=[inner])
    path = tmp_path / "t.json"
    survives_all(path, atif.NAME, small)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"schema_version": "\xff"}', b"[" * DEEP, b"\x1f\x8b\x00"])
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"t\.json"):
        imported(atif, path)


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
def test_a_real_file_whose_results_precede_their_calls_is_refused() -> None:
    path = DATA / "trajectories" / "atif" / "openagents-regex-log-v1.4.json"
    assert chosen(path) == "atif"
    with pytest.raises(DatasetError, match=r"steps\[2\]: results of tool calls stand in steps of their own"):
        imported(atif, path)
