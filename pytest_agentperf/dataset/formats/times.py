"""Moments, durations and intervals of foreign recordings, in nanoseconds; what is not plausible is unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.dataset.delays import is_tool_time
from pytest_agentperf.dataset.formats.values import number
from pytest_agentperf.dataset.reading import MAX_DURATION_NS

if TYPE_CHECKING:
    from collections.abc import Iterable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH_MAX_S = 10**11
"""The year 5138: smaller than today's milliseconds, which are then not taken for seconds."""


class Interval(NamedTuple):
    """From when to when a tool worked, on the recording's clock."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """Return its length."""
        return self.end_ns - self.start_ns


def moment_ns(value: Any) -> int | None:
    """Return the time of an ISO text or of an epoch in seconds, to the microsecond; without a zone, as UTC."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        except (ValueError, OverflowError):
            return None
        return since // _MICROSECOND * 1_000
    seconds = number(value)
    return None if seconds is None or not 0 < seconds <= _EPOCH_MAX_S else round(seconds * 1_000_000) * 1_000


def duration_ns(seconds: Any) -> int | None:
    """Return a duration given in seconds, None if it is negative or longer than a day: then it is no tool's."""
    found = number(seconds)
    if found is None or not 0 <= found * NS_PER_S <= MAX_DURATION_NS:
        return None
    return round(found * NS_PER_S)


def interval(start_ns: int | None, end_ns: int | None) -> Interval | None:
    """Return the interval, None where an end is unknown, before the start or more than a day after it."""
    if start_ns is None or end_ns is None or not 0 <= end_ns - start_ns <= MAX_DURATION_NS:
        return None
    return Interval(start_ns, end_ns)


def elapsed_ns(start_ns: int | None, end_ns: int | None) -> int | None:
    """Return the length of that interval."""
    when = interval(start_ns, end_ns)
    return None if when is None else when.duration_ns


def covered_ns(intervals: Iterable[Interval]) -> int:
    """Return the length of the union: what ran at once counts once."""
    total_ns = 0
    until_ns: int | None = None
    for start_ns, end_ns in sorted(intervals):
        begin_ns = start_ns if until_ns is None else max(start_ns, until_ns)
        total_ns += max(0, end_ns - begin_ns)
        until_ns = max(begin_ns, end_ns)
    return total_ns


def tools_delay_ns(calls: Iterable[tuple[str, Interval | None]]) -> int | None:
    """Return how long the tools of one turn were at work, given (tool, when).

    None where one was not measured, so that the single durations decide. What is no tool time does not count.
    """
    intervals = [when for tool, when in calls if is_tool_time(tool)]
    measured = [when for when in intervals if when is not None]
    return covered_ns(measured) if len(measured) == len(intervals) else None
