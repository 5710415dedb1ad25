"""How often a device's values really change: watched for a moment when the source is opened."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.power.local_devices import Notes

WATCH_S = 1.2
ASSUMED_S = 0.1
"""No vendor documents how often instant power changes; it is the default pace of sampling."""
_STEP_S = 0.004
_GAPS_MIN = 3

K = TypeVar("K")


class Watched:
    """What one value did while it was watched."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._last: float | None = None
        self._changes: list[tuple[int, float]] = []

    def see(self, t_ns: int, value: float) -> None:
        """Take note of a reading."""
        if self._last is not None and value != self._last:
            self._changes.append((t_ns, value))
        self._last = value
        self._sum += value
        self._count += 1

    @property
    def moved(self) -> bool:
        """Whether the value changed at all."""
        return bool(self._changes)

    @property
    def mean(self) -> float:
        """The mean of all readings."""
        return self._sum / self._count

    def period_s(self, *, counter: bool) -> float | None:
        """Return the time between two changes; None if there were too few of them to tell.

        A counter always rises, so that the median is it. Power may stay the same over several updates: the shorter
        gaps are what its updates are apart.
        """
        gaps_s = sorted((b - a) / NS_PER_S for (a, _), (b, _) in pairwise(self._changes))
        if counter:
            return median(gaps_s) if gaps_s else None
        return gaps_s[len(gaps_s) // 4] if len(gaps_s) >= _GAPS_MIN else None

    @property
    def per_s(self) -> float | None:
        """How fast a counter rises: from change to change, so that a stale value does not matter."""
        if len(self._changes) < 2:
            return None
        (t0_ns, first), (t1_ns, last) = self._changes[0], self._changes[-1]
        return (last - first) / ((t1_ns - t0_ns) / NS_PER_S)


def watch(read: Callable[[], Iterable[tuple[K, int, float]]], clock: BlockingClock) -> dict[K, Watched]:
    """Call `read` (key, time, value) for a bounded time, far faster than devices update."""
    seen: dict[K, Watched] = {}
    end_ns = clock.now_ns() + WATCH_S * NS_PER_S
    while True:
        for key, t_ns, value in read():
            seen.setdefault(key, Watched()).see(t_ns, value)
        if clock.now_ns() >= end_ns:
            return seen
        clock.sleep(_STEP_S)


def counter_period_s(device: str, name: str, watched: Watched, notes: Notes) -> float:
    """Return how often a counter changes; one that changed once is as slow as it was watched for."""
    if (period_s := watched.period_s(counter=True)) is not None:
        notes.add(device, f"{name} changes every {period_s:.2g} s, as measured")
        return period_s
    notes.add(device, f"{name} changed once in {WATCH_S:g} s, which is taken as its update period")
    return WATCH_S


def power_period_s(device: str, name: str, watched: Watched, notes: Notes) -> float:
    """Return how often power changes, as it was seen, or a common value; a note says which."""
    if (period_s := watched.period_s(counter=False)) is not None:
        notes.add(device, f"{name} changes every {period_s:.2g} s, as measured")
        return period_s
    notes.add(
        device,
        f"{name} changed too seldom while it was watched for {WATCH_S:g} s: "
        f"an update period of {ASSUMED_S:g} s is assumed",
    )
    return ASSUMED_S
