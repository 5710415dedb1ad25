"""Virtual time: an event queue that jumps from one due callback to the next."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable


class Source(Protocol):
    """Something that keeps its own events in order, as an engine does, and knows nothing of other sources."""

    def advance(self, until_ns: int) -> int | None:
        """Go on until there is something to tell, or to `until_ns`; return when it came up, None for nothing."""

    def tell(self) -> None:
        """Tell it."""


class _Timer:
    """What is called, None for nothing."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Call it off."""
        self.callback = None


class VirtualClock:
    """A `Clock` and a `BlockingClock` in which nothing takes time but waiting; equal inputs give equal orders."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._queue: list[tuple[int, int, _Timer]] = []
        """When each is due, its place in the order of asking, and what it is."""
        self._order = 0
        self._sources: list[Source] = []

    def now_ns(self) -> int:
        """Return the virtual time."""
        return self._now_ns

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> _Timer:
        """Run `callback` at `when_ns`; what is due at one moment runs in the order it was asked for."""
        self._order = order = self._order + 1
        if when_ns < self._now_ns:
            when_ns = self._now_ns
        timer = _Timer(callback)
        heappush(self._queue, (when_ns, order, timer))
        return timer

    def attach(self, source: Source) -> None:
        """Run a source's events too, each before the callbacks of the same moment."""
        self._sources.append(source)

    def detach(self, source: Source) -> None:
        """Leave a source alone from now on."""
        self._sources.remove(source)

    def sleep(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due in it."""
        self.run_until(self._now_ns + round(seconds * NS_PER_S))

    def run_until(self, when_ns: int) -> None:
        """Run everything that falls due up to `when_ns`, and let it be that time."""
        queue, sources = self._queue, self._sources
        while True:
            due_ns = queue[0][0] if queue and queue[0][0] < when_ns else when_ns
            teller = None
            for source in sources:
                if (found_ns := source.advance(due_ns)) is not None:
                    due_ns, teller = found_ns, source
            if teller is not None:
                # What a source was asked between its events it may have found out already.
                if due_ns > self._now_ns:
                    self._now_ns = due_ns
                teller.tell()
            elif queue and queue[0][0] <= when_ns:
                self._now_ns, _, timer = heappop(queue)
                if timer.callback is not None:
                    timer.callback()
            else:
                break
        if when_ns > self._now_ns:
            self._now_ns = when_ns
