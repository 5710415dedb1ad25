"""Scenarios: a reader on the real package, a stub library with given devices, real or virtual time; and the truth."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stub_libraries

from pytest_agentperf.core.power import DeviceState, PowerProblem, PowerSource
from pytest_agentperf.core.power_series import PowerSeries, PowerSeriesBuilder

HOST = socket.gethostname()
_SCRIPT = Path(__file__).parent / "run_reader.py"
_LIBRARY_PATH = {"nvml": "LD_LIBRARY_PATH", "amdsmi": "ROCM_PATH"}


@dataclass
class Found:
    """What a reader said."""

    t0_ns: int
    error: str | None = None
    remedy: str | None = None
    modules_left: list[str] = field(default_factory=list)
    source_said: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[int, str, float | None, float | None]] = field(default_factory=list)
    problems: list[tuple[Any, str | None, str]] = field(default_factory=list)
    problems_again: list[Any] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)

    @property
    def source(self) -> PowerSource:
        assert self.error is None, f"{self.error}\n{self.remedy}"
        return PowerSource.model_validate(self.source_said)

    def series(self, *devices: str) -> PowerSeries:
        """The readings, of some devices only if they are named."""
        builder = PowerSeriesBuilder()
        for t_ns, device, power_w, energy_j in self.rows:
            if not devices or device in devices:
                builder.add(t_ns, device, power_w=power_w, energy_j=energy_j)
        return builder.build(problems=tuple(PowerProblem(*problem) for problem in self.problems))

    def times_s(self, device: str) -> list[float]:
        """When a device was read, in the stub's time."""
        return [(t_ns - self.t0_ns) / 1e9 for t_ns, of, _, _ in self.rows if of == device]

    def codes(self, device: str) -> set[str]:
        return {code for code, of, _ in self.problems if of == device}

    def states(self, when: str) -> list[DeviceState]:
        return [DeviceState.model_validate(state) for state in getattr(self, when)]


class Scenario:
    """A started process; several may run at once."""

    def __init__(
        self,
        name: str,
        *devices: str,
        library: Path | None = None,
        seconds: float = 0.0,
        interval_s: float = 0.1,
        clock: Path | None = None,
        choices: tuple[tuple[str, ...], ...] = ((),),
        init_code: int | None = None,
    ) -> None:
        folder, source = library or stub_libraries.library(name), name.split()[-1]
        self.t0_ns = time.monotonic_ns()
        if clock is not None:
            clock.write_bytes(struct.pack("q", self.t0_ns))
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            _LIBRARY_PATH[source]: str(folder),
            "STUB_DEVICES": " ".join(devices),
            "STUB_T0_NS": str(self.t0_ns),
        }
        env |= {} if clock is None else {"STUB_CLOCK": str(clock)}
        env |= {} if init_code is None else {"STUB_INIT": str(init_code)}
        self._seconds = seconds
        self._request = {
            "source": source,
            "seconds": seconds,
            "interval_s": interval_s,
            "clock": None if clock is None else str(clock),
            "choices": choices,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )
        assert self._process.stdin is not None
        json.dump(self._request, self._process.stdin)
        self._process.stdin.close()
        self._process.stdin = None

    def found(self) -> list[Found]:
        """Wait for the end; one result for each choice of devices."""
        out, _ = self._process.communicate(timeout=120 + self._seconds)
        assert self._process.returncode == 0, out
        return [Found(self.t0_ns, **result) for result in json.loads(out)]

    def end(self) -> None:
        """End it, if nobody waited for it."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def true_energy_j(device: str, open_s: float, close_s: float) -> float:
    """The energy of a stub's device between two moments, in closed form."""
    shape, _, rest = device.partition(":")
    a, b, period = (*(float(part) for part in rest.split(",") if "=" not in part), 0.0, 0.0)[:3]

    def until(t: float) -> float:
        if shape == "constant":
            return a * t
        if shape == "ramp":
            inside = min(max(t, 0.0), period)
            reached = a + (b - a) * inside / period
            return a * min(t, 0.0) + (a + reached) / 2 * inside + b * max(t - period, 0.0)
        whole, rest_s = math.floor(t / period), math.fmod(t, period)
        return whole * period * (a + b) / 2 + a * min(rest_s, period / 2) + b * max(0.0, rest_s - period / 2)

    return until(close_s) - until(open_s)
