"""What every power source implements: opened once, read at a fixed pace by the sampler's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.power import DeviceState, PowerProblem, PowerSource


class Reading(NamedTuple):
    """One device's values at one moment; None where not read."""

    t_ns: int
    device: str
    power_w: float | None = None
    energy_j: float | None = None


class PowerReader(Protocol):
    """A source. Single-threaded; only `open` may raise (PowerError with remedy)."""

    def open(self) -> PowerSource:
        """Find the devices and say what is measured, in which scope, and how often the values change."""

    def read(self) -> Iterable[Reading]:
        """Read every device once. What cannot be read is left out, and becomes a problem: never a zero."""

    def states(self) -> Sequence[DeviceState]:
        """Return clocks, caps and throttle reasons of now; empty if the source does not tell."""

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return what went wrong since the last call, each kind once per device."""

    def close(self) -> None:
        """Give back what is held."""
