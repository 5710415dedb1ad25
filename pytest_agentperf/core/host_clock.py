"""What another host's clock is ahead of ours: estimated by exchanges, with a bound that always holds.

We send our time t0, the host answers with its own, we have the answer at t1. Its reading was made between the two, so
that its clock is ahead by its reading less (t0 + t1) / 2, off by at most (t1 - t0) / 2 (Cristian 1989). Of several
exchanges the one with the shortest way says most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt


class Exchange(NamedTuple):
    """One question and its answer; `sent_ns` and `received_ns` by our clock, `host_ns` by the host's."""

    sent_ns: int
    host_ns: int
    received_ns: int

    @property
    def round_trip_ns(self) -> int:
        """Return how long the answer took."""
        return self.received_ns - self.sent_ns


class HostClock:
    """A host's clock over one phase.

    One offset holds for the whole phase, so that every duration stays what the host measured; later readings only
    widen the bound, by as much as the clocks have drifted.
    """

    def __init__(self) -> None:
        """Begin with our own clock, which needs no exchange."""
        self.offset_ns = 0
        self.bound_ns = 0
        self.round_trip_ns = 0

    def begin(self, exchanges: Iterable[Exchange]) -> None:
        """Set the offset for a phase."""
        self.offset_ns, self.bound_ns, self.round_trip_ns = _reading(exchanges)

    def again(self, exchanges: Iterable[Exchange]) -> None:
        """Take later exchanges into account."""
        offset_ns, bound_ns, _ = _reading(exchanges)
        self.bound_ns = max(self.bound_ns, abs(offset_ns - self.offset_ns) + bound_ns)

    def to_host(self, t_ns: int) -> int:
        """Return the host's time at a time of ours."""
        return t_ns + self.offset_ns

    def to_ours(self, t_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return our times of the host's."""
        return t_ns - self.offset_ns


def _reading(exchanges: Iterable[Exchange]) -> tuple[int, int, int]:
    best = min(exchanges, key=lambda exchange: exchange.round_trip_ns)
    return (
        best.host_ns - (best.sent_ns + best.received_ns) // 2,
        -(-best.round_trip_ns // 2),
        best.round_trip_ns,
    )
