"""One coding agent as a state machine: told what happened, it says what to do next.

    start ─► Send turn 0 ─► answered ─► Wait tool delay ─► woke ─► Send turn 1 … last turn answered
                ▲                                                                    │
                └──────────────────── next trajectory, no pause ─────────────────────┘

The model's answer does not enter the next request. After a failure the agent waits at least `failure_wait_ns`
(also after a last turn) and goes on at the next turn; the trajectory still completes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_agentperf.core.records import Answer


class Send(NamedTuple):
    """Send this turn of this trajectory now."""

    ordinal: int
    trajectory: str
    turn: int


class Wait(NamedTuple):
    """Do nothing until then, then call `woke`."""

    until_ns: int


class Agent:
    """Works through its assigned trajectories, one after another."""

    def __init__(
        self,
        id_: int,
        trajectories: Iterator[str],
        tool_delays_ns: Callable[[str], Sequence[int]],
        *,
        failure_wait_ns: int,
    ) -> None:
        """`tool_delays_ns(trajectory)` gives the delay after each of its turns; its length is their number."""
        self.id = id_
        self.completed = 0
        self._trajectories = trajectories
        self._tool_delays_ns = tool_delays_ns
        self._failure_wait_ns = failure_wait_ns
        self._trajectory = ""
        self._ordinal = -1
        self._turn = 0
        self._delays: Sequence[int] = ()
        self._waiting = False

    def start(self) -> Send:
        """Begin the first trajectory."""
        if self._ordinal >= 0:
            raise RuntimeError(f"agent {self.id} was started twice")
        return self._begin_next()

    def answered(self, answer: Answer) -> Send | Wait:
        """Take the end of the request that was last asked for."""
        if self._waiting or self._ordinal < 0:
            raise RuntimeError(f"agent {self.id} got an answer while it waits or before its start")
        last = self._turn == len(self._delays) - 1
        if last:
            self.completed += 1
        delay_ns = self._delays[self._turn]
        if answer.failure is not None:
            delay_ns = max(delay_ns, self._failure_wait_ns)
        elif last:
            delay_ns = 0
        if delay_ns == 0:
            return self._advance()
        self._waiting = True
        return Wait(answer.t_end_ns + delay_ns)

    def woke(self) -> Send:
        """Go on after a wait."""
        if not self._waiting:
            raise RuntimeError(f"agent {self.id} was woken while it does not wait")
        self._waiting = False
        return self._advance()

    def _advance(self) -> Send:
        if self._turn == len(self._delays) - 1:
            return self._begin_next()
        self._turn += 1
        return Send(self._ordinal, self._trajectory, self._turn)

    def _begin_next(self) -> Send:
        self._trajectory = next(self._trajectories)
        self._delays = self._tool_delays_ns(self._trajectory)
        if not self._delays:
            raise ValueError(f"trajectory {self._trajectory!r} has no turns")
        self._ordinal += 1
        self._turn = 0
        return Send(self._ordinal, self._trajectory, 0)
