"""Where in the workload a phase's answers were late or slow: by context length, turn and cache hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.latency import output_speed_tok_s, percentile, ttft_s
from pytest_agentperf.core.records import NULL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.slo import SloTier

Dimension = Literal["context", "turn", "cached"]


class Bucket(BaseModel):
    """The requests of one kind. Percentiles are None where they are infinite or of nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Dimension
    label: str
    requests: int
    failures: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    output_speed_p25_tok_s: float | None
    late: dict[str, int]
    """Per tier: how many were later than its TTFT target."""
    slow: dict[str, int]
    """Per tier: how many streamed below its speed target."""


class _Cut(NamedTuple):
    by: Dimension
    edges: Sequence[float]
    labels: Sequence[str]


_CUTS = (
    _Cut(
        "context",
        (8e3, 16e3, 32e3, 64e3),
        (
            "less than 8K tokens",
            "8K to 16K tokens",
            "16K to 32K tokens",
            "32K to 64K tokens",
            "64K tokens and more",
        ),
    ),
    _Cut("turn", (1, 10, 40), ("turn 1", "turns 2 to 10", "turns 11 to 40", "turn 41 and later")),
    _Cut(
        "cached",
        (0.5, 0.9),
        ("less than half of the prompt cached", "50 to 90 % of it cached", "90 % of it cached and more"),
    ),
)


def break_down(
    columns: RequestColumns, tiers: Iterable[SloTier], *, open_ns: int, close_ns: int
) -> tuple[Bucket, ...]:
    """Return the buckets that hold requests sent inside the window, dimension by dimension."""
    tiers = tuple(tiers)
    inside = columns.sent_within(open_ns, close_ns)
    failed = columns.failed[inside]
    ttft, speed = ttft_s(columns)[inside], output_speed_tok_s(columns)[inside]
    buckets = []
    for cut in _CUTS:
        values = _values(columns, cut.by)[inside]
        places = np.where(np.isnan(values), -1, np.searchsorted(cut.edges, values, side="right"))
        for place, label in enumerate(cut.labels):
            chosen = places == place
            if chosen.any():
                buckets.append(_bucket(cut.by, label, failed[chosen], ttft[chosen], speed[chosen], tiers))
    return tuple(buckets)


def _values(columns: RequestColumns, by: Dimension) -> npt.NDArray[np.float64]:
    """Return what a dimension is cut by, NaN where the server did not say."""
    if by == "turn":
        return columns["turn"].astype(np.float64)
    prompt = np.where(columns["prompt_tokens"] > 0, columns["prompt_tokens"], np.nan)
    if by == "context":
        return prompt
    return np.where(columns["cached_tokens"] == NULL, np.nan, columns["cached_tokens"]) / prompt


def _bucket(
    by: Dimension,
    label: str,
    failed: npt.NDArray[np.bool_],
    ttft: npt.NDArray[np.float64],
    speed: npt.NDArray[np.float64],
    tiers: Iterable[SloTier],
) -> Bucket:
    with_speed = speed[~np.isnan(speed)]
    return Bucket(
        by=by,
        label=label,
        requests=len(ttft),
        failures=int(failed.sum()),
        ttft_p50_s=_finite(percentile(ttft, 50)),
        ttft_p95_s=_finite(percentile(ttft, 95)),
        output_speed_p25_tok_s=percentile(with_speed, 25) if with_speed.size else None,
        late={tier.name: int((ttft > tier.ttft_p95_s).sum()) for tier in tiers},
        slow={tier.name: int((with_speed < tier.output_speed_p25_tok_s).sum()) for tier in tiers},
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


class Loss(NamedTuple):
    """A bucket in which more answers miss a target than before."""

    bucket: Bucket
    before: Bucket | None
    missed: int
    rise: float
    """Rise of the share that misses it: of this bucket's requests."""
    share_of_rise: float
    """Of all additional misses in this dimension."""


def worst_losses(now: Sequence[Bucket], before: Sequence[Bucket], tier: str, constraint: str) -> list[Loss]:
    """Return, of each dimension, the bucket with the most misses above the earlier share, largest first.

    Without an earlier phase (`before` empty) the misses themselves are compared. `constraint` is "ttft_p95" or
    "output_speed_p25"; of another there are no losses here.
    """
    known = {(bucket.by, bucket.label): bucket for bucket in before}
    found: dict[Dimension, list[Loss]] = {}
    for bucket in now:
        old = known.get((bucket.by, bucket.label))
        missed = _missed(bucket, tier, constraint)
        rise = missed / bucket.requests - (_missed(old, tier, constraint) / old.requests if old else 0.0)
        if rise > 0:
            found.setdefault(bucket.by, []).append(Loss(bucket, old, missed, rise, rise * bucket.requests))
    worst = []
    for losses in found.values():
        total = sum(loss.share_of_rise for loss in losses)
        top = max(losses, key=lambda loss: loss.share_of_rise)
        worst.append(top._replace(share_of_rise=top.share_of_rise / total))
    # What stands out most against the requests' own share of the load comes first.
    return sorted(worst, key=lambda loss: loss.rise * loss.share_of_rise, reverse=True)


def _missed(bucket: Bucket, tier: str, constraint: str) -> int:
    missed = {"ttft_p95": bucket.late, "output_speed_p25": bucket.slow}.get(constraint, {})
    return missed.get(tier, 0)
