"""When to read: at random distances, so that a load that is periodic is not always met in the same phase."""

from __future__ import annotations

from random import Random

_LEAST, _MOST = 0.5, 1.5
_MOST_UPDATES = 1.2


class Schedule:
    """Moments apart by what is drawn evenly from half to one and a half intervals, and never less than an update.

    Read at fixed distances, power whose period is a small multiple of them is over- or underestimated in every
    period alike, and nothing shows it. Distances drawn independently have no such period; moments drawn each from a
    slot of its own would, but could lie closer together than the source updates.
    """

    def __init__(self, interval_ns: int, update_ns: int, *, seed: int = 0) -> None:
        self._least_ns = max(1, update_ns, round(_LEAST * interval_ns))
        self._most_ns = max(round(_MOST * interval_ns), round(_MOST_UPDATES * update_ns), self._least_ns)
        self._random = Random(seed)
        self._moment_ns: int | None = None

    def start(self, now_ns: int) -> None:
        """Begin anew, `now_ns` being the first moment."""
        self._moment_ns = now_ns

    def next_ns(self, now_ns: int) -> int:
        """Return the moment that comes next; those that were missed are skipped, never made up for."""
        gap_ns = self._random.randint(self._least_ns, self._most_ns)
        moment_ns = (now_ns if self._moment_ns is None else self._moment_ns) + gap_ns
        self._moment_ns = moment_ns if moment_ns > now_ns else now_ns + gap_ns
        return self._moment_ns
