"""Scrapes the server's metrics once a second while a phase runs, in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.server_metrics import ServerSeries, ServerSeriesBuilder
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deploy.metrics_page import MetricsReader, MetricsUnreadable, NoMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.server_metrics import ServerReading

_INTERVAL_S = 1.0
# Two pages that take their time, and a moment.
_STOP_MAX_S = 10.0


class ScrapedMetrics:
    """The `ServerMetrics` of a server over HTTP."""

    def __init__(self, open_reader: Callable[[], MetricsReader], *, interval_s: float = _INTERVAL_S) -> None:
        """`open_reader` is called once a phase: a server that was restarted may have another address."""
        self._open_reader = open_reader
        self._interval_ns = round(interval_s * NS_PER_S)
        self._scrape: _Scrape | None = None

    def start(self) -> None:
        """Begin to read."""
        self.stop()
        self._scrape = _Scrape(self._open_reader(), self._interval_ns)

    def latest(self) -> ServerReading | None:
        """Return the last reading since `start`."""
        return self._scrape.latest if self._scrape is not None else None

    def stop(self) -> ServerSeries:
        """Read once more, and return all readings since `start`."""
        scrape, self._scrape = self._scrape, None
        return ServerSeriesBuilder().build() if scrape is None else scrape.stop()


class _Scrape:
    """One phase's readings: at fixed moments, the first at once and one more at the end."""

    def __init__(self, reader: MetricsReader, interval_ns: int) -> None:
        self.latest: ServerReading | None = None
        self._reader = reader
        self._interval_ns = interval_ns
        self._builder = ServerSeriesBuilder()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        # A daemon, as a server that never answers must not keep an interpreter from its end.
        self._thread = threading.Thread(target=self._run, name="agentperf-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> ServerSeries:
        self._ended.set()
        self._thread.join(_STOP_MAX_S)
        with self._lock:
            return self._builder.build()

    def _run(self) -> None:
        with self._reader:
            due_ns = monotonic_ns()
            there = self._read(first=True)
            while there:
                # What was missed is missed: readings that follow each other at once would only disturb.
                now_ns = monotonic_ns()
                due_ns += self._interval_ns * max(1, -(-(now_ns - due_ns) // self._interval_ns))
                ended = self._ended.wait(max(0, due_ns - now_ns) / NS_PER_S)
                self._read()
                if ended:
                    break

    def _read(self, *, first: bool = False) -> bool:
        """Read once; returns whether there is any use in going on."""
        try:
            reading = self._reader.read()
        except MetricsUnreadable as error:
            with self._lock:
                self._builder.fail(monotonic_ns(), str(error))
            # A server without metrics is not asked for them every second.
            return not (first and isinstance(error, NoMetrics))
        with self._lock:
            self._builder.add(reading)
        self.latest = reading
        return True
