"""Power of the simulated accelerators, integrated exactly over engine time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.config.engine import EngineConfig

# Reading the weights keeps the memory busy and the arithmetic units idle: about half the dynamic power.
BASE_ACTIVITY = 0.5


def step_power_w(config: EngineConfig, base_share: float) -> float:
    """Return the power of all accelerators during a step of which `base_share` is the fixed base time."""
    activity = 1.0 - (1.0 - BASE_ACTIVITY) * base_share
    one_w = config.power_idle_w + (config.power_peak_w - config.power_idle_w) * activity
    return one_w * config.accelerators


class EnergyMeter:
    """Integrates a power that is constant between changes."""

    __slots__ = ("_energy_nj", "_power_w", "_since_ns")

    def __init__(self, start_ns: int, power_w: float) -> None:
        self._since_ns = start_ns
        self._power_w = power_w
        self._energy_nj = 0.0

    @property
    def power_w(self) -> float:
        """Return the power since the last change."""
        return self._power_w

    def change(self, at_ns: int, power_w: float) -> None:
        """Set the power from `at_ns` on."""
        self._energy_nj += (at_ns - self._since_ns) * self._power_w
        self._since_ns = at_ns
        self._power_w = power_w

    def energy_j(self, now_ns: int) -> float:
        """Return the energy from the start to `now_ns`."""
        return (self._energy_nj + (now_ns - self._since_ns) * self._power_w) / 1e9
