"""Energy over a window from raw readings: per device, by its counter, else by its sampled power; both compared."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.numbers import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_COUNTER_BITS_J = (2**32 / 1e3, 2**32 / 1e6, 2.0**32)
"""Where counters of 32 bits in mJ, µJ and J begin again."""


class Device(NamedTuple):
    """One device's cumulative energy as points on a line, and how it was read."""

    t_s: NDArray[np.float64]
    """Since the window opened."""
    energy_j: NDArray[np.float64]
    method: str
    read_ns: NDArray[np.int64]
    """When it was read, since the window opened: whole numbers, as a gap may be exactly as long as is allowed."""

    def until(self, t_s: float) -> float:
        """Interpolate; beyond the readings the mean power of all of them goes on."""
        mean_w = (self.energy_j[-1] - self.energy_j[0]) / (self.t_s[-1] - self.t_s[0])
        beyond = min(0.0, t_s - self.t_s[0]) + max(0.0, t_s - self.t_s[-1])
        return float(np.interp(t_s, self.t_s, self.energy_j) + mean_w * beyond)


def energy_problems(
    path: Path | None,
    told: Mapping[str, Any],
    phase: Mapping[str, Any],
    devices: int,
    period_s: float,
    rules: Mapping[str, Any],
) -> tuple[list[str], str]:
    """Return what is wrong with a published energy, and what holds otherwise."""
    if told["energy_j"] is None:
        wrong = [
            f"{name} is given without a valid energy"
            for name in ("mean_power_w", "peak_power_w")
            if told[name] is not None
        ]
        if not told["invalid_code"] or not told["invalid_reason"]:
            wrong.append("there is no energy, and no reason why")
        return wrong, f"no valid power, as it says: {told['invalid_reason']}"
    if path is None:
        return ["an energy is published, and there are no readings"], ""
    window_s = (phase["window_close_ns"] - phase["window_open_ns"]) / NS_PER_S
    read = _devices(path, phase["window_open_ns"], window_s)
    wrong = differs("the number of devices", len(read), devices) + differs(
        "devices", told["devices"], len(read)
    )
    gap_s = max(rules["power_gap_max_s"], 2.5 * period_s)
    each: dict[str, float] = {}
    coverage, check = 1.0, 0.0
    for name, (device, sampled) in read.items():
        if device is None:
            wrong.append(f"device {name} has too few readings")
            continue
        each[name] = device.until(window_s) - device.until(0.0)
        coverage = min(
            coverage, _coverage(device.read_ns, phase["window_close_ns"] - phase["window_open_ns"], gap_s)
        )
        if sampled is not None and device.method == "energy counter":
            off = (sampled.until(window_s) - sampled.until(0.0)) / each[name] - 1
            check = max(check, off, key=abs)
    if wrong:
        return wrong, ""
    total = math.fsum(each.values())
    wrong += differs("energy_j", told["energy_j"], total)
    wrong += differs("mean_power_w", told["mean_power_w"], total / window_s)
    wrong += differs("per_device_j", told["per_device_j"], each)
    wrong += differs("coverage", told["coverage"], coverage)
    wrong += differs("method", told["method"], ", ".join(sorted({d.method for d, _ in read.values() if d})))
    if told["cross_check"] is not None:
        wrong += differs("cross_check", told["cross_check"], check)
    if told["peak_power_w"] is not None:
        peak_w = _peak(read, window_s, max(1.0, period_s))
        # Steps of whole nanoseconds there, and of a fraction here.
        if not math.isclose(told["peak_power_w"], peak_w, rel_tol=1e-6):
            wrong += differs("peak_power_w", told["peak_power_w"], peak_w)
    if coverage < rules["power_coverage_min"]:
        wrong.append(
            f"readings cover {coverage:.1%} of the window, {rules['power_coverage_min']:.0%} are needed"
        )
    if (told["uncertainty"] or 0.0) > rules["power_uncertainty_max"]:
        wrong.append(f"its uncertainty of {told['uncertainty']:.1%} is above the rule's")
    return (
        wrong,
        f"{total:,.1f} J over {window_s:,.1f} s of {len(read)} devices, {coverage:.1%} of the window covered",
    )


def idle_problems(
    path: Path | None,
    phase: Mapping[str, Any],
    *,
    devices: int,
    earlier_ns: int | None,
    rules: Mapping[str, Any],
) -> tuple[list[str], str]:
    """Return what is wrong with a phase's idle power, and what holds otherwise; costs of idle hours rest on it.

    `earlier_ns`: when the phase before it ended.
    """
    told, span = phase["power"]["idle_power_w"], phase["power"]["idle_span_ns"]
    if told is None or span is None:
        return differs("idle_power_w", told, None) + differs("idle_span_ns", span, None), "none was measured"
    if path is None:
        return ["an idle power is published, and there are no readings"], ""
    wrong = []
    if span[1] > phase["start_ns"] or (earlier_ns is not None and span[0] < earlier_ns):
        wrong.append("its time is not between the phase before and this one")
    lasted_s = (span[1] - span[0]) / NS_PER_S
    if lasted_s <= 0 or lasted_s < rules["idle_pause_s"] * 0.999:
        return [*wrong, f"it is of {lasted_s:.3g} s, the pause is {rules['idle_pause_s']:g} s"], ""
    if phase["idle_before"] == "not reached":
        wrong.append("the server was not idle")
    read = {name: device for name, (device, _) in _devices(path, span[0], lasted_s).items()}
    wrong += differs("the number of devices", len(read), devices)
    joules = [device.until(lasted_s) - device.until(0.0) for device in read.values() if device is not None]
    if len(joules) < len(read):
        return [*wrong, "a device has too few readings"], ""
    watts = math.fsum(joules) / lasted_s
    return wrong + differs(
        "idle_power_w", told, watts
    ), f"{watts:,.1f} W over {lasted_s:,.1f} s before the phase"


def _devices(path: Path, open_ns: int, window_s: float) -> dict[str, tuple[Device | None, Device | None]]:
    """Return of each device what its energy is taken from, and its sampled power where the counter is that."""
    table = pq.read_table(path)
    # Exact until the window's opening is subtracted: nanoseconds since boot do not fit into a float.
    t_ns = table["t_ns"].to_numpy() - open_ns
    names = np.array(table["device"].to_pylist())
    power_w, counter_j = (
        # NaN where there is none.
        table[name].to_numpy().astype(np.float64)
        for name in ("power_w", "energy_j")
    )
    found: dict[str, tuple[Device | None, Device | None]] = {}
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        sampled = _by_power(t_ns[rows], power_w[rows], window_s)
        counted = _by_counter(t_ns[rows], counter_j[rows])
        found[name] = (counted, sampled) if counted is not None else (sampled, None)
    return found


def _by_counter(t_ns: NDArray[np.int64], counter_j: NDArray[np.float64]) -> Device | None:
    known = ~np.isnan(counter_j)
    t_ns, counter_j = t_ns[known], counter_j[known]
    if len(t_ns) < 2 or t_ns[-1] <= t_ns[0]:
        return None
    steps = np.diff(counter_j)
    for i in np.flatnonzero(steps < 0).tolist():
        again = next((bits for bits in _COUNTER_BITS_J if counter_j[i] <= bits), math.inf)
        steps[i] += again
    return Device(t_ns / NS_PER_S, np.concatenate(([0.0], np.cumsum(steps))), "energy counter", t_ns)


def _by_power(t_ns: NDArray[np.int64], power_w: NDArray[np.float64], window_s: float) -> Device | None:
    known = ~np.isnan(power_w)
    t_ns, power_w = t_ns[known], power_w[known]
    if len(t_ns) < 2 or t_ns[-1] <= t_ns[0]:
        return None
    t_s = t_ns / NS_PER_S
    # Power is a line between readings, so its energy is exact at points only: both ends of the window become some.
    edges = [edge for edge in (0.0, window_s) if t_s[0] < edge < t_s[-1]]
    at = np.union1d(t_s, edges)
    power_at = np.interp(at, t_s, power_w)
    energy = np.concatenate(([0.0], np.cumsum(np.diff(at) * (power_at[1:] + power_at[:-1]) / 2)))
    return Device(at, energy, "sampled power", t_ns)


def _coverage(read_ns: NDArray[np.int64], window_ns: int, gap_s: float) -> float:
    """Return the share of the window without what lies in too long a gap, or before and after all readings."""
    inner = [(a, b) for a, b in pairwise(read_ns.tolist()) if (b - a) / NS_PER_S > gap_s]
    outside = [(-math.inf, int(read_ns[0])), (int(read_ns[-1]), math.inf)]
    missing = sum(max(0, min(b, window_ns) - max(a, 0)) for a, b in [*inner, *outside])
    return max(0.0, 1 - float(missing) / window_ns)


def _peak(read: Mapping[str, tuple[Device | None, Device | None]], window_s: float, step_s: float) -> float:
    edges = np.linspace(0.0, window_s, max(1, int(window_s / step_s)) + 1)
    totals = [sum(d.until(edge) for d, _ in read.values() if d is not None) for edge in edges.tolist()]
    return float((np.diff(totals) / np.diff(edges)).max())
