"""Virtual time: an event queue that jumps from one due callback to the next."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Timer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Call it off."""
        self.callback = None


class VirtualClock:
    """A `Clock` in which nothing takes time but waiting; equal inputs give equal orders of events."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._queue: list[tuple[int, int, _Timer]] = []
        self._order = count()

    def now_ns(self) -> int:
        """Return the virtual time."""
        return self._now_ns

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> _Timer:
        """Run `callback` at `when_ns`; what is due at one moment runs in the order it was asked for."""
        timer = _Timer(callback)
        heapq.heappush(self._queue, (max(when_ns, self._now_ns), next(self._order), timer))
        return timer

    def run_until(self, when_ns: int) -> None:
        """Run everything that falls due up to `when_ns`, and let it be that time."""
        while self._queue and self._queue[0][0] <= when_ns:
            due_ns, _, timer = heapq.heappop(self._queue)
            self._run(due_ns, timer)
        self._now_ns = max(self._now_ns, when_ns)

    def run_next(self) -> bool:
        """Jump to the next due callback and run it; False if nothing is due any more."""
        while self._queue:
            due_ns, _, timer = heapq.heappop(self._queue)
            if self._run(due_ns, timer):
                return True
        return False

    def _run(self, due_ns: int, timer: _Timer) -> bool:
        callback = timer.callback
        if callback is None:
            return False
        self._now_ns = due_ns
        callback()
        return True
