"""Which rank a request goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.rank import Rank
    from pytest_agentperf.sim.engine.replica import Replica

REMEMBERED_SESSIONS = 1_000_000


def least_loaded(ranks: list[Rank]) -> Rank:
    """Return the rank with the fewest requests; of equals the one with the fewest sessions, then the first."""
    best = ranks[0]
    fewest = best.in_flight
    for rank in ranks:
        in_flight = rank.in_flight
        if in_flight < fewest or (in_flight == fewest and rank.assigned < best.assigned):
            best, fewest = rank, in_flight
    return best


class SessionRouter:
    """Sends a session's first request to the least loaded rank, and the others after it."""

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
            self._sessions[session] = rank = least_loaded(ranks)
            rank.assigned += 1
        return rank
