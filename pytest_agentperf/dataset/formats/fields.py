"""Reading single fields of foreign recordings: the value if it is of the right kind, else None or nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.delays import is_tool_time
from pytest_agentperf.dataset.reading import (
    MAX_DURATION_MS,
    brief,
    parse_json,
    read_bytes,
    read_gzip,
    to_ns,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import ToolCall

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MAX_DURATION_NS = to_ns(MAX_DURATION_MS)

Span = tuple[int, int]
"""When something began and ended, in nanoseconds since the epoch."""


def text(value: Any) -> str | None:
    """Return a string, None for anything else."""
    return value if isinstance(value, str) else None


def fields(value: Any) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count(value: Any) -> int | None:
    """Return a number of tokens, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def row(value: Any, where: str, *, of: str) -> dict[str, Any]:
    """Return a line that must be an object; raises DatasetError."""
    if not isinstance(value, dict):
        raise DatasetError(
            f"{brief(value)} is no line of {of}",
            where=where,
            remedy="the file is damaged or not in this format: name the right one by --format",
        )
    return value


def json_text(value: Any) -> str:
    """Return a parsed value as JSON text."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise DatasetError("nested too deeply", remedy="no recording nests this deeply: check it") from error


def arguments_text(value: Any) -> str:
    """Return a call's arguments as JSON text; those that are text already stay what they are."""
    if isinstance(value, str):
        return value
    return "{}" if value is None else json_text(value)


def time_ns(value: Any) -> int | None:
    """Return an ISO time as nanoseconds since the epoch; one without a zone is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return (when - _EPOCH) // _MICROSECOND * 1_000
    except (ValueError, OverflowError):
        return None


def elapsed_ns(start_ns: int | None, end_ns: int | None) -> int | None:
    """Return the time between, None where it is unknown, negative or longer than a day: then it is no tool's."""
    if start_ns is None or end_ns is None:
        return None
    return end_ns - start_ns if 0 <= end_ns - start_ns <= MAX_DURATION_NS else None


def parallel_delay_ns(calls: Sequence[ToolCall], spans: Sequence[Span]) -> int | None:
    """Return how long any of several calls ran, so that parallel calls count once.

    None where one call's time is unknown or no tool time: then the single durations decide.
    """
    if len(calls) < 2 or len(spans) != len(calls) or not all(is_tool_time(call.name) for call in calls):
        return None
    total_ns = _covered_ns(spans)
    return total_ns if total_ns <= MAX_DURATION_NS else None


def _covered_ns(spans: Iterable[Span]) -> int:
    total_ns = 0
    until_ns: int | None = None
    for start_ns, end_ns in sorted(spans):
        begin_ns = start_ns if until_ns is None else max(start_ns, until_ns)
        if end_ns > begin_ns:
            total_ns += end_ns - begin_ns
            until_ns = end_ns
    return total_ns


def read_document(path: Path) -> Any:
    """Return the JSON value of a file, which may be gzipped; raises DatasetError."""
    data = read_bytes(path)
    if data.startswith(b"\x1f\x8b"):
        data = read_gzip(path)
    return parse_json(data, where=str(path), first_line=1)
