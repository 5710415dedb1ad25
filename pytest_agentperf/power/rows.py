"""What one answer of a source says about one accelerator or meter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_agentperf.core.power import DeviceState, PowerCode, PowerDevice
from pytest_agentperf.power.freshness import Values


class Refusal(NamedTuple):
    """A value that is none."""

    code: PowerCode
    text: str


@dataclass
class Row:
    """One accelerator, or one meter, in one answer; `id` is unique in the answer, empty for its only one."""

    id: str
    power_w: float | None = None
    energy_j: float | None = None
    timestamp_ms: int | None = None
    refused: list[Refusal] = field(default_factory=list)
    name: str | None = None
    uuid: str | None = None
    driver: str | None = None
    firmware: str | None = None
    power_cap_w: float | None = None
    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] = ()

    @property
    def values(self) -> Values:
        """What is read of it."""
        return Values(self.power_w, self.energy_j, self.timestamp_ms)

    def device(self, id: str, host: str | None) -> PowerDevice:
        """Return how its source describes it."""
        return PowerDevice(
            id=id,
            host=host,
            name=self.name,
            uuid=self.uuid,
            driver=self.driver,
            firmware=self.firmware,
            power_cap_w=self.power_cap_w,
        )

    def state(self, id: str) -> DeviceState:
        """Return what bounds its speed now."""
        return DeviceState(
            device=id,
            power_cap_w=self.power_cap_w,
            clock_mhz=self.clock_mhz,
            memory_clock_mhz=self.memory_clock_mhz,
            temperature_c=self.temperature_c,
            throttle_reasons=self.throttle_reasons,
        )
