"""Readings of a power source, as columns."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pytest_agentperf.core.power import DeviceState, PowerProblem


@dataclass(frozen=True)
class PowerSeries:
    """Readings of all devices, oldest first: row i is a reading of `devices[device[i]]`.

    `power_w` and `energy_j` (a cumulative counter, its zero anywhere) are float64 of shape (n,), NaN where not read;
    `t_ns` int64 monotonic, when the value was read (the middle of the call).
    """

    devices: tuple[str, ...]
    t_ns: NDArray[np.int64]
    device: NDArray[np.int32]
    power_w: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    problems: tuple[PowerProblem, ...] = ()
    before: tuple[DeviceState, ...] = ()
    after: tuple[DeviceState, ...] = ()

    @classmethod
    def empty(cls, *problems: PowerProblem) -> PowerSeries:
        """Return no readings, and why."""
        return PowerSeriesBuilder().build(problems=problems)


@dataclass
class PowerSeriesBuilder:
    """Collects readings in compact columns: hours at ten a second must fit in memory."""

    _t_ns: array[int] = field(default_factory=lambda: array("q"))
    _device: array[int] = field(default_factory=lambda: array("i"))
    _power_w: array[float] = field(default_factory=lambda: array("d"))
    _energy_j: array[float] = field(default_factory=lambda: array("d"))
    _index: dict[str, int] = field(default_factory=dict)

    def add(
        self, t_ns: int, device: str, *, power_w: float | None = None, energy_j: float | None = None
    ) -> None:
        """Append one reading."""
        self._t_ns.append(t_ns)
        self._device.append(self._index.setdefault(device, len(self._index)))
        self._power_w.append(float("nan") if power_w is None else power_w)
        self._energy_j.append(float("nan") if energy_j is None else energy_j)

    def name(self, devices: Iterable[str]) -> None:
        """Number further devices, for columns that refer to them."""
        for device in devices:
            self._index.setdefault(device, len(self._index))

    def extend(
        self,
        t_ns: array[int],
        device: array[int],
        power_w: array[float],
        energy_j: array[float],
    ) -> None:
        """Append readings as columns; `device` counts those named so far, in order."""
        self._t_ns.extend(t_ns)
        self._device.extend(device)
        self._power_w.extend(power_w)
        self._energy_j.extend(energy_j)

    def build(
        self,
        *,
        problems: tuple[PowerProblem, ...] = (),
        before: tuple[DeviceState, ...] = (),
        after: tuple[DeviceState, ...] = (),
    ) -> PowerSeries:
        """Return the readings, sorted by time."""
        t_ns = np.array(self._t_ns, dtype=np.int64)
        order = np.argsort(t_ns, kind="stable")
        return PowerSeries(
            tuple(self._index),
            t_ns[order],
            np.array(self._device, dtype=np.int32)[order],
            np.array(self._power_w, dtype=np.float64)[order],
            np.array(self._energy_j, dtype=np.float64)[order],
            problems,
            before,
            after,
        )
