"""The injected faults: what each does to a run."""

from __future__ import annotations

import errno
import math
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from fault_bench import Fault
from fault_wire import WIRES, death_of_an_engine, failure_of

from pytest_agentperf.core.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from virtual_system import FailingServer

    from pytest_agentperf.core.answers_so_far import AnswersSoFar
    from pytest_agentperf.core.phase import PhaseEvents
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.deployed import Deployed

ALWAYS = 99


class Requests(Fault):
    """Half of the requests of each phase with four agents meet a fault of the wire."""

    def __init__(self, name: str) -> None:
        super().__init__(ALWAYS)
        self._failure = failure_of(name)

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        if self._failure is not None and self.strikes():
            for row in range(0, len(columns), 2):
                columns.texts["failure"][row] = self._failure


class Gone(Fault):
    """The server, or the way to it, is gone at the end of a phase."""

    def __init__(self, times: int, health: str = "dead", failure: str = "cut") -> None:
        super().__init__(times)
        self._health = health
        self._failure = failure

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        if self.strikes():
            columns.texts["failure"][-1] = self._failure
            server.health = self._health  # type: ignore[assignment]


class DeadEngine(Fault):
    """Requests fail in these ways from the middle of a phase on, the last way until the server is revived."""

    def __init__(self, *failures: str | None) -> None:
        super().__init__(1)
        self._failures = failures
        self._dead = False

    def deployed(self, deployed: Deployed, server: FailingServer) -> None:
        deployed._still_works = lambda: not self._dead

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        # A server that was revived works.
        self._dead = self.strikes()
        if self._dead:
            last = columns["t_end_ns"].argsort()[len(columns) // 2 :]
            for row, failure in zip(last, chain(self._failures, repeat(self._failures[-1])), strict=False):
                columns.texts["failure"][row] = failure


class Refusing(Fault):
    """A second after its begin, a phase that would last for hours gets nothing but 503 from a front that lives."""

    def __init__(self) -> None:
        super().__init__(1)
        self._since_ns: int | None = None

    def deployed(self, deployed: Deployed, server: FailingServer) -> None:
        deployed._refuses = lambda: self._since_ns is not None
        deployed._still_works = lambda: self._since_ns is None
        revive = server.revive

        def revived(patience_s: float) -> None:
            self._since_ns = None
            revive(patience_s)

        server.revive = revived  # type: ignore[method-assign]

    def events(self, events: PhaseEvents, now_ns: int) -> PhaseEvents:
        if self._since_ns is None and self.strikes():
            self._since_ns = now_ns + 1_000_000_000
        if self._since_ns is None:
            return events
        # No trajectory ends, so that nothing else ends the phase either.
        events = events._replace(completions=())
        if now_ns < self._since_ns:
            return events
        return events._replace(ttft_s=(math.inf,) * len(events.ttft_s), failures=len(events.ttft_s))

    def under_way(self, answers: AnswersSoFar) -> AnswersSoFar:
        return answers if self._since_ns is None else answers.only(answers.ended)

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        if self._since_ns is not None:
            for row in np.flatnonzero(columns["t_end_ns"] >= self._since_ns):
                columns.texts["failure"][row] = "http_5xx"


class Worker(Fault):
    """A load worker is killed in the middle of a phase."""

    def poll(self) -> None:
        if self.strikes():
            raise LoadError("load worker 0 has died: SIGKILL", remedy="see the kernel's log")


class Late(Fault):
    """The load generator reads late."""

    def describe(self) -> dict[str, Any]:
        return {"lag_p99_s": 0.5} if self.strikes() else {}


class Descriptors(Fault):
    """This machine has no descriptor left for some connections."""

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        if self.strikes():
            columns.texts["failure"][0] = "client_resources"


class NotIdle(Fault):
    """The server goes on with requests whose client is gone."""

    def columns(self, columns: RequestColumns, server: FailingServer) -> None:
        if self.spec is not None and self.spec.kind != "warmup":
            # What the next phase finds.
            server.in_flight = 1.0 if self.spec.n_agents == 2 and self.left else 0.0
            self.left -= self.spec.n_agents == 2


class RecordsFull(Fault):
    """The disk is full when a phase's records are written."""

    def storing(self) -> None:
        if self.strikes():
            raise LoadError(
                f"the records cannot be written: {OSError(errno.ENOSPC, 'No space left').strerror}"
            )


class JournalFull(Fault):
    """The disk is full when a line of the journal is written."""

    def appending(self) -> None:
        if self.strikes():
            raise OSError(errno.ENOSPC, "No space left on device")


class Interrupted(Fault):
    """Ctrl-C, or SIGTERM, which is taken as one, in the middle of a phase."""

    def poll(self) -> None:
        if self.strikes():
            raise KeyboardInterrupt("interrupted")


class Killed(Interrupted):
    """SIGKILL in the middle of a phase: not even the last line of the journal, which says how long it took."""

    said = "nothing: it is gone"

    def killed(self, journal: Path) -> None:
        lines = journal.read_bytes().splitlines(keepends=True)
        while b'"event":"phase_started"' not in lines[-1]:
            lines.pop()
        journal.write_bytes(b"".join(lines))


class Torn(Killed):
    """Power is lost while a line of the journal is written."""

    def killed(self, journal: Path) -> None:
        super().killed(journal)
        with journal.open("ab") as file:
            file.write(b'{"sha256":"0123')


class Zeros(Killed):
    """Power is lost, and the file system gives back zeros where the last line was."""

    def killed(self, journal: Path) -> None:
        super().killed(journal)
        with journal.open("ab") as file:
            file.write(b"\0" * 512)


_NETWORK = {"a connection that is reset", "a connection that is refused"}
FAULTS: dict[str, tuple[str, Callable[[], Fault]]] = {
    **{
        name: ("network" if name in _NETWORK else "server", lambda name=name: Requests(name))  # type: ignore[misc]
        for name in WIRES
    },
    "a crash": ("server", lambda: Gone(1)),
    "a crash, and another one at the same number of agents": ("server", lambda: Gone(2)),
    "an engine that dies behind a living front": ("server", lambda: DeadEngine("http_5xx")),
    "an engine that dies behind a living front, long before its phase would end": ("server", Refusing),
    "a prompt that kills the engine behind a living front": (
        "server",
        lambda: DeadEngine(*death_of_an_engine()),
    ),
    "requests that go on though their client is gone": ("server", NotIdle),
    "a host that is out of reach": ("network", lambda: Gone(1, "unreachable", "timeout_connect")),
    "a load worker killed": ("worker", Worker),
    "a load worker that reads late": ("worker", Late),
    "no file descriptor left": ("worker", Descriptors),
    "disk full at a phase's records": ("disk", RecordsFull),
    "disk full at the journal": ("disk", JournalFull),
    "power lost in the middle of a line": ("disk", Torn),
    "power lost, zeros in place of the last line": ("disk", Zeros),
    "Ctrl-C or SIGTERM": ("signal", Interrupted),
    "SIGKILL": ("signal", Killed),
}
