"""One coding agent as a state machine: told what happened, it says what to do next.

    start ─► send turn 0 ─► answered ─► wait tool delay ─► woke ─► send turn 1 … last turn answered
                ▲                                                                    │
                └──────────────────── next trajectory, no pause ─────────────────────┘

The model's answer does not enter the next request. After a failure the agent waits at least `failure_wait_ns`
(also after a last turn) and goes on at the next turn; the trajectory still completes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_agentperf.core.records import RequestKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_agentperf.core.records import Answer

# A named tuple's own constructor is Python code, and costs twice as much.
_make: Final[Callable[[type[RequestKey], tuple[int, int, int, int, str, int]], RequestKey]] = tuple.__new__


class Agent:
    """Works through its assigned trajectories, one after another, in one attempt of one phase."""

    __slots__ = (
        "_attempt",
        "_begin_at",
        "_delays",
        "_failure_wait_ns",
        "_last_turn",
        "_ordinal",
        "_phase",
        "_tool_delays_ns",
        "_trajectories",
        "_trajectory",
        "_turn",
        "_waiting",
        "completed",
        "id",
        "wake_ns",
    )

    def __init__(
        self,
        id_: int,
        trajectories: Iterator[str],
        tool_delays_ns: Callable[[str], Sequence[int]],
        *,
        failure_wait_ns: int,
        phase: int,
        attempt: int,
        begin_at: tuple[str, int] | None = None,
    ) -> None:
        """`tool_delays_ns(trajectory)` gives the delay after each of its turns; its length is their number.

        `begin_at`: a trajectory and the turn in it at which to begin, before the assigned ones.
        """
        self.id = id_
        self.completed = 0
        self.wake_ns = 0
        """When to call `woke`, if it was told to wait."""
        self._phase = phase
        self._attempt = attempt
        self._trajectories = trajectories
        self._tool_delays_ns = tool_delays_ns
        self._failure_wait_ns = failure_wait_ns
        self._begin_at = begin_at
        self._trajectory = ""
        self._ordinal = -1
        self._turn = 0
        self._last_turn = 0
        self._delays: Sequence[int] = ()
        self._waiting = False

    @property
    def ordinal(self) -> int:
        """Return the number of the trajectory it works on, from 0."""
        return self._ordinal

    def start(self) -> RequestKey:
        """Begin the first trajectory: return the request to send now."""
        if self._ordinal >= 0:
            raise RuntimeError(f"agent {self.id} was started twice")
        if self._begin_at is None:
            return self._begin(next(self._trajectories), 0)
        return self._begin(*self._begin_at)

    def answered(self, answer: Answer) -> RequestKey | None:
        """Take the end of the last request; return the one to send now, or None to wait until `wake_ns`."""
        if self._waiting or self._ordinal < 0:
            raise RuntimeError(f"agent {self.id} got an answer while it waits or before its start")
        turn = self._turn
        delay_ns = self._delays[turn]
        if turn == self._last_turn:
            self.completed += 1
            if answer.failure is None:
                return self._begin(next(self._trajectories), 0)
        if answer.failure is not None and delay_ns < self._failure_wait_ns:
            delay_ns = self._failure_wait_ns
        if delay_ns == 0:
            return self._advance()
        self._waiting = True
        self.wake_ns = answer.t_end_ns + delay_ns
        return None

    def woke(self) -> RequestKey:
        """Go on after a wait: return the request to send now."""
        if not self._waiting:
            raise RuntimeError(f"agent {self.id} was woken while it does not wait")
        self._waiting = False
        return self._advance()

    def _advance(self) -> RequestKey:
        if self._turn == self._last_turn:
            return self._begin(next(self._trajectories), 0)
        self._turn = turn = self._turn + 1
        return _make(RequestKey, (self._phase, self._attempt, self.id, self._ordinal, self._trajectory, turn))

    def _begin(self, trajectory: str, turn: int) -> RequestKey:
        self._trajectory = trajectory
        self._delays = self._tool_delays_ns(trajectory)
        if not self._delays:
            raise ValueError(f"trajectory {trajectory!r} has no turns")
        self._last_turn = len(self._delays) - 1
        self._ordinal += 1
        self._turn = turn
        return RequestKey(self._phase, self._attempt, self.id, self._ordinal, trajectory, turn)
