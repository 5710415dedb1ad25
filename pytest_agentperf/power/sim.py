"""Power of the simulated server, from the energy counters in its metrics."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import httpx

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.energy import PowerReading

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENERGY = re.compile(r'^agentperf_sim_energy_joules_total\{accelerator="([^"]+)"\} (\S+)$', re.MULTILINE)


class SimPowerSampler:
    """A `PowerSampler` that polls `/metrics` from a thread of its own."""

    source = "simulated energy counters"
    measured = False

    def __init__(self, url: str, *, interval_s: float) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/metrics"
        self._interval_s = interval_s
        self._readings: list[PowerReading] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin sampling."""
        self._readings = []
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)
        self._thread.start()

    def stop(self) -> Sequence[PowerReading]:
        """End sampling; a poll that failed left a gap, which the integration sees."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        return self._readings

    def _run(self) -> None:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while True:
                self._poll(client)
                if self._stop.wait(self._interval_s):
                    self._poll(client)
                    return

    def _poll(self, client: httpx.Client) -> None:
        before_ns = monotonic_ns()
        try:
            text = client.get(self._url).text
        except httpx.HTTPError:
            return
        t_ns = (before_ns + monotonic_ns()) // 2
        self._readings += (
            PowerReading(t_ns, device, energy_j=float(value)) for device, value in _ENERGY.findall(text)
        )


class NoPowerSampler:
    """Stands where no power source is configured: no readings, hence no power, never zero."""

    source = "none"
    measured = False

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> Sequence[PowerReading]:
        """Return no readings."""
        return ()
