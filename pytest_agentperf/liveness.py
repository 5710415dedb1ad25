"""Notices in the midst of a phase that its server is gone: what follows could not count, and may take hours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.core.phase import PhaseEvents
    from pytest_agentperf.core.ports import Server

NS_PER_S = 1_000_000_000
_ASK_EVERY_NS = 5 * NS_PER_S
# A network that comes back sooner costs failed requests, which count; nobody can say for how long a longer one lasts.
_UNREACHABLE_NS = 30 * NS_PER_S


class Liveness:
    """Follows one phase: as long as anything is answered, nobody is asked."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._failing_since_ns: int | None = None
        self._ask_ns = 0

    def gone(self, events: PhaseEvents, now_ns: int) -> bool:
        """Return whether the server has died, or was out of reach for half a minute that brought no answer."""
        if any(math.isfinite(seconds) for seconds in events.ttft_s):
            self._failing_since_ns = None
        elif events.failures and self._failing_since_ns is None:
            self._failing_since_ns = now_ns
        if self._failing_since_ns is None or now_ns < self._ask_ns:
            return False
        self._ask_ns = now_ns + _ASK_EVERY_NS
        state = self._server.state()
        if state == "alive":
            # What fails is its service, and counts.
            self._failing_since_ns = None
            return False
        return state == "dead" or now_ns - self._failing_since_ns >= _UNREACHABLE_NS
