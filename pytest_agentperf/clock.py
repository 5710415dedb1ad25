"""The one real clock. Everything else asks the time, and waits, through the `Clock` port."""

from __future__ import annotations

import time
from itertools import pairwise
from time import (
    monotonic_ns as monotonic_ns,  # the one that all processes of a machine share; it stamps every read
)
from typing import TYPE_CHECKING

from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_NS_PER_MS = 1_000_000


def monotonic_resolution_ns() -> int:
    """Return the resolution that the system states for the monotonic clock."""
    return round(time.get_clock_info("monotonic").resolution * NS_PER_S)


def monotonic_step_ns() -> int:
    """Return the least time that passed between two readings of many: what reading the clock costs."""
    times = [monotonic_ns() for _ in range(200)]
    return min(after - before for before, after in pairwise(times))


def process_cpu_s() -> float:
    """Return the CPU time that this process has used."""
    return time.process_time()


def unix_time_s() -> int:
    """Return the wall-clock time, for labels only."""
    return int(time.time())


def wall_clock_offset_ns() -> tuple[int, int]:
    """Return what the wall clock is ahead of the monotonic one now, and how far that can be off."""
    before_ns = monotonic_ns()
    wall_ns = time.time_ns()
    after_ns = monotonic_ns()
    return wall_ns - (before_ns + after_ns) // 2, (after_ns - before_ns + 1) // 2


class RealClock:
    """The real clock for code that steers: it may block."""

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class AsyncioClock:
    """The real clock inside a running asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        # Most processes have no such loop, and start sooner without it.
        from asyncio import get_running_loop

        self._loop = loop or get_running_loop()

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return monotonic_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> LoopTimer:
        """Run `callback` at `when_ns` or up to two milliseconds later, never earlier."""
        return LoopTimer(self._loop, when_ns, callback)


class LoopTimer:
    """One wait; event loops count in whole milliseconds and may fire early, which would cut a tool delay short."""

    def __init__(self, loop: asyncio.AbstractEventLoop, when_ns: int, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._when_ns = when_ns
        self._callback = callback
        self._arm()

    def cancel(self) -> None:
        """Call it off."""
        self._handle.cancel()

    def _arm(self) -> None:
        left_ns = max(0, self._when_ns - monotonic_ns())
        self._handle = self._loop.call_later(-(-left_ns // _NS_PER_MS) / 1e3, self._fire)

    def _fire(self) -> None:
        if monotonic_ns() < self._when_ns:
            self._arm()
        else:
            self._callback()
