"""The distributions of TTFT and output speed of one probe, as a hundred quantiles: what a curve needs, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.core.latency import FloatArray, output_speed_tok_s, percentile, ttft_s

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.records import RequestColumns

_SHARES = (*(i / 100 for i in range(100)), 0.995, 0.998, 0.999, 1.0)
TABLE = (5, 25, 50, 75, 95, 99)
"""The percentiles that are also written as numbers."""


def distributions(columns: RequestColumns, phase: PhaseResult) -> dict[str, Any]:
    """Return the quantiles of the requests that count, by the rule of the verdicts; None where infinite."""
    inside = columns.sent_within(phase.window_open_ns, phase.window_close_ns)
    speed = output_speed_tok_s(columns)[inside]
    return {
        "requests": int(inside.sum()),
        "failed": int(columns.failed[inside].sum()),
        "ttft": _quantiles(ttft_s(columns)[inside]),
        "speed": _quantiles(speed[~np.isnan(speed)]),
    }


def _quantiles(values: FloatArray) -> dict[str, Any] | None:
    if not values.size:
        return None
    ordered = np.sort(values)
    curve = [[share, rounded(percentile(ordered, share * 100))] for share in _SHARES]
    return {
        # From the first infinite quantile on there is nothing to draw.
        "curve": [point for point in curve if point[1] is not None],
        "table": [rounded(percentile(ordered, percent)) for percent in TABLE],
    }


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Return a value with so many significant digits, None where it is infinite or not known."""
    if value is None or not np.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
