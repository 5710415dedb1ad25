"""Drives an engine in real time: one timer, no task per request or token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.ports import Cancellable, Clock
    from pytest_agentperf.sim.engine import Engine
    from pytest_agentperf.sim.events import EngineEvent, EngineRequest, EngineStats


class EnginePump:
    """Passes the engine's events on as they fall due."""

    def __init__(self, engine: Engine, clock: Clock, on_event: Callable[[EngineEvent], None]) -> None:
        self._engine = engine
        self._clock = clock
        self._on_event = on_event
        self._timer: Cancellable | None = None
        self._timer_ns = 0

    def now_ns(self) -> int:
        """Return the clock's time."""
        return self._clock.now_ns()

    def submit(self, request: EngineRequest, now_ns: int) -> None:
        """Hand a request to the engine."""
        self._engine.submit(request, now_ns)
        self._arm()

    def cancel(self, request_id: int) -> None:
        """Call a request off."""
        self._engine.cancel(request_id, self._clock.now_ns())
        self._arm()

    def stats(self) -> EngineStats:
        """Return the engine's state now."""
        stats = self._engine.stats(self._clock.now_ns())
        self._arm()
        return stats

    def close(self) -> None:
        """Stop passing events on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due_ns = self._engine.next_event_ns()
        if self._timer is not None:
            if self._timer_ns == due_ns:
                return
            self._timer.cancel()
            self._timer = None
        if due_ns is not None:
            self._timer_ns = due_ns
            self._timer = self._clock.call_at(due_ns, self._fire)

    def _fire(self) -> None:
        self._timer = None
        for event in self._engine.advance(self._clock.now_ns()):
            self._on_event(event)
        self._arm()
