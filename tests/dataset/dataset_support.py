"""Small trajectories and replays for the dataset tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from pytest_agentperf.core.trajectory import ToolCall, Trajectory
from pytest_agentperf.dataset import DatasetMetadata
from pytest_agentperf.dataset.histories import RecordedRequest, TrajectoryBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METADATA = DatasetMetadata(name="tiny", version="1", licence="Apache-2.0", provenance="made by a test")
BASH = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def request(
    *messages: dict[str, Any], tokens: int | None = None, delay_ns: int = 1_500_000
) -> RecordedRequest:
    return RecordedRequest(
        messages=messages,
        tools=[BASH],
        tool_delay_ns=delay_ns,
        prompt_tokens=tokens,
        output_tokens=7,
        tool_calls=(ToolCall("call_1", "bash", delay_ns),),
    )


def trajectory(trajectory_id: str = "t1", *, tokens: Sequence[int | None] = (10, 20, 30)) -> Trajectory:
    builder = TrajectoryBuilder(trajectory_id, language="Python", model="m")
    history = [message("system", "s"), message("user", "u")]
    for k, count in enumerate(tokens):
        builder.add(request(*history, tokens=count))
        history += [message("assistant", f"a{k}", reasoning_content=f"r{k}"), message("tool", f"out{k}")]
    return builder.build()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
messages = st.builds(
    lambda role, content, extra: {"role": role, "content": content, "extra": extra},
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.text(max_size=20),
    json_values,
)
delays_ns = st.integers(min_value=0, max_value=3_600 * 10**9)
counts = st.none() | st.integers(min_value=0, max_value=10**6)


@st.composite
def requests(draw: st.DrawFn) -> list[RecordedRequest]:
    """Histories over a small pool of messages, in any order and with repetitions."""
    pool = draw(st.lists(messages, min_size=1, max_size=6))
    tool_sets = draw(
        st.lists(st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=2), max_size=2))
    )
    one = st.builds(
        RecordedRequest,
        messages=st.lists(st.sampled_from(pool), min_size=1, max_size=8),
        tools=st.sampled_from([None, *tool_sets]),
        tool_delay_ns=delays_ns,
        prompt_tokens=counts,
        output_tokens=counts,
        tool_calls=st.lists(
            st.builds(ToolCall, st.none() | st.text(max_size=4), st.text(max_size=4), st.none() | delays_ns),
            max_size=2,
        ).map(tuple),
        answer=st.none(),
    )
    return draw(st.lists(one, max_size=6))


def built(trajectory_id: str, recorded: Sequence[RecordedRequest]) -> Trajectory:
    builder = TrajectoryBuilder(trajectory_id)
    for one in recorded:
        builder.add(one)
    return builder.build()


def row(index: int, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "version": 1,
        "turn_id": f"task:{index:04}",
        "task_id": "task",
        "conversation_id": "task",
        "conversation_idx": index,
        "messages": [message("system", "s"), message("user", f"turn {index}")],
        "tools": [BASH],
        "simulated_tool_delay_ms_after": 12.5,
        "recorded_tool_calls_after": [
            {"duration_ms": 12.5, "tool_call_id": "c", "tool_name": "bash", "action": {}}
        ],
        "recorded_prompt_tokens": 100 + index,
        "recorded_completion_tokens": 5,
        "target_output_tokens": 6,
    }
    return fields | changes


def write_replay(directory: Path, rows: Sequence[dict[str, Any]] | bytes, **changes: Any) -> Path:
    """Write a replay of one task whose declared totals fit `rows`, unless `changes` say otherwise."""
    (directory / "traces").mkdir(parents=True)
    data = rows if isinstance(rows, bytes) else b"".join(json.dumps(one).encode() + b"\n" for one in rows)
    (directory / "traces" / "task.jsonl").write_bytes(data)
    known = [] if isinstance(rows, bytes) else list(rows)
    task = {
        "task_id": "task",
        "trace": "traces/task.jsonl",
        "model_calls": len(known),
        "tool_calls": sum(len(one.get("recorded_tool_calls_after", ())) for one in known),
        "total_recorded_tool_delay_ms": max(
            0.0, sum(one.get("simulated_tool_delay_ms_after", 0) for one in known)
        ),
    }
    manifest = {"version": 1, "name": "tiny replay", "source": "test", "tasks": [task | changes]}
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory
