"""Which calibration of the load generator speaks for a phase, and when another has to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import LoadLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentperf.core.client_error import Calibration

_AGENTS_MIN = 64
_CHUNKS_MIN = 2_048
"""Both for each load host."""


class Found(NamedTuple):
    """A calibration, and whether the load asked about is one that it has seen."""

    calibration: Calibration
    covers: bool


class Calibrations:
    """Those made so far of one deployment's load pool."""

    def __init__(self) -> None:
        self._made: list[Calibration] = []
        self._hosts: list[tuple[str, int]] = []

    def find(
        self,
        pool: Mapping[str, Any],
        n_agents: int,
        chunks_per_s: float,
        make: Callable[[int, float], Calibration],
    ) -> Found:
        """Return the one for such a load, made now by `make(n_agents, chunks_per_s)` if there is none.

        `pool`: what it describes itself as. Where the null servers fall short of a load they would do so again, at
        every phase: that calibration is used for it from then on, and does not cover it.
        """
        hosts = [(host["name"], host["workers"]) for host in pool.get("hosts", ())]
        if hosts != self._hosts:
            # The others carry what a lost host did.
            self._made, self._hosts = [], hosts
        if (found := self._known(n_agents, chunks_per_s, pool.get("workers", 0))) is not None:
            return found
        # With room above, so that a search calibrates a few times and not at every probe.
        shares = max(1, len(hosts))
        chunks = float(_power_of_two(max(round(chunks_per_s), _CHUNKS_MIN * shares)))
        try:
            made = make(_power_of_two(max(n_agents, _AGENTS_MIN * shares)), chunks)
        except LoadLimitError:
            # The limits have no room for more than the phase had.
            made = make(n_agents, chunks)
        self._made.append(made)
        # The pool may have grown for it.
        return Found(made, made.covers(n_agents, chunks_per_s, workers=made.workers))

    def _known(self, n_agents: int, chunks_per_s: float, workers: int) -> Found | None:
        asked = [made for made in self._made if made.asked_for(n_agents, chunks_per_s, workers=workers)]
        for made in asked:
            if made.covers(n_agents, chunks_per_s, workers=workers):
                return Found(made, covers=True)
        if not asked:
            return None
        return Found(max(asked, key=lambda made: made.chunks_per_s_reached), covers=False)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
