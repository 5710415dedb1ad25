"""How far percentiles can be off: requests of one trajectory are correlated, so whole trajectories are resampled.

The cluster bootstrap gives the interval. A bound from the ranks of the ordered values, exact for as many independent
requests as the correlated ones are worth, stands beside it: it shares nothing with the bootstrap but the data.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.latency import FloatArray, output_speed_tok_s, percentile, ttft_s

if TYPE_CHECKING:
    from pytest_agentperf.core.records import RequestColumns

IntArray = npt.NDArray[np.int64]

LEVEL = 0.95
CLUSTERS_MIN = 10
"""With fewer trajectories their spread says too little of what others would have shown."""
_RESAMPLES = 1_000
_BLOCK = 50
_EXACT_MAX = 2**24
# The bootstrapped percentile is one of so many of the values, evenly spread where it can lie.
_CANDIDATES = 256
_REACH_SE = 8.0


class Interval(BaseModel):
    """Two-sided confidence bounds of a percentile. A bound is None where it is infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float | None
    high: float | None
    level: float
    rank_low: float | None
    rank_high: float | None
    """The same from the ranks of the ordered values, as a cross-check."""
    trajectories: int
    """What was resampled."""
    effective_requests: float
    """How many independent requests the correlated ones are worth."""


class PhaseConfidence(BaseModel):
    """How far the two judged percentiles of a phase can be off. None: too few trajectories to tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft_p95_s: Interval | None
    output_speed_p25_tok_s: Interval | None


def phase_confidence(
    columns: RequestColumns,
    *,
    open_ns: int,
    close_ns: int,
    ttft_percent: float = 95,
    speed_percent: float = 25,
    level: float = LEVEL,
) -> PhaseConfidence:
    """Return the intervals of a phase's percentiles, of the requests sent inside its window."""
    inside = columns.sent_within(open_ns, close_ns)
    speed = output_speed_tok_s(columns)
    streamed = inside & ~np.isnan(speed)
    resamples = Resamples()
    return PhaseConfidence(
        ttft_p95_s=percentile_interval(
            ttft_s(columns)[inside],
            trajectory_clusters(columns, inside),
            ttft_percent,
            level=level,
            resamples=resamples,
        ),
        output_speed_p25_tok_s=percentile_interval(
            speed[streamed],
            trajectory_clusters(columns, streamed),
            speed_percent,
            level=level,
            resamples=resamples,
        ),
    )


def log_error(interval: Interval | None) -> float | None:
    """Return the standard error of the percentile's logarithm, None where the interval is open or reaches 0."""
    if interval is None or not interval.low or interval.high is None:
        return None
    quantile = NormalDist().inv_cdf((1 + interval.level) / 2)
    return math.log(interval.high / interval.low) / (2 * quantile)


def trajectory_clusters(columns: RequestColumns, rows: npt.NDArray[np.bool_]) -> IntArray:
    """Return for each of `rows` which trajectory of which agent it belongs to, numbered from 0."""
    ordinals = columns["ordinal"][rows]
    keys = columns["agent"][rows] * (int(ordinals.max(initial=0)) + 1) + ordinals
    numbers: IntArray = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return numbers


class Resamples:
    """How often each of n trajectories is drawn in each resample: the same draws for all that ask for as many."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._weights: dict[int, npt.NDArray[np.float32]] = {}

    def of(self, n_clusters: int) -> npt.NDArray[np.float32]:
        """Return the draws, (resamples, n_clusters)."""
        weights = self._weights.get(n_clusters)
        if weights is None:
            generator = np.random.default_rng(self._seed)
            even = np.full(n_clusters, 1 / n_clusters)
            # Block by block, as the integers of all draws at once would take twice the memory.
            weights = self._weights[n_clusters] = np.concatenate(
                [
                    generator.multinomial(n_clusters, even, size=_BLOCK).astype(np.float32)
                    for _ in range(_RESAMPLES // _BLOCK)
                ]
            )
        return weights


def percentile_interval(
    values: FloatArray,
    clusters: IntArray,
    percent: float,
    *,
    level: float,
    resamples: Resamples | None = None,
) -> Interval | None:
    """Return the confidence interval of a percentile; None with fewer than `CLUSTERS_MIN` trajectories.

    `values` (n,) may be infinite; `clusters` (n,) numbers their trajectories from 0. `resamples`: drawn already.
    """
    n_clusters = int(clusters.max()) + 1 if clusters.size else 0
    if n_clusters < CLUSTERS_MIN:
        return None
    order = np.argsort(values, kind="stable")
    ordered, members = values[order], clusters[order]
    sizes = np.bincount(members, minlength=n_clusters)
    share = percent / 100
    hits = (ordered <= percentile(values, percent)).astype(np.float64)
    below = np.bincount(members, weights=hits, minlength=n_clusters).astype(np.float64)
    error = standard_error(below, sizes)
    n_effective = min(float(len(values)), share * (1 - share) / error**2) if error > 0 else float(len(values))
    tail = (1 - level) / 2
    low, high = np.quantile(
        _bootstrap(ordered, members, sizes, share, max(error, 1 / len(values)), resamples or Resamples()),
        [tail, 1 - tail],
        method="inverted_cdf",
    )
    rank_low, rank_high = _rank_bounds(n_effective, share, tail)
    return Interval(
        low=_finite(float(low)),
        high=_finite(float(high)),
        level=level,
        rank_low=_finite(_at(ordered, rank_low)),
        rank_high=_finite(_at(ordered, rank_high)),
        trajectories=n_clusters,
        effective_requests=n_effective,
    )


def standard_error(hits: FloatArray, sizes: npt.NDArray[np.integer]) -> float:
    """Return the standard error of Σ hits ÷ Σ sizes over clusters: both (n_clusters,), hits at most sizes."""
    total = float(sizes.sum())
    residuals = hits - sizes * (float(hits.sum()) / total)
    n = len(sizes)
    return math.sqrt(n / (n - 1) * float(residuals @ residuals)) / total


def _bootstrap(
    ordered: FloatArray,
    members: IntArray,
    sizes: npt.NDArray[np.integer],
    share: float,
    error: float,
    resamples: Resamples,
) -> FloatArray:
    """Return the percentile of each resample: the smallest value that reaches its share of the requests."""
    n, n_clusters = len(ordered), len(sizes)
    first = max(0, math.floor(n * (share - _REACH_SE * error)) - 1)
    last = min(n - 1, math.ceil(n * (share + _REACH_SE * error)))
    ranks = np.unique(np.linspace(first, last, min(_CANDIDATES, last - first + 1)).astype(np.int64))
    # Whole numbers, and so exact in single precision as long as no sum can be larger than it holds.
    exact: type[np.floating] = np.float32 if n_clusters * int(sizes.max()) <= _EXACT_MAX else np.float64
    # below[c, k]: requests of trajectory c at or below candidate k.
    step = np.searchsorted(ranks, np.arange(n), side="left")
    below = np.zeros((n_clusters, len(ranks) + 1), dtype=exact)
    np.add.at(below, (members, step), 1.0)
    below = np.cumsum(below[:, :-1], axis=1)
    weights = resamples.of(n_clusters).astype(exact, copy=False)
    counts, totals = ((weights @ part).astype(np.float64) for part in (below, sizes.astype(exact)))
    reached = counts / totals[:, None] >= share
    index = np.where(reached.any(axis=1), reached.argmax(axis=1), len(ranks) - 1)
    return ordered[ranks[index]]


def _rank_bounds(n: float, share: float, tail: float) -> tuple[float, float]:
    """Return the shares of the ordered values between which the percentile lies, by the binomial distribution."""
    size = max(1, math.floor(n))
    k = np.arange(size)
    logs = np.concatenate(
        ([size * math.log1p(-share)], np.log((size - k) / (k + 1)) + math.log(share / (1 - share)))
    )
    cdf = np.cumsum(np.exp(np.cumsum(logs)))
    # The number of values below the percentile is binomial.
    low = int(np.searchsorted(cdf, tail, side="left"))
    high = int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    return low / size, high / size


def _at(ordered: FloatArray, share: float) -> float:
    """Return the order statistic at a share of the ordered values; −∞ or ∞ beyond them."""
    rank = math.ceil(share * len(ordered)) - 1
    if rank < 0:
        return -math.inf
    return math.inf if share > 1 else float(ordered[min(rank, len(ordered) - 1)])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
