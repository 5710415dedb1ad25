"""How late a worker's loop ran, and what it cost: the evidence that the client did not distort."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns, process_cpu_s
from pytest_agentperf.core.latency import percentile
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.ports import Clock

_INTERVAL_NS = NS_PER_S // 50


class Health:
    """Ticks through a phase, from its construction to `stop`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags_s: list[float] = []
        self._cpu_s = process_cpu_s()
        self._start_ns = monotonic_ns()
        self._due_ns = clock.now_ns() + _INTERVAL_NS
        self._timer = clock.call_at(self._due_ns, self._check)

    def _check(self) -> None:
        now_ns = self._clock.now_ns()
        # A stall swallows the ticks that fell into it; each counts, or the longer the stall the less it would weigh.
        while self._due_ns <= now_ns:
            self._lags_s.append((now_ns - self._due_ns) / NS_PER_S)
            self._due_ns += _INTERVAL_NS
        self._timer = self._clock.call_at(self._due_ns, self._check)

    def stop(self, send_lateness_s: Sequence[float]) -> dict[str, float]:
        """Return the loop's lag, how late requests went out, and the share of a core used since the start."""
        self._timer.cancel()
        elapsed_s = max(1e-9, (monotonic_ns() - self._start_ns) / NS_PER_S)
        lags = self._lags_s or [0.0]
        return {
            "lag_p50_s": percentile(lags, 50),
            "lag_p99_s": percentile(lags, 99),
            "lag_max_s": max(lags),
            "send_late_p99_s": percentile(send_lateness_s or [0.0], 99),
            "cpu_share": (process_cpu_s() - self._cpu_s) / elapsed_s,
        }
