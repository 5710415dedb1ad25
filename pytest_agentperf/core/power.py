"""What a power source says: which devices, in which scope, how often; what bounds them and what goes wrong.

Without numpy: the process that samples needs it for nothing else, and would start in twice the time.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

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
