"""Small recordings and datasets for the tests of `agentperf dataset`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset import DatasetMetadata, DatasetStore, write_dataset
from pytest_agentperf.dataset.histories import RecordedRequest, TrajectoryBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory

METADATA = DatasetMetadata(name="tiny", version="1", licence="MIT", provenance="Made by a test.")
BASH = {"type": "function", "function": {"name": "bash"}}


def call(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "bash", "arguments": arguments}}


def history(turns: int) -> list[list[dict[str, Any]]]:
    """Return the requests of an agent that calls bash once after every request."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You fix bugs."},
        {"role": "user", "content": "Fix a.py."},
    ]
    requests = []
    for k in range(turns):
        requests.append(list(messages))
        messages.append({"role": "assistant", "content": f"step {k}", "tool_calls": [call(f"c{k}")]})
        messages.append({"role": "tool", "tool_call_id": f"c{k}", "content": f"result {k}"})
    return requests


def trajectory(
    name: str = "t1",
    *,
    requests: Sequence[list[dict[str, Any]]] | None = None,
    prompts: Sequence[int | None] = (100, 200, 300),
    outputs: Sequence[int | None] = (10, 20, 60),
    language: str | None = "Python",
) -> Trajectory:
    builder = TrajectoryBuilder(name, language=language, model="m")
    for k, messages in enumerate(history(len(prompts)) if requests is None else requests):
        builder.add(
            RecordedRequest(
                messages=messages,
                tools=[BASH],
                tool_delay_ns=(k + 1) * 100_000_000,
                prompt_tokens=prompts[k],
                output_tokens=outputs[k],
                tool_calls=(ToolCall(f"c{k}", "bash", (k + 1) * 100_000_000),),
            )
        )
    return builder.build()


def dataset(folder: Path, *trajectories: Trajectory) -> DatasetStore:
    return write_dataset(folder, trajectories or (trajectory(),), METADATA)


def replay(folder: Path, *names: str, broken: bool = False) -> Path:
    """Write a replay of agentperf-local with tasks of two turns each."""
    (folder / "traces").mkdir(parents=True)
    tasks = []
    for name in names:
        rows = [
            {
                "version": 1,
                "turn_id": f"{name}:{k}",
                "task_id": name,
                "conversation_id": name,
                "conversation_idx": k,
                "messages": messages,
                "tools": [BASH],
                "simulated_tool_delay_ms_after": 50.0,
                "recorded_tool_calls_after": [
                    {"duration_ms": 50.0, "tool_call_id": f"c{k}", "tool_name": "bash"}
                ],
                "recorded_prompt_tokens": 100 * (k + 1),
                "recorded_completion_tokens": 10,
            }
            for k, messages in enumerate(history(2))
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "traces" / f"{name}.jsonl").write_text("{" if broken else text, encoding="utf-8")
        tasks.append(
            {
                "task_id": name,
                "trace": f"traces/{name}.jsonl",
                "model_calls": 2,
                "tool_calls": 2,
                "total_recorded_tool_delay_ms": 100.0,
            }
        )
    manifest = {"version": 1, "mode": "replay", "name": folder.name, "tasks": tasks}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
