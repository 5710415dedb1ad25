"""What the manifest and the rows of an agentperf-local replay say, in the format's version 1."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import ChatMessage, Count, DurationMs, brief, to_ns

ELSEWHERE: dict[str, Any] = {}
"""Stands in what is kept of a manifest or row where the trajectory itself has the value."""

VERSION = 1
MALFORMED = "compare with the replay format, version 1 (agentperf-local, docs/FORMATS.md)"

# Totals are sums of rounded floats; no real difference between recordings is this small.
_DELAY_REL_TOLERANCE = 1e-6
_DELAY_ABS_TOLERANCE_MS = 1.0


class _Foreign(BaseModel):
    # Not closed: the format has fields we do not need, and its authors may add more.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Task(_Foreign):
    """One task and the totals that its trace must have."""

    task_id: Annotated[str, Field(min_length=1)]
    trace: Annotated[str, Field(min_length=1)]
    model_calls: Count
    tool_calls: Count
    total_recorded_tool_delay_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Manifest(_Foreign):
    """The tasks of a replay."""

    version: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    tasks: Annotated[list[Task], Field(min_length=1)]


class _RecordedToolCall(_Foreign):
    duration_ms: DurationMs | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None


class Row(_Foreign):
    """One model turn."""

    version: Literal[1]
    task_id: str
    conversation_id: str
    conversation_idx: Count
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    tools: list[dict[str, Any]] | None = None
    simulated_tool_delay_ms_after: DurationMs
    recorded_tool_calls_after: list[_RecordedToolCall] = []
    target_output_tokens: Count | None = None
    recorded_prompt_tokens: Count | None = None
    recorded_completion_tokens: Count | None = None


def check_version(value: Any, *, where: str) -> None:
    """Refuse a manifest or a row of another version."""
    # Before the fields: another version has other fields, and the user should hear about the version.
    version = value.get("version") if isinstance(value, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise DatasetError(
            f"replay version is {brief(version)}, this reader knows {VERSION}",
            where=where,
            remedy=f"export it again as version {VERSION}",
        )


def is_relative(trace: str) -> bool:
    """Say whether a trace's path stays inside the replay's directory."""
    path = PurePosixPath(trace)
    return not (path.is_absolute() or ".." in path.parts or "\\" in trace or "\0" in trace)


def same_delay(found_ms: float, declared_ms: float) -> bool:
    """Say whether a declared total of delays is that of the rows."""
    return math.isclose(found_ms, declared_ms, rel_tol=_DELAY_REL_TOLERANCE, abs_tol=_DELAY_ABS_TOLERANCE_MS)


def besides(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what the trajectory holds in full, the order of its fields kept."""
    return {
        name: ELSEWHERE if name == "messages" or (name == "tools" and value) else value
        for name, value in row.items()
    }


def request(row: Row) -> RecordedRequest:
    """Return the turn of a row."""
    output_tokens = row.recorded_completion_tokens
    return RecordedRequest(
        messages=row.messages,
        # The format writes "no tools" as an empty list, which chat endpoints refuse.
        tools=row.tools or None,
        tool_delay_ns=to_ns(row.simulated_tool_delay_ms_after),
        prompt_tokens=row.recorded_prompt_tokens,
        output_tokens=row.target_output_tokens if output_tokens is None else output_tokens,
        tool_calls=tuple(
            ToolCall(
                call.tool_call_id,
                call.tool_name or "unknown",
                None if call.duration_ms is None else to_ns(call.duration_ms),
            )
            for call in row.recorded_tool_calls_after
        ),
    )
