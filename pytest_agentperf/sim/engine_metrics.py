"""An engine's own metrics, read at fixed moments of its clock: the `ServerMetrics` of an engine in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.server_metrics import ServerReading, ServerSeries, ServerSeriesBuilder
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import Cancellable, Clock
    from pytest_agentperf.sim.transport import EngineClient


class EngineMetrics:
    """Reads what the simulated server shows on its page, without the page."""

    def __init__(self, client: EngineClient, clock: Clock, *, interval_s: float = 1.0) -> None:
        self._interval_ns = round(interval_s * NS_PER_S)
        self._client = client
        self._clock = clock
        self._builder = ServerSeriesBuilder()
        self._latest: ServerReading | None = None
        self._timer: Cancellable | None = None

    def start(self) -> None:
        """Read now, and once an interval."""
        self._builder, self._latest = ServerSeriesBuilder(), None
        self._tick()

    def latest(self) -> ServerReading | None:
        """Return the last reading since `start`."""
        return self._latest

    def stop(self) -> ServerSeries:
        """Read once more, and return all readings since `start`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._read()
        return self._builder.build()

    def _tick(self) -> None:
        self._read()
        self._timer = self._clock.call_at(self._clock.now_ns() + self._interval_ns, self._tick)

    def _read(self) -> None:
        stats = self._client.stats()
        values: dict[str, float] = {
            "running": stats.running,
            "waiting": stats.waiting,
            "kv_usage": stats.kv_usage,
            "cache_hits": stats.prefix_hit_tokens,
            "cache_queries": stats.prefix_query_tokens,
            "preemptions": stats.preemptions,
            "prompt_tokens": stats.prompt_tokens,
            "generation_tokens": stats.generation_tokens,
        }
        self._latest = ServerReading(self._clock.now_ns(), ("sim",), values, cache_unit="tokens")
        self._builder.add(self._latest)
