"""What load hosts do besides sending requests: they are taken for a probe, run null servers, try the endpoint."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_agentperf.load.hosts import weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_agentperf.load.crew import Crew, Host

_TIMEOUT_S = 60.0
_LOCK_RETRY_S = 1.0


class Chores:
    """Asks one worker of a host, which does it between phases (`worker.HostChores`)."""

    def __init__(self, crew: Crew, run: str) -> None:
        """`run`: what names the run to the hosts, in all its pools."""
        self._crew = crew
        self._run = run
        self._holders = 0

    @contextmanager
    def held(self, hosts: Sequence[Host], on_wait: Callable[[str], None]) -> Iterator[None]:
        """Keep hosts locked over all that happens inside; after an error their workers' end lets them go."""
        self.lock(hosts, on_wait)
        yield
        self.unlock(hosts)

    def lock(self, hosts: Sequence[Host], on_wait: Callable[[str], None]) -> None:
        """Take hosts for a probe, and wait for those that carry another one; as often as they are let go."""
        self._holders += 1
        if self._holders > 1:
            return
        # All in one order, so that two runs never wait for each other.
        for host in sorted(hosts, key=lambda host: host.facts.id):
            told = False
            while not self._ask(host, "lock", run=self._run):
                if not told:
                    on_wait(f"load host {host.name} carries another run's probe: waiting for its end")
                    told = True
                threading.Event().wait(_LOCK_RETRY_S)

    def unlock(self, hosts: Sequence[Host]) -> None:
        """Let hosts go, if nothing else of this run holds them."""
        self._holders = max(0, self._holders - 1)
        if self._holders:
            return
        for host in hosts:
            self._ask(host, "unlock")

    def unreachable(self, hosts: Sequence[Host]) -> dict[str, str]:
        """Return the hosts that do not reach the endpoint, and why."""
        found = {host.name: self._ask(host, "reach") for host in hosts}
        return {name: why for name, why in found.items() if why is not None}

    @contextmanager
    def null_servers(
        self, hosts: Sequence[Host], chunks_per_s: float, *, per_server: float, **how: float
    ) -> Iterator[NullServersOfHosts]:
        """Let each host run null servers for its own workers: as many as its share needs, and it has cores for.

        On a worker's core a null server would be late itself, and its lateness taken for the worker's. After an error
        they end with the workers.
        """
        whole = sum(len(host.workers) * weight(host) for host in hosts)
        servers = NullServersOfHosts(self, hosts)
        for host in hosts:
            wanted = math.ceil(len(host.workers) * weight(host) / whole * chunks_per_s / per_server)
            count = min(wanted, max(1, host.facts.cores - len(host.workers)))
            servers.urls[host.facts.id] = self._ask(host, "start_null_servers", count=count, **how)
        yield servers
        servers.stop()

    def stop_null_servers(self, host: Host) -> Any:
        """Return what they noted; nothing where none runs."""
        return self._ask(host, "stop_null_servers")

    def _ask(self, host: Host, name: str, **arguments: Any) -> Any:
        worker = host.workers[0]
        self._crew.send(worker, "chore", name, arguments)
        ((_, (_, found)),) = self._crew.gather([worker], "chore", _TIMEOUT_S)
        return found


class NullServersOfHosts:
    """The null servers of all hosts, in a calibration."""

    def __init__(self, chores: Chores, hosts: Sequence[Host]) -> None:
        self.urls: dict[str, list[str]] = {}
        """By id of the host."""
        self._chores, self._hosts = chores, hosts
        self._notes: dict[str, Any] | None = None

    def stop(self) -> Mapping[str, Any]:
        """End them and return what they noted, by id of the host."""
        if self._notes is None:
            self._notes = {}
            for host in self._hosts:
                self._notes[host.facts.id] = self._chores.stop_null_servers(host)
        return self._notes
