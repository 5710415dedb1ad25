"""Energy over exactly the steady window, from readings that may have gaps; missing data is never zero."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NS_PER_S = 1e9


class PowerReading(NamedTuple):
    """One reading of one device: the cumulative energy counter where there is one, else the power."""

    t_ns: int
    device: str
    power_w: float | None = None
    energy_j: float | None = None


class WindowEnergy(BaseModel):
    """Energy and mean power of a deployment's accelerators over a window; None with a reason where unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy_j: float | None
    mean_power_w: float | None
    devices: int
    coverage: float
    """The least covered device's share of the window."""
    method: str | None
    invalid_reason: str | None


class _DeviceEnergy(NamedTuple):
    energy_j: float
    coverage: float
    method: str


def integrate(
    readings: Iterable[PowerReading],
    *,
    open_ns: int,
    close_ns: int,
    devices_expected: int,
    coverage_min: float,
    gap_max_s: float,
) -> WindowEnergy:
    """Sum the energy of all devices over [open, close], interpolating at both ends.

    Counters are preferred over sampled power. A stretch longer than `gap_max_s` without a reading is not covered;
    too little coverage, or fewer devices than the deployment has, makes the result invalid with its reason.
    """
    by_device: dict[str, list[PowerReading]] = defaultdict(list)
    for reading in readings:
        by_device[reading.device].append(reading)

    def invalid(reason: str, coverage: float = 0.0) -> WindowEnergy:
        return WindowEnergy(
            energy_j=None,
            mean_power_w=None,
            devices=len(by_device),
            coverage=coverage,
            method=None,
            invalid_reason=reason,
        )

    if close_ns <= open_ns:
        return invalid("the window is empty")
    if len(by_device) != devices_expected:
        return invalid(f"readings of {len(by_device)} devices, the deployment has {devices_expected}")
    parts: list[_DeviceEnergy] = []
    for device, series in sorted(by_device.items()):
        series.sort(key=lambda reading: reading.t_ns)
        part = _integrate_device(series, open_ns, close_ns, gap_max_s)
        if isinstance(part, str):
            return invalid(f"device {device}: {part}")
        parts.append(part)
    coverage = min(part.coverage for part in parts)
    if coverage < coverage_min:
        return invalid(
            f"readings cover {coverage:.1%} of the window, {coverage_min:.0%} are needed", coverage
        )
    energy_j = sum(part.energy_j for part in parts)
    return WindowEnergy(
        energy_j=energy_j,
        mean_power_w=energy_j / ((close_ns - open_ns) / NS_PER_S),
        devices=len(parts),
        coverage=coverage,
        method=", ".join(sorted({part.method for part in parts})),
        invalid_reason=None,
    )


def _integrate_device(
    series: Sequence[PowerReading], open_ns: int, close_ns: int, gap_max_s: float
) -> _DeviceEnergy | str:
    counters = [(r.t_ns, r.energy_j) for r in series if r.energy_j is not None and math.isfinite(r.energy_j)]
    if len(counters) >= 2:
        if any(later < earlier for (_, earlier), (_, later) in pairwise(counters)):
            return "its energy counter went backwards"
        start_ns, end_ns = max(open_ns, counters[0][0]), min(close_ns, counters[-1][0])
        if end_ns <= start_ns:
            return "its energy counter was not read around the window"
        # A stretch before the first or after the last reading took as much as the rest, not nothing.
        energy_j = (_at(counters, end_ns) - _at(counters, start_ns)) * (
            (close_ns - open_ns) / (end_ns - start_ns)
        )
        covered = _coverage([t for t, _ in counters], open_ns, close_ns, gap_max_s)
        return _DeviceEnergy(energy_j, covered, "energy counter")
    powers = [(r.t_ns, r.power_w) for r in series if r.power_w is not None and math.isfinite(r.power_w)]
    if len(powers) < 2:
        return f"{len(powers)} usable readings, at least two are needed"
    inside = [(t, w) for t, w in powers if open_ns < t < close_ns]
    points = [(open_ns, _at(powers, open_ns)), *inside, (close_ns, _at(powers, close_ns))]
    energy_j = sum((t1 - t0) / NS_PER_S * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(points))
    covered = _coverage([t for t, _ in powers], open_ns, close_ns, gap_max_s)
    return _DeviceEnergy(energy_j, covered, "sampled power")


def _at(points: Sequence[tuple[int, float]], t_ns: int) -> float:
    """Interpolate linearly; beyond the ends the nearest value holds (and counts as not covered)."""
    if t_ns <= points[0][0]:
        return points[0][1]
    for (t0, v0), (t1, v1) in pairwise(points):
        if t_ns <= t1:
            return v1 if t1 == t0 else v0 + (v1 - v0) * (t_ns - t0) / (t1 - t0)
    return points[-1][1]


def _coverage(times: Sequence[int], open_ns: int, close_ns: int, gap_max_s: float) -> float:
    uncovered = max(0, times[0] - open_ns) + max(0, close_ns - times[-1])
    for t0, t1 in pairwise(times):
        if (t1 - t0) / NS_PER_S > gap_max_s:
            uncovered += max(0, min(t1, close_ns) - max(t0, open_ns))
    return max(0.0, 1 - uncovered / (close_ns - open_ns))
