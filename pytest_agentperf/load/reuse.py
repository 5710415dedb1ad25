"""Whether a server keeps connections open between requests, found out before any is trusted.

There are servers that promise to (`Keep-Alive: timeout=5`) and close every connection once a stream has ended, a moment
later: a request that follows at once would meet the closing, and be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.load.connection import Connection
    from pytest_agentperf.load.loop import Loop, Timer

# Longer than a busy server takes to close; shorter than any idle limit.
PROOF_NS = NS_PER_S // 2


class Reuse:
    """Leaves the first connection alone after its answer; until it is known whether it stays open, none is reused."""

    def __init__(self, loop: Loop, *, trusted: bool = False) -> None:
        self.trusted = trusted
        """Whether a connection may carry another request."""
        self._loop = loop
        self._on_trial: Connection | None = None
        self._timer: Timer | None = None
        self._decided = trusted

    def put_aside(self, connection: Connection) -> None:
        """Take a connection that has carried its request, while none may carry another one."""
        if self._decided or self._on_trial is not None:
            connection.abort()
            return
        self._on_trial = connection
        self._timer = self._loop.call_at(monotonic_ns() + PROOF_NS, self._judge)

    def close(self) -> None:
        """Let go of what is on trial."""
        if self._timer is not None:
            self._timer.cancel()
        if self._on_trial is not None:
            self._on_trial.abort()
            self._on_trial = None

    def _judge(self) -> None:
        connection, self._on_trial = self._on_trial, None
        assert connection is not None
        self._decided = True
        self.trusted = connection.open and not connection.closed_by_server()
        connection.abort()
