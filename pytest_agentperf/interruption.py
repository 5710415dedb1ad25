"""Ending a run in order while a phase runs: no new requests, those in flight may end, and what was recorded is kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_agentperf.core.journal import PhaseStarted
    from pytest_agentperf.core.ports import BlockingClock, LoadPool
    from pytest_agentperf.core.records import RequestColumns

_POLL_S = 0.1


class Interrupted(KeyboardInterrupt):
    """A run ends because it was asked to; within a phase, with what its requests had recorded by then."""

    def __init__(self, grace_s: float) -> None:
        super().__init__("the run was asked to end")
        self.grace_s = grace_s
        self.columns: RequestColumns | None = None
        """Of the phase that was broken off; they are never judged."""
        self.tokens = 0
        """Of answers that came in the meantime."""


class BrokenOff(NamedTuple):
    """A phase that did not come to its end."""

    phase: PhaseStarted
    columns: RequestColumns


def _keep_nothing(broken: BrokenOff) -> Mapping[str, str]:
    return {}


class StopRequest:
    """Whether a run was asked to end; set by a signal's handler, seen where a phase can end in order."""

    def __init__(
        self,
        *,
        tell: Callable[[float], None] = lambda grace_s: None,
        keep: Callable[[BrokenOff], Mapping[str, str]] = _keep_nothing,
    ) -> None:
        """`tell(grace_s)` is called as a phase begins to end; `keep` stores records, and returns digests by file."""
        self.keep = keep
        self._tell = tell
        self._grace_s: float | None = None
        self._heeded = False

    def ask(self, grace_s: float) -> bool:
        """Ask once; False where nobody would heed it soon, or has been asked already: then stop at once.

        `grace_s`: how long requests in flight may take to end.
        """
        if not self._heeded or self._grace_s is not None:
            return False
        self._grace_s = grace_s
        return True

    def heed(self) -> None:
        """From now on `check` is called soon: several times a second, or once what has ended is kept."""
        self._heeded = True

    @contextlib.contextmanager
    def phase(self) -> Iterator[None]:
        """One phase, until it is kept or lost; nobody heeds a request before `heed` in it, and behind it."""
        try:
            yield
        finally:
            self._heeded = False

    def check(self) -> None:
        """Raise Interrupted once the run was asked to end."""
        if self._grace_s is not None:
            raise Interrupted(self._grace_s)

    def tell(self, interrupted: Interrupted) -> None:
        """Say that a phase is ending."""
        self._tell(interrupted.grace_s)


def let_end(pool: LoadPool, interrupted: Interrupted, clock: BlockingClock) -> None:
    """Let the requests in flight end, for as long as the interrupt leaves, and gather all records."""
    deadline_ns = clock.now_ns() + round(interrupted.grace_s * NS_PER_S)
    # A worker that is gone now takes its records with it; that is not what ends the run.
    with contextlib.suppress(LoadError):
        pool.drain()
        drained = False
        while not drained and clock.now_ns() < deadline_ns:
            events = pool.poll(_POLL_S)
            interrupted.tokens += events.tokens
            drained = events.drained
        interrupted.columns = pool.stop_phase()
