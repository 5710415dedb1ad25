"""A power reader of one's own: a meter that keeps its latest watts in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import DeviceState, PowerDevice, PowerProblem, PowerSource
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence


class AcmePdu:
    """A `PowerReader`. `options` of the system file are its arguments."""

    def __init__(self, path: str, outlets: int = 1) -> None:
        self._paths = {f"acme/{number}": Path(f"{path}{number}") for number in range(outlets)}
        self._problems: list[PowerProblem] = []

    def open(self) -> PowerSource:
        """Say what is measured; the only place that may raise."""
        missing = [str(path) for path in self._paths.values() if not path.is_file()]
        if missing:
            raise PowerError(
                "no such outlet", where=missing[0], remedy="give the folder of the meter as `path`"
            )
        return PowerSource(
            source="acme-pdu",
            scope="module",
            measured=True,
            update_period_s=0.1,
            devices=tuple(PowerDevice(id=device) for device in self._paths),
        )

    def read(self) -> list[Reading]:
        """Leave out what cannot be read, and say why: never a zero."""
        readings = []
        for device, path in self._paths.items():
            before_ns = monotonic_ns()
            try:
                watts = float(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                text = f"outlet {device} cannot be read ({error}): is the meter plugged in?"
                self._problems.append(PowerProblem("unreachable", device, text))
            else:
                # When the value was read: the middle of the call.
                readings.append(Reading((before_ns + monotonic_ns()) // 2, device, power_w=watts))
        return readings

    def states(self) -> Sequence[DeviceState]:
        """Tell clocks, caps and throttling: a meter knows none."""
        return ()

    def take_problems(self) -> Sequence[PowerProblem]:
        """Hand over what went wrong since the last call."""
        taken, self._problems = self._problems, []
        return taken

    def close(self) -> None:
        """Nothing is held."""
