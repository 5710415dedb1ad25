"""What each request's record says of its speed, and percentiles: METHODOLOGY §4.1 to 4.4.

Failures are service: they count as infinite TTFT and zero speed, and are never dropped. Without pydantic, as load
workers compute it too, and start for every run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from pytest_agentperf.core.records import NULL
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.records import RequestColumns

FloatArray: TypeAlias = npt.NDArray[np.float64]


def percentile(values: Sequence[float] | FloatArray, percent: float) -> float:
    """Return the percentile by linear interpolation; +∞ if an order statistic of non-zero weight is infinite.

    NumPy's own percentile turns infinities into NaN. Raises ValueError for no values or a NaN among them.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0:
        raise ValueError("the percentile of no values")
    if np.isnan(ordered[-1]):
        raise ValueError("a NaN among the values")
    rank = (ordered.size - 1) * percent / 100
    below = math.floor(rank)
    weight = rank - below
    low = float(ordered[below])
    if weight == 0:
        return low
    high = float(ordered[below + 1])
    return math.inf if math.isinf(high) else low + weight * (high - low)


def ttft_s(columns: RequestColumns) -> FloatArray:
    """Return the time to first token of each request in seconds, ∞ for failures."""
    seconds = (columns["t_first_ns"] - columns["t_sent_ns"]) / NS_PER_S
    return np.where(columns.failed | (columns["t_first_ns"] == NULL), np.inf, seconds)


def output_speed_tok_s(columns: RequestColumns) -> FloatArray:
    """Return output tokens per second after the first chunk; 0 for failures, NaN for one-token answers.

    An answer whose tokens all came at one moment scores from its sending on, so that buffering cannot flatter.
    """
    n, n_first = columns["output_tokens"], columns["first_chunk_tokens"]
    t_sent, t_first, t_last = columns["t_sent_ns"], columns["t_first_ns"], columns["t_last_ns"]
    streamed = (t_last > t_first) & (n > n_first) & (n_first != NULL)
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.where(
            streamed, (n - n_first) / ((t_last - t_first) / NS_PER_S), n / ((t_last - t_sent) / NS_PER_S)
        )
    speed = np.where(n <= 1, np.nan, speed)
    return np.where(_unanswered(columns), 0.0, speed)


def whole_speed_tok_s(columns: RequestColumns) -> FloatArray:
    """Return output tokens per second from sending to the last token; 0 for failures."""
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = columns["output_tokens"] / ((columns["t_last_ns"] - columns["t_sent_ns"]) / NS_PER_S)
    return np.where(_unanswered(columns), 0.0, speed)


def tokens_within(columns: RequestColumns, open_ns: int, close_ns: int) -> float:
    """Return the output tokens that arrived inside the window: the first chunk's at once, the rest evenly.

    Failed requests delivered no answer and contribute nothing.
    """
    kept = ~_unanswered(columns)
    n, n_first = columns["output_tokens"][kept], columns["first_chunk_tokens"][kept]
    t_first, t_last = columns["t_first_ns"][kept], columns["t_last_ns"][kept]
    overlap = np.minimum(t_last, close_ns) - np.maximum(t_first, open_ns)
    duration = t_last - t_first
    first_inside = (t_first >= open_ns) & (t_first < close_ns)
    # All at one moment: the whole answer counts where that moment lies.
    rest = np.where(
        duration > 0,
        (n - n_first) * np.maximum(overlap, 0) / np.maximum(duration, 1),
        (n - n_first) * first_inside,
    )
    return math.fsum(n_first * first_inside) + math.fsum(rest)


def _unanswered(columns: RequestColumns) -> npt.NDArray[np.bool_]:
    """Return which requests failed or lack what a whole answer has: what is missing never flatters."""
    needed = np.stack([columns[name] for name in ("t_first_ns", "t_last_ns", "output_tokens")])
    incomplete: npt.NDArray[np.bool_] = columns.failed | (needed == NULL).any(axis=0)
    return incomplete
