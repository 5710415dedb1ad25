"""Which rank a request goes to."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.rank import Rank
    from pytest_agentperf.sim.engine.replica import Replica

REMEMBERED_SESSIONS: Final = 1_000_000

_in_flight: Final = attrgetter("in_flight")
_load: Final = attrgetter("in_flight", "assigned")


def least_loaded(ranks: list[Rank]) -> Rank:
    """Return the rank with the fewest requests; of equals the first."""
    return min(ranks, key=_in_flight)


class SessionRouter:
    """Sends a session's first request to the least loaded rank, and the others after it.

    Of ranks with equally many requests it takes the one with the fewest sessions, then the first.
    """

    __slots__ = ("_ranks", "_sessions")

    def __init__(self, replicas: list[Replica]) -> None:
        self._ranks = [rank for replica in replicas for rank in replica.ranks]
        self._sessions: dict[int, Rank] = {}

    def route(self, session: int) -> Rank:
        """Return the session's rank."""
        ranks = self._ranks
        if len(ranks) == 1:
            return ranks[0]
        rank = self._sessions.get(session)
        if rank is None:
            if len(self._sessions) >= REMEMBERED_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[session] = rank = min(ranks, key=_load)
            rank.assigned += 1
        return rank
