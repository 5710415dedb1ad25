"""Notices in the midst of a phase that its server is gone: what follows could not count, and may take hours.

A server that sheds load lives, and its refusals count: it serves some while it turns others away. One that serves
nobody for half a minute, has nothing under way and turns away one more short request as well has no load to shed. Its
engine is dead behind a front that answers for it. If the server works again once it is left alone, it was down all the
same: the phase is repeated, and if that happens again at the same number of agents it is FAIL, as with any crash.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.core.answers_so_far import AnswersSoFar
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.phase import Absence, PhaseEvents
    from pytest_agentperf.core.ports import Server

_ASK_EVERY_NS = 5 * NS_PER_S
# A network that comes back sooner costs failed requests, which count; nobody can say for how long a longer one lasts.
_UNREACHABLE_NS = 30 * NS_PER_S
_REFUSING_NS = 30 * NS_PER_S
_REFUSED_MIN = 8
# Who refuses does so sooner; a request that has waited for longer may stand in a queue, and be served next.
_WAITING_NS = 10 * NS_PER_S


class Looks:
    """Looks at a running phase for several who want to know, each of whom is told of all answers."""

    def __init__(self, look: Callable[[], AnswersSoFar]) -> None:
        """`look()` tells of each ended request once."""
        self._look = look
        self._untold: list[AnswersSoFar] = []

    def fresh(self) -> AnswersSoFar:
        """Return what has ended since this was asked last, and what is under way."""
        found = AnswersSoFar.concatenate([*self._untold, self._look()])
        self._untold.clear()
        return found

    def under_way(self) -> AnswersSoFar:
        """Return what is under way; `fresh` will tell of the others."""
        found = self._look()
        self._untold.append(found.only(found.ended))
        return found.only(~found.ended)


class Liveness:
    """Follows one phase: as long as anything is answered, nobody is asked."""

    def __init__(
        self, server: Server, under_way: Callable[[], AnswersSoFar], refuses: Callable[[], bool] | None
    ) -> None:
        """`refuses()` sends a short request beside the load; True if the server fails at it, and says so."""
        self._server = server
        self._under_way = under_way
        self._refuses = refuses
        self._ask_ns = 0
        self._nothing_answered()

    def _nothing_answered(self) -> None:
        self._failing_since_ns: int | None = None
        """Since when all has failed."""
        self._away_since_ns: int | None = None
        """Since when, besides, the server was not there whenever it was asked."""
        self._failures = 0

    def gone(self, events: PhaseEvents, now_ns: int) -> Absence | None:
        """Say if the server has died, or was out of reach or refused everything for half a minute without an answer."""
        if any(math.isfinite(seconds) for seconds in events.ttft_s):
            self._nothing_answered()
        elif events.failures:
            self._failures += events.failures
            if self._failing_since_ns is None:
                self._failing_since_ns = now_ns
            if self._away_since_ns is None:
                self._away_since_ns = now_ns
        if self._failing_since_ns is None or now_ns < self._ask_ns:
            return None
        self._ask_ns = now_ns + _ASK_EVERY_NS
        state = self._server.state()
        if state == "alive":
            self._away_since_ns = None
            return "refusing" if self._serves_nobody(now_ns) else None
        if state == "dead":
            return "gone"
        away_ns = 0 if self._away_since_ns is None else now_ns - self._away_since_ns
        return "gone" if away_ns >= _UNREACHABLE_NS else None

    def _serves_nobody(self, now_ns: int) -> bool:
        """Return whether a server whose front lives does nothing but refuse, though it has nothing to do."""
        if self._refuses is None or self._failures < _REFUSED_MIN:
            return False
        if self._failing_since_ns is None or now_ns - self._failing_since_ns < _REFUSING_NS:
            return False
        open_ = self._under_way()
        served = np.isfinite(open_.ttft_s) | (now_ns - open_.t_sent_ns >= _WAITING_NS)
        return not served.any() and self._refuses()
