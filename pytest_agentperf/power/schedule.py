"""When to read: at fixed moments of the monotonic clock, however long a reading takes."""

from __future__ import annotations


class Schedule:
    """Moments at `start_ns + k · period_ns`; those that were missed are skipped, never made up for."""

    def __init__(self, start_ns: int, period_ns: int) -> None:
        self._start_ns = start_ns
        self._period_ns = period_ns
        self._k = 0

    def next_ns(self, now_ns: int) -> int:
        """Return the moment that comes next: never one that was returned before, even when woken too early."""
        self._k = max(self._k, (now_ns - self._start_ns) // self._period_ns) + 1
        return self._start_ns + self._k * self._period_ns
