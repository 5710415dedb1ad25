"""Readers that the sampler's process imports: steady ones, and each kind of broken one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import DeviceState, PowerDevice, PowerProblem, PowerSource
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence


class Steady:
    """100 W each, device by device, with a counter of the reads."""

    def __init__(self, devices: int = 2, update_period_s: float = 0.0, power_w: float = 100.0) -> None:
        self.names = [f"here/{number}" for number in range(devices)]
        self.update_period_s = update_period_s
        self.power_w = power_w
        self.reads = 0
        self.asked = 0

    def open(self) -> PowerSource:
        return PowerSource(
            source="steady",
            scope="gpu+hbm",
            measured=True,
            update_period_s=self.update_period_s,
            devices=tuple(PowerDevice(id=name, host="here", power_cap_w=200.0) for name in self.names),
        )

    def read(self) -> Sequence[Reading]:
        self.reads += 1
        t_ns = monotonic_ns()
        return [Reading(t_ns, name, self.power_w, t_ns / 1e9 * self.power_w) for name in self.names]

    def states(self) -> Sequence[DeviceState]:
        self.asked += 1
        slow = ("power cap",) if self.asked % 2 == 0 else ()
        return [
            DeviceState(device=name, clock_mhz=float(self.asked), throttle_reasons=slow)
            for name in self.names
        ]

    def take_problems(self) -> Sequence[PowerProblem]:
        return ()

    def close(self) -> None: ...


class Refusing(Steady):
    def open(self) -> PowerSource:
        raise PowerError("there is no device", where="here", remedy="plug one in")


class Broken(Steady):
    def open(self) -> PowerSource:
        raise ZeroDivisionError("a bug in the reader")


class Crashing(Steady):
    def open(self) -> PowerSource:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class HangingAtOpen(Steady):
    def open(self) -> PowerSource:
        while True:
            time.sleep(60)


class Hanging(Steady):
    """Hangs in its third reading, in a call into C, as a driver does."""

    def read(self) -> Sequence[Reading]:
        if self.reads == 2:
            ctypes.CDLL(None).sleep(600)
        return super().read()


class Dying(Steady):
    """Dies in its third reading."""

    def read(self) -> Sequence[Reading]:
        if self.reads == 2:
            raise RuntimeError("the driver has gone")
        return super().read()


class DyingOnce(Dying):
    """Like that, but not where the file exists that it leaves."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = Path(mark)

    def read(self) -> Sequence[Reading]:
        if self.reads == 2:
            if not self.mark.exists():
                self.mark.touch()
                raise RuntimeError("the driver has gone")
            self.reads += 1
        return super().read()


class Gone(Steady):
    """Refuses to open a second time."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = Path(mark)

    def open(self) -> PowerSource:
        if self.mark.exists():
            raise PowerError("there is no device any more", where="here", remedy="reboot")
        self.mark.touch()
        return super().open()


class Troubled(Steady):
    """Loses one device after the first reading, complains at each, and prints like a vendor's library."""

    def read(self) -> Sequence[Reading]:
        readings = super().read()
        sys.stdout.write("initialised\n")
        os.write(1, b"a line from C\n")
        sys.stdin.read()
        return readings if self.reads == 1 else readings[:1]

    def take_problems(self) -> Sequence[PowerProblem]:
        if self.reads == 1:
            return ()
        return [PowerProblem("device_lost", "here/1", "device here/1 is lost: see to it")]


class Slow(Steady):
    """Needs longer than its pace for every fourth reading."""

    def read(self) -> Sequence[Reading]:
        if self.reads % 4 == 3:
            time.sleep(0.1)
        return super().read()
