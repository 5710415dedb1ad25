"""What a dataset asks of a server, in numbers: the table of the published workload, and histograms.

`StatisticsCollector` in `documents` makes the few that `dataset.yaml` states; these are for people.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_agentperf.core.latency import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import Trajectory

_BINS_ABOUT = 12
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Summary:
    """A distribution in six numbers."""

    count: int
    min: float
    mean: float
    median: float
    p95: float
    max: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar: how many values are in `low` ≤ value < `high`; the last bar also holds `high` itself."""

    low: float
    high: float
    count: int


@dataclass
class DatasetFigures:
    """Collects, over trajectories that are not kept, everything `agentperf dataset stats` shows."""

    trajectories: int = 0
    turns_per_trajectory: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    tool_delays_ms: list[float] = field(default_factory=list)
    """Of the turns that tools followed."""
    calls: Counter[str] = field(default_factory=Counter)
    calls_timed: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    @property
    def turns(self) -> int:
        """Return how many requests there are."""
        return sum(self.turns_per_trajectory)

    def add(self, trajectory: Trajectory) -> None:
        """Take one trajectory in."""
        self.trajectories += 1
        self.turns_per_trajectory.append(len(trajectory.turns))
        self.languages[trajectory.language or "unknown"] += 1
        self.models[trajectory.model or "unknown"] += 1
        for turn in trajectory.turns:
            if turn.prompt_tokens is not None:
                self.prompt_tokens.append(turn.prompt_tokens)
            if turn.output_tokens is not None:
                self.output_tokens.append(turn.output_tokens)
            if turn.tool_calls or turn.tool_delay_ns:
                self.tool_delays_ms.append(turn.tool_delay_ns / _NS_PER_MS)
            for call in turn.tool_calls:
                self.calls[call.name] += 1
                self.calls_timed += call.duration_ns is not None


def summary(values: Sequence[float]) -> Summary | None:
    """Return the six numbers, None where there is no value."""
    if not values:
        return None
    return Summary(
        count=len(values),
        min=min(values),
        mean=math.fsum(values) / len(values),
        median=percentile(values, 50),
        p95=percentile(values, 95),
        max=max(values),
    )


def linear_histogram(values: Sequence[float]) -> list[Bin]:
    """Return about a dozen bins of equal, round width from 0."""
    if not values:
        return []
    width = _round_up(max(max(values), 1) / _BINS_ABOUT)
    bins = math.floor(max(values) / width) + 1
    return _bins(values, [width * i for i in range(bins + 1)])


def log_histogram(values: Sequence[float]) -> list[Bin]:
    """Return bins that grow, bounded by 1, 2 and 5 times the powers of ten: for what spans decades."""
    if not values:
        return []
    edges = [0.0]
    power = 0
    while edges[-1] <= max(values):
        edges += [step * 10.0**power for step in (1, 2, 5)]
        power += 1
    bins = _bins(values, edges)
    filled = [i for i, entry in enumerate(bins) if entry.count]
    return bins[filled[0] : filled[-1] + 1]


def _bins(values: Sequence[float], edges: Sequence[float]) -> list[Bin]:
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(bisect_right(edges, value) - 1, len(counts) - 1)] += 1
    return [Bin(low, high, count) for low, high, count in zip(edges, edges[1:], counts, strict=False)]


def _round_up(width: float) -> float:
    """Return the next of 1, 2, 2.5, 5 times a power of ten; never below 1: what is counted are whole things."""
    power = 10.0 ** math.floor(math.log10(width)) if width > 1 else 1.0
    for step in (1.0, 2.0, 2.5, 5.0, 10.0):
        if step * power >= width and (step * power).is_integer():
            return step * power
    return 10 * power
