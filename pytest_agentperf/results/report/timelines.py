"""What happened during one probe, over time: concurrency, throughput, power, queue, cache hits, in 20 to 120 steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pytest_agentperf.core.records import NULL
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.results.report.distributions import rounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.latency import FloatArray
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.records import RequestColumns

IntArray = npt.NDArray[np.int64]
STEPS_MIN, STEPS_MAX = 20, 120
TABLE_ROWS = 12
"""Of what is read without the drawing: by keyboard, and in tables."""
SERIES = {
    "agents": "agents active",
    "in_flight": "requests in flight",
    "throughput_tok_s": "output tok/s",
    "power_w": "power (W)",
    "waiting": "waiting (server)",
    "running": "running (server)",
    "cache_share": "share from cache (server)",
    "cache_share_usage": "share from cache (usage)",
}
"""All there can be, with what tables call them."""
_STEP_MIN_S = 0.5
# Readings this far apart leave what was between them unknown.
_GAP_MAX_S = 10.0


class Steps:
    """The phase from its start to its end, in equal steps."""

    def __init__(self, phase: PhaseResult) -> None:
        self.start_ns = phase.start_ns
        lasted_s = max(phase.end_ns - phase.start_ns, 1) / NS_PER_S
        count = min(max(int(lasted_s / _STEP_MIN_S), STEPS_MIN), STEPS_MAX)
        self.edges_s = np.linspace(0, lasted_s, count + 1)
        self.width_s = float(self.edges_s[1])
        self.middles_s = (self.edges_s[:-1] + self.edges_s[1:]) / 2

    def seconds(self, t_ns: IntArray) -> FloatArray:
        """Return times since the start of the phase."""
        return (t_ns - self.start_ns) / NS_PER_S

    def mean_level(self, begins_s: FloatArray, ends_s: FloatArray, height: FloatArray) -> FloatArray:
        """Return the mean over each step of the sum of rectangles: `height` from `begins_s` to `ends_s`."""
        area = _ramps(begins_s, height, self.edges_s) - _ramps(ends_s, height, self.edges_s)
        return np.diff(area) / self.width_s


def _ramps(starts: FloatArray, slopes: FloatArray, at: FloatArray) -> FloatArray:
    """Return Σ slope · max(0, t − start) for each t in `at`."""
    order = np.argsort(starts)
    starts, slopes = starts[order], slopes[order]
    before = np.searchsorted(starts, at, side="right")
    slope = np.concatenate(([0.0], np.cumsum(slopes)))
    offset = np.concatenate(([0.0], np.cumsum(slopes * starts)))
    found: FloatArray = slope[before] * at - offset[before]
    return found


def timeline(
    phase: PhaseResult,
    columns: RequestColumns | None,
    power: Mapping[str, npt.NDArray[Any]] | None,
    server: Mapping[str, npt.NDArray[Any]] | None,
) -> dict[str, Any]:
    """Return the phase's series over time, those whose file is there; None inside a series where nothing is known."""
    steps = Steps(phase)
    series: dict[str, FloatArray | None] = {}
    if columns is not None and len(columns):
        series |= _of_requests(steps, columns)
    if power is not None:
        series["power_w"] = _power(steps, power)
    if server is not None:
        series |= _of_server(steps, server)
    known = {
        name: values for name, values in series.items() if values is not None and np.isfinite(values).any()
    }
    return {
        "t": [rounded(t, 5) for t in steps.middles_s],
        "window": [
            rounded((t_ns - phase.start_ns) / NS_PER_S, 5)
            for t_ns in (phase.window_open_ns, phase.window_close_ns)
        ],
        "series": {name: [rounded(value) for value in values] for name, values in known.items()},
        "table": _table(steps, known),
    }


def _table(steps: Steps, series: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Return means over a few stretches of time, whose ends are `t`: one more than there are means."""
    parts = np.array_split(np.arange(steps.middles_s.size), TABLE_ROWS)
    ends = [steps.edges_s[part[0]] for part in parts] + [steps.edges_s[-1]]
    return {
        "t": [rounded(t) for t in ends],
        **{
            name: [
                rounded(
                    float(values[part][known].mean()) if (known := np.isfinite(values[part])).any() else None
                )
                for part in parts
            ]
            for name, values in series.items()
        },
    }


def _of_requests(steps: Steps, columns: RequestColumns) -> dict[str, FloatArray | None]:
    sent, ended = steps.seconds(columns["t_sent_ns"]), steps.seconds(columns["t_end_ns"])
    whole = ~columns.failed
    for name in ("t_first_ns", "t_last_ns", "output_tokens", "first_chunk_tokens"):
        whole &= columns[name] != NULL
    first, last = steps.seconds(columns["t_first_ns"][whole]), steps.seconds(columns["t_last_ns"][whole])
    at_once = columns["first_chunk_tokens"][whole].astype(np.float64)
    rest = columns["output_tokens"][whole] - at_once
    lasted = last - first
    streamed = lasted > 0
    at_once = at_once + np.where(streamed, 0.0, rest)
    bursts, _ = np.histogram(first, bins=steps.edges_s, weights=at_once)
    by_agent = np.lexsort((sent, columns["agent"]))
    _, firsts = np.unique(columns["agent"][by_agent], return_index=True)
    begun = np.sort(sent[by_agent][firsts])
    return {
        "in_flight": steps.mean_level(sent, ended, np.ones(len(columns))),
        "agents": np.searchsorted(begun, steps.middles_s, side="right").astype(np.float64),
        "throughput_tok_s": bursts / steps.width_s
        + steps.mean_level(first[streamed], last[streamed], rest[streamed] / lasted[streamed]),
        "cache_share_usage": _cache_share(steps, columns),
    }


def _cache_share(steps: Steps, columns: RequestColumns) -> FloatArray | None:
    """Return the share of prompt tokens that answers report as cached, by the time of their first token."""
    known = ~columns.failed
    for name in ("t_first_ns", "prompt_tokens", "cached_tokens"):
        known &= columns[name] != NULL
    if not known.any():
        return None
    at = steps.seconds(columns["t_first_ns"][known])
    cached, _ = np.histogram(at, bins=steps.edges_s, weights=columns["cached_tokens"][known])
    asked, _ = np.histogram(at, bins=steps.edges_s, weights=columns["prompt_tokens"][known])
    return _divided(cached, asked)


def _power(steps: Steps, power: Mapping[str, npt.NDArray[Any]]) -> FloatArray | None:
    """Return the power of all devices together, known only where it is of every one of them."""
    total = np.zeros(steps.middles_s.size)
    for device in np.unique(power["device"]):
        rows = power["device"] == device
        at = steps.seconds(power["t_ns"][rows])
        energy, watts = power["energy_j"][rows], power["power_w"][rows]
        if np.isfinite(energy).sum() > 1:
            known = np.isfinite(energy)
            at, curve = at[known], energy[known]
        else:
            known = np.isfinite(watts)
            at, watts = at[known], watts[known]
            if at.size < 2:
                return None
            curve = np.concatenate(([0.0], np.cumsum(np.diff(at) * (watts[1:] + watts[:-1]) / 2)))
        total += np.diff(_between(steps.edges_s, at, curve)) / steps.width_s
    return total


def _of_server(steps: Steps, server: Mapping[str, npt.NDArray[Any]]) -> dict[str, FloatArray | None]:
    at = steps.seconds(server["t_ns"])
    found: dict[str, FloatArray | None] = {}
    for name in ("running", "waiting"):
        known = np.isfinite(server[name]) if name in server else np.zeros(at.size, dtype=bool)
        if known.any():
            found[name] = _between(steps.middles_s, at[known], server[name][known])
    if "cache_hits" in server and "cache_queries" in server:
        known = np.isfinite(server["cache_hits"]) & np.isfinite(server["cache_queries"])
        if known.sum() > 1:
            hits, asked = (
                np.diff(_between(steps.edges_s, at[known], server[name][known]))
                for name in ("cache_hits", "cache_queries")
            )
            # A counter that fell was reset: what it would have counted is not known.
            found["cache_share"] = _divided(np.where(hits < 0, np.nan, hits), asked)
    return found


def _between(wanted: FloatArray, at: FloatArray, values: FloatArray) -> FloatArray:
    """Interpolate, but neither beyond the readings nor across a gap."""
    found = np.interp(wanted, at, values, left=np.nan, right=np.nan)
    after = np.clip(np.searchsorted(at, wanted), 1, max(at.size - 1, 1))
    if at.size > 1:
        found[at[after] - at[after - 1] > max(_GAP_MAX_S, 3 * float(np.median(np.diff(at))))] = np.nan
    return found


def _divided(part: FloatArray, whole: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        share: FloatArray = np.where(whole > 0, part / whole, np.nan)
    return share
