"""Power of the simulated server, from the energy counters in its metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import PowerDevice, PowerProblem, PowerSource
from pytest_agentperf.power.http_connection import HttpConnection, NotAnswered
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.power import DeviceState

_ENERGY = re.compile(r'^agentperf_sim_energy_joules_total\{accelerator="([^"]+)"\} (\S+)$', re.MULTILINE)
# The counters are computed when they are asked for; between that and the reading's stamp lies half a round trip.
_UPDATE_PERIOD_S = 0.001
_BODY_BYTES_MAX = 1 << 24


class SimReader:
    """A `PowerReader` that asks for `/metrics`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/metrics"
        self._connection = HttpConnection(
            self._url, headers={}, request_s=2.0, body_bytes_max=_BODY_BYTES_MAX, context=None
        )
        self._problems: list[PowerProblem] = []

    def open(self) -> PowerSource:
        """Read the counters once, for their names."""
        devices = [reading.device for reading in self.read()]
        if not devices:
            what = self._problems[0].text if self._problems else "its metrics have no energy counters"
            raise PowerError(what, where=self._url, remedy="see that the simulated server runs")
        return PowerSource(
            source="sim",
            scope="simulated",
            measured=False,
            update_period_s=_UPDATE_PERIOD_S,
            devices=tuple(PowerDevice(id=device, name="simulated accelerator") for device in devices),
            notes=("computed by the simulated server, not measured",),
        )

    def read(self) -> Sequence[Reading]:
        """Read every counter once."""
        before_ns = monotonic_ns()
        try:
            text = self._connection.get().decode()
        except NotAnswered as error:
            text = f"the simulated server does not tell its power: {self._url} {error}"
            self._problems = [PowerProblem("unreachable", None, text)]
            return ()
        t_ns = (before_ns + monotonic_ns()) // 2
        return [Reading(t_ns, device, energy_j=float(value)) for device, value in _ENERGY.findall(text)]

    def states(self) -> Sequence[DeviceState]:
        """Tell nothing: it has no clocks."""
        return ()

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return why the last reading failed, if it did."""
        problems, self._problems = self._problems, []
        return problems

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
