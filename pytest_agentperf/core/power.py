"""What a power source says: which devices, in which scope, how often; and its readings as columns."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Scope = Literal["gpu", "gpu+hbm", "module", "board", "chassis", "rack", "wall", "simulated"]
"""What the figure includes. Only `gpu+hbm` is what the methodology divides by; others are marked."""

_ACCELERATOR_W = (3.0, 20_000.0)
PLAUSIBLE_W: dict[Scope, tuple[float, float]] = {
    "gpu": _ACCELERATOR_W,
    "gpu+hbm": _ACCELERATOR_W,
    "module": _ACCELERATOR_W,
    "board": _ACCELERATOR_W,
    "simulated": _ACCELERATOR_W,
    "chassis": (3.0, 200_000.0),
    "rack": (3.0, 1e7),
    "wall": (3.0, 1e7),
}
"""The mean power of one device, in each scope; beyond it a unit is wrong, as 0.7 W or 700 kW of a GPU are."""

PowerCode = Literal[
    "no_source",
    "not_measured",
    "unreachable",
    "device_lost",
    "too_few_devices",
    "no_readings",
    "coverage",
    "stuck",
    "counter_backwards",
    "sentinel",
    "units",
    "cross_check",
    "window_too_short",
    "sampler_died",
]
"""Why power is not valid, or what was seen on the way."""


class PowerDevice(BaseModel):
    """One accelerator, or one meter, as its source describes it; None where the source does not tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Unique in the deployment, host included: `node7/3`."""
    host: str | None = None
    name: str | None = None
    uuid: str | None = None
    driver: str | None = None
    firmware: str | None = None
    power_cap_w: float | None = None
    rated_power_w: float | None = None


class PowerSource(BaseModel):
    """Where readings come from and what they mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    scope: Scope
    measured: bool
    """False for rated and simulated power: no result that rests on it is comparable."""
    update_period_s: float | None
    """How often the source's own value changes; sampling faster repeats it."""
    devices: tuple[PowerDevice, ...]
    notes: tuple[str, ...] = ()

    def published(self) -> PowerSource:
        """Return it with hashed UUIDs: equal devices stay equal, and none can be looked up."""
        hidden = tuple(
            device.model_copy(
                update={"uuid": device.uuid and hashlib.sha256(device.uuid.encode()).hexdigest()[:16]}
            )
            for device in self.devices
        )
        return self.model_copy(update={"devices": hidden})


class DeviceState(BaseModel):
    """What bounded a device's speed at one moment; None where the source does not tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    power_cap_w: float | None = None
    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    """Only those that slow down: idle and application clocks are none."""


class PowerProblem(NamedTuple):
    """What a sampler saw go wrong; `text` says where and what to do."""

    code: PowerCode
    device: str | None
    text: str


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
