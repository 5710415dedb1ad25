"""When the tools of a turn were at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.delays import is_tool_time
from pytest_agentperf.dataset.reading import MAX_DURATION_MS, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_DURATION_NS = to_ns(MAX_DURATION_MS)


class Interval(NamedTuple):
    """From when to when a tool worked, on the recording's clock."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """Return its length."""
        return self.end_ns - self.start_ns


def interval(start_ns: int | None, end_ns: int | None) -> Interval | None:
    """Return the interval, None where an end is unknown, before the start or more than a day after it."""
    if start_ns is None or end_ns is None or not 0 <= end_ns - start_ns <= _MAX_DURATION_NS:
        return None
    return Interval(start_ns, end_ns)


def covered_ns(intervals: Iterable[Interval]) -> int:
    """Return the length of the union: what ran at once counts once."""
    total_ns = 0
    until_ns: int | None = None
    for start_ns, end_ns in sorted(intervals):
        begin_ns = start_ns if until_ns is None else max(start_ns, until_ns)
        if end_ns > begin_ns:
            total_ns += end_ns - begin_ns
        until_ns = end_ns if until_ns is None else max(end_ns, until_ns)
    return total_ns


def tools_delay_ns(calls: Iterable[tuple[str, Interval | None]]) -> int | None:
    """Return how long the tools of one turn were at work, given (tool, when); None where one was not measured."""
    intervals = [when for tool, when in calls if is_tool_time(tool)]
    measured = [when for when in intervals if when is not None]
    return covered_ns(measured) if len(measured) == len(intervals) else None
