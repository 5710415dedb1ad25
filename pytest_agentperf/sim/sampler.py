"""Power of an engine in the same process, read at fixed moments of virtual time: a `PowerSampler` without a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.core.power import PowerDevice, PowerSource
from pytest_agentperf.core.power_series import PowerSeries
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import Cancellable
    from pytest_agentperf.sim.clock import VirtualClock
    from pytest_agentperf.sim.engine import Engine


class EngineSampler:
    """Reads the engine's energy counter, a share of it for each accelerator."""

    def __init__(self, engine: Engine, clock: VirtualClock, *, accelerators: int, interval_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._devices = tuple(f"simulated/{number}" for number in range(accelerators))
        self._interval_ns = max(1, round(interval_s * NS_PER_S))
        self._timer: Cancellable | None = None
        self._t_ns: list[int] = []
        self._energy_j: list[float] = []

    def open(self) -> PowerSource:
        """Say that nothing is measured."""
        return PowerSource(
            source="sim",
            scope="simulated",
            measured=False,
            # The counter is exact at every moment.
            update_period_s=0.0,
            devices=tuple(PowerDevice(id=device, name="simulated accelerator") for device in self._devices),
            notes=("computed by the engine model, not measured",),
        )

    def start(self) -> None:
        """Begin sampling."""
        self._t_ns, self._energy_j = [], []
        self._read()

    def stop(self) -> PowerSeries:
        """End sampling and return all readings since `start`."""
        self.close()
        self._note()
        n, readings = len(self._devices), len(self._t_ns)
        return PowerSeries(
            self._devices,
            np.repeat(np.array(self._t_ns, np.int64), n),
            np.tile(np.arange(n, dtype=np.int32), readings),
            np.full(n * readings, np.nan),
            np.repeat(np.array(self._energy_j, np.float64) / n, n),
        )

    def close(self) -> None:
        """Stop reading."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self) -> None:
        self._note()
        self._timer = self._clock.call_at(self._t_ns[-1] + self._interval_ns, self._read)

    def _note(self) -> None:
        now_ns = self._clock.now_ns()
        if not self._t_ns or now_ns > self._t_ns[-1]:
            self._t_ns.append(now_ns)
            self._energy_j.append(self._engine.energy_j(now_ns))
