"""Keeps the clocks of other hosts known through a phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.host_clock import Exchange
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.load.crew import Crew, Host, Worker

_EXCHANGES = 12
_EVERY_NS = 60 * NS_PER_S
_PATIENCE_S = 30.0


class Clocks:
    """Asks one worker of each host what time it is: before a phase, every minute in it, and at its end."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._hosts: list[Host] = []
        self._next_ns = 0
        self._pending: dict[Host, list[Exchange]] = {}

    @property
    def lead_ns(self) -> int:
        """Return how long a frame may take to the farthest host."""
        return max((host.clock.round_trip_ns + host.clock.bound_ns for host in self._hosts), default=0)

    def begin(self, hosts: Iterable[Host]) -> None:
        """Estimate the offsets for a phase; raises LoadError."""
        self._hosts = [host for host in hosts if host.remote]
        self._pending.clear()
        self._next_ns = monotonic_ns() + _EVERY_NS
        for host, exchanges in self._ask_all().items():
            host.clock.begin(exchanges)

    def tick(self) -> None:
        """Begin a new round if it is time to; nobody waits for the answers."""
        if self._hosts and monotonic_ns() >= self._next_ns:
            self._next_ns = monotonic_ns() + _EVERY_NS
            for host in self._hosts:
                self._pending[host] = []
                self._crew.send(host.workers[0], "clock", monotonic_ns())

    def take(self, worker: Worker, frame: Sequence[Any]) -> None:
        """Take an answer to a round of `tick`: ask again, until there are enough to judge."""
        host = worker.host
        if host is None or (exchanges := self._pending.get(host)) is None:
            return
        exchanges.append(Exchange(*frame[1:]))
        if len(exchanges) < _EXCHANGES:
            self._crew.send(worker, "clock", monotonic_ns())
        else:
            host.clock.again(exchanges)
            del self._pending[host]

    def end(self) -> None:
        """See how far the clocks have drifted by the phase's end; raises LoadError."""
        self._pending.clear()
        for host, exchanges in self._ask_all().items():
            host.clock.again(exchanges)

    def _ask_all(self) -> dict[Host, list[Exchange]]:
        found: dict[Host, list[Exchange]] = {host: [] for host in self._hosts}
        for _ in range(_EXCHANGES if found else 0):
            asked = {host.workers[0]: host for host in self._hosts}
            for worker in asked:
                self._crew.send(worker, "clock", monotonic_ns())
            for worker, frame in self._crew.gather(asked, "clock", _PATIENCE_S):
                found[asked[worker]].append(Exchange(*frame[1:]))
        return found
