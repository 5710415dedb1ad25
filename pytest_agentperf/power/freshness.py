"""Which values are new, and how often they change: a repeated value is no reading."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import NamedTuple

from pytest_agentperf.core.units import NS_PER_S

_CHANGES_MIN = 3
_DUE_SHARE = 0.9
_STILL_PERIODS = 10
_STILL_S = 60.0


class Values(NamedTuple):
    """What one device says at one moment; None where it says nothing."""

    power_w: float | None
    energy_j: float | None
    timestamp_ms: int | None = None
    """When the source itself measured."""

    @property
    def is_any(self) -> bool:
        """Whether there is anything to read."""
        return self.power_w is not None or self.energy_j is not None


class Freshness:
    """Tells new values of one device from repeated ones.

    A counter that has not moved was not read again. Power may truly stay the same: it is taken as read again when
    what is read together with it has moved, else once in each update period, for as long as that is believable.
    Where the source says when it measured, that decides.
    """

    def __init__(self, update_period_s: float) -> None:
        self._due_ns = round(update_period_s * _DUE_SHARE * NS_PER_S)
        self.still_max_s = max(_STILL_S, _STILL_PERIODS * update_period_s)
        self._last: Values | None = None
        self._changed_ns = 0
        self._power_ns = 0

    def new(self, t_ns: int, values: Values, *, others_moved: bool = False) -> Values | None:
        """Return what is a reading, None if nothing is."""
        last, self._last = self._last, values
        changed = last is None or values != last
        if changed:
            self._changed_ns = t_ns
        if last is None or (values.timestamp_ms is not None and changed):
            energy_j, power_w = values.energy_j, values.power_w
        elif values.timestamp_ms is not None:
            return None
        else:
            energy_j = None if values.energy_j == last.energy_j else values.energy_j
            moved = values.power_w != last.power_w or energy_j is not None or others_moved
            due = t_ns - self._power_ns >= self._due_ns and self.still_s(t_ns) <= self.still_max_s
            power_w = values.power_w if moved or (due and values.energy_j is None) else None
        if power_w is not None:
            self._power_ns = t_ns
        return None if power_w is None and energy_j is None else Values(power_w, energy_j)

    def still_s(self, t_ns: int) -> float:
        """Return for how long nothing has changed."""
        return (t_ns - self._changed_ns) / NS_PER_S


class Changes:
    """When the values of one host changed, while it is watched."""

    def __init__(self) -> None:
        self._last: object = None
        self._times_ns: list[int] = []

    def see(self, t_ns: int, values: object) -> None:
        """Take note of all its values."""
        if self._last is not None and values != self._last:
            self._times_ns.append(t_ns)
        self._last = values

    @property
    def enough(self) -> bool:
        """Whether the period is known well."""
        return len(self._times_ns) >= _CHANGES_MIN

    @property
    def period_s(self) -> float | None:
        """The median time between two changes; None if there were too few."""
        if len(self._times_ns) < 2:
            return None
        return median(b - a for a, b in pairwise(self._times_ns)) / NS_PER_S
