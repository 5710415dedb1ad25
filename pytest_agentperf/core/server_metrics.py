"""What the server says of itself while a phase runs: a time series of its gauges and counters, and its summary.

Counters are those of all engines together; a figure that cannot be had is None, with the reason beside it.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray


GAUGES = ("running", "waiting", "kv_usage", "acceptance_rate")
"""`kv_usage` is that of the fullest engine (1 is full), `acceptance_rate` a mean over engines; the others are sums."""
COUNTERS = (
    "cache_hits",
    "cache_queries",
    "preemptions",
    "drafted_tokens",
    "accepted_tokens",
    "prompt_tokens",
    "generation_tokens",
)
METRICS = (*GAUGES, *COUNTERS)

# A counter at the window's edge is interpolated between two readings no further apart than this.
_BRACKET_MAX_NS = 5 * NS_PER_S
# A reading speaks for so much time before and after it, and gauges need readings for most of a window.
_REACH_NS = 5 * NS_PER_S // 2
_COVERED_MIN = 0.9

CacheUnit = Literal["tokens", "blocks"]


class ServerReading(NamedTuple):
    """The server's metrics at one moment; what it does not have is not in `values`."""

    t_ns: int
    engines: tuple[str, ...]
    """Whose names were found: `vllm`, `sglang`, …"""
    values: Mapping[str, float]
    resets: Collection[str] = ()
    """Counters that fell, or lost an engine, since the reading before."""
    cache_unit: CacheUnit | None = None

    @property
    def in_flight(self) -> float | None:
        """Return running and waiting requests, None if the server does not tell."""
        if "running" not in self.values and "waiting" not in self.values:
            return None
        return self.values.get("running", 0.0) + self.values.get("waiting", 0.0)


class ServerSeries(NamedTuple):
    """All readings of a phase, oldest first: a column per metric, NaN where it was not there."""

    t_ns: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    resets: Mapping[str, NDArray[np.bool_]]
    failed_ns: NDArray[np.int64]
    """When the server's metrics could not be read: gaps."""
    engines: tuple[str, ...] = ()
    cache_unit: CacheUnit | None = None
    problem: str | None = None
    """Why there is no reading, or what the last one that failed met."""


class ServerSeriesBuilder:
    """Collects readings in compact columns: hours at one a second must fit in memory."""

    def __init__(self) -> None:
        self._t_ns = array("q")
        self._values = {name: array("d") for name in METRICS}
        self._resets = {name: array("b") for name in COUNTERS}
        self._failed_ns = array("q")
        self._engines: dict[str, None] = {}
        self._cache_unit: CacheUnit | None = None
        self._problem: str | None = None

    def add(self, reading: ServerReading) -> None:
        """Append one reading."""
        self._t_ns.append(reading.t_ns)
        for name, column in self._values.items():
            column.append(reading.values.get(name, float("nan")))
        for name, marks in self._resets.items():
            marks.append(name in reading.resets)
        self._engines.update(dict.fromkeys(reading.engines))
        self._cache_unit = self._cache_unit or reading.cache_unit

    def fail(self, t_ns: int, problem: str) -> None:
        """Note a reading that failed."""
        self._failed_ns.append(t_ns)
        self._problem = problem

    def build(self) -> ServerSeries:
        """Return what was collected."""
        return ServerSeries(
            np.array(self._t_ns, dtype=np.int64),
            {name: np.array(column, dtype=np.float64) for name, column in self._values.items()},
            {name: np.array(marks, dtype=np.bool_) for name, marks in self._resets.items()},
            np.array(self._failed_ns, dtype=np.int64),
            tuple(self._engines),
            self._cache_unit,
            self._problem,
        )


class ServerSummary(BaseModel):
    """The server's own figures over exactly the window; None where it gives none, and then `missing` says why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engines: tuple[str, ...]
    """Whose metrics were found: `vllm`, `sglang`, `tensorrt-llm`, `dynamo`, `llama.cpp`, `sim`."""
    readings: int
    failed_readings: int
    """Inside the window: each failed one is a gap, and no zero."""
    running_mean: float | None = None
    running_max: float | None = None
    waiting_mean: float | None = None
    waiting_max: float | None = None
    kv_usage_max: float | None = None
    """Of the fullest engine; 1 is full."""
    cache_hit_share: float | None = None
    cache_unit: CacheUnit | None = None
    """What the share counts."""
    preemptions: int | None = None
    acceptance: float | None = None
    """Share of the drafted tokens that speculative decoding accepted."""
    prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    missing: dict[str, str] = {}
    samples: str | None = None
    """The file of the readings, relative to the run directory."""


class _Missing(Exception):
    """A figure cannot be had; the text says why."""


class _Window:
    """Reads figures of a series over [open, close]."""

    def __init__(self, series: ServerSeries, open_ns: int, close_ns: int) -> None:
        self._series = series
        self._open_ns, self._close_ns = open_ns, close_ns
        self.inside = (series.t_ns >= open_ns) & (series.t_ns <= close_ns)

    @property
    def seconds(self) -> float:
        return (self._close_ns - self._open_ns) / NS_PER_S

    def gauge(self, name: str) -> NDArray[np.float64]:
        """Return the values inside the window."""
        values = self._series.values[name]
        there = self.inside & np.isfinite(values)
        if not there.any():
            if np.isfinite(values).any():
                raise _Missing("no reading fell into the window")
            raise _Missing(self._never(name))
        covered = self._covered(self._series.t_ns[there])
        if covered < _COVERED_MIN:
            raise _Missing(f"readings cover {covered:.0%} of the window only")
        return values[there]

    def delta(self, name: str) -> float:
        """Return by how much a counter grew."""
        values = self._series.values[name]
        known = np.flatnonzero(np.isfinite(values))
        if not known.size:
            raise _Missing(self._never(name))
        t_ns = self._series.t_ns[known]
        (first, at_open), (last, at_close) = (
            _interpolated(t_ns, values[known], at_ns) for at_ns in (self._open_ns, self._close_ns)
        )
        if self._series.resets[name][known[first] + 1 : known[last] + 1].any():
            raise _Missing("the counter was reset inside the window: the server restarted")
        return at_close - at_open

    def _covered(self, t_ns: NDArray[np.int64]) -> float:
        """Return the share of the window that lies near a reading."""
        starts = np.maximum(t_ns - _REACH_NS, self._open_ns)
        ends = np.minimum(t_ns + _REACH_NS, self._close_ns)
        overlap = np.maximum(0, ends[:-1] - starts[1:]).sum()
        return float(((ends - starts).sum() - overlap) / max(1, self._close_ns - self._open_ns))

    def _never(self, name: str) -> str:
        if not self._series.t_ns.size:
            return self._series.problem or "the server's metrics were not read"
        return f"{' and '.join(self._series.engines) or 'the server'} reports no {name.replace('_', ' ')}"


def _interpolated(t_ns: NDArray[np.int64], values: NDArray[np.float64], at_ns: int) -> tuple[int, float]:
    """Return a counter's value at a moment between two readings, and the index of the earlier (at its end: later)."""
    after = int(np.searchsorted(t_ns, at_ns))
    if after < t_ns.size and t_ns[after] == at_ns:
        return after, float(values[after])
    if after == 0 or after == t_ns.size:
        raise _Missing("no readings on both sides of the window's edge")
    before = after - 1
    if t_ns[after] - t_ns[before] > _BRACKET_MAX_NS:
        raise _Missing(f"no reading within {_BRACKET_MAX_NS / NS_PER_S:g} s of the window's edge")
    share = (at_ns - t_ns[before]) / (t_ns[after] - t_ns[before])
    return before, float(values[before] + share * (values[after] - values[before]))


def summarise(series: ServerSeries, *, open_ns: int, close_ns: int) -> ServerSummary:
    """Return the server's figures over the window."""
    window = _Window(series, open_ns, close_ns)
    failed = (series.failed_ns >= open_ns) & (series.failed_ns <= close_ns)
    figures: dict[str, float] = {}
    missing: dict[str, str] = {}

    def gauges(name: str) -> None:
        try:
            values = window.gauge(name)
        except _Missing as why:
            missing[name] = str(why)
            return
        figures[f"{name}_mean"], figures[f"{name}_max"] = float(values.mean()), float(values.max())

    def ratio(figure: str, part: str, whole: str, *, nothing: str) -> None:
        try:
            of = window.delta(whole)
            if of <= 0:
                raise _Missing(nothing)
            figures[figure] = window.delta(part) / of
        except _Missing as why:
            missing[figure] = str(why)

    for name in ("running", "waiting", "kv_usage"):
        gauges(name)
    ratio("cache_hit_share", "cache_hits", "cache_queries", nothing="nothing was looked up in the window")
    ratio("acceptance", "accepted_tokens", "drafted_tokens", nothing="no token was drafted in the window")
    if "acceptance" in missing:
        _acceptance_by_gauge(window, figures, missing)
    for name in ("prompt_tokens", "generation_tokens"):
        try:
            figures[f"{name}_per_s"] = window.delta(name) / max(window.seconds, 1e-9)
        except _Missing as why:
            missing[f"{name}_per_s"] = str(why)
    try:
        # An edge that lies between two readings may fall into the one that counted a preemption.
        figures["preemptions"] = round(window.delta("preemptions"))
    except _Missing as why:
        missing["preemptions"] = str(why)
    figures.pop("kv_usage_mean", None)
    return ServerSummary(
        engines=series.engines,
        readings=int(window.inside.sum()),
        failed_readings=int(failed.sum()),
        cache_unit=series.cache_unit if "cache_hit_share" in figures else None,
        missing=missing,
        **figures,
    )


def _acceptance_by_gauge(window: _Window, figures: dict[str, float], missing: dict[str, str]) -> None:
    """Take the mean of a rate that an engine averages itself; never moved from 0, it says that nothing is drafted."""
    try:
        rates = window.gauge("acceptance_rate")
    except _Missing:
        return
    if rates.any():
        figures["acceptance"] = float(rates.mean())
        del missing["acceptance"]
    else:
        missing["acceptance"] = "no token was drafted in the window"
