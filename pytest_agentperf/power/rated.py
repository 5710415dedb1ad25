"""The wattage that a system file states: not measured, and never comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.power import PowerDevice, PowerSource
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.config.power import RatedPower
    from pytest_agentperf.core.power import DeviceState, PowerProblem


class RatedReader:
    """A `PowerReader` that reads nothing: every accelerator draws what is configured."""

    def __init__(self, config: RatedPower, accelerators: int) -> None:
        self._watts_each = config.watts_each
        self._devices = tuple(f"rated/{number}" for number in range(accelerators))
        self._open_ns = 0

    def open(self) -> PowerSource:
        """Say that nothing is measured."""
        self._open_ns = monotonic_ns()
        return PowerSource(
            source="rated",
            scope="gpu+hbm",
            measured=False,
            update_period_s=None,
            devices=tuple(PowerDevice(id=id, rated_power_w=self._watts_each) for id in self._devices),
            notes=(f"not measured: {self._watts_each:g} W for each accelerator, as configured",),
        )

    def read(self) -> Iterator[Reading]:
        """Return energy, since power that never changes is rightly refused where it is measured."""
        t_ns = monotonic_ns()
        energy_j = self._watts_each * (t_ns - self._open_ns) / NS_PER_S
        return (Reading(t_ns, device, energy_j=energy_j) for device in self._devices)

    def states(self) -> Sequence[DeviceState]:
        """Return nothing."""
        return ()

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return nothing: that it is not measured stands in the source."""
        return ()

    def close(self) -> None:
        """Nothing is held."""
