"""One device's energy over a window: from its counter where it has one, else from sampled power; or why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_agentperf.core.power import PowerCode


_WRAPS_J = (2**32 / 1e3, 2**32 / 1e6, 2.0**32)
"""Where 32-bit counters of mJ, µJ and J begin again."""
_WRAP_SLACK = 3.0
"""How much faster than ever else a counter may have run where it began again."""
_STUCK_READINGS = 60
_STUCK_S = 60.0
_UNITS_RATIO = 100.0


class Curve(NamedTuple):
    """Cumulative energy of one device, piecewise linear: `energy_j` at `t_ns`, both of shape (n,), n ≥ 2."""

    t_ns: NDArray[np.int64]
    energy_j: NDArray[np.float64]

    def at(self, t_ns: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Interpolate; beyond the ends the mean power of the whole curve goes on (and counts as not covered)."""
        t0, t1 = float(self.t_ns[0]), float(self.t_ns[-1])
        asked = np.asarray(t_ns, dtype=np.float64)
        power = (self.energy_j[-1] - self.energy_j[0]) / (t1 - t0)
        inside = np.interp(asked, self.t_ns.astype(np.float64), self.energy_j)
        found: NDArray[np.float64] = inside + power * (np.minimum(asked - t0, 0) + np.maximum(asked - t1, 0))
        return found


class Refused(NamedTuple):
    """Why a device's energy is not known."""

    code: PowerCode
    text: str


class DeviceEnergy(NamedTuple):
    """One device over the window."""

    curve: Curve
    energy_j: float
    coverage: float
    uncertainty_j: float
    method: str
    cross_check: float | None
    """Sampled power against the counter, as a share; None where only one of them is."""
    cross_check_doubt: float = 0.0
    """How far that share can be off, as samples are few."""


def device_energy(
    t_ns: NDArray[np.int64],
    power_w: NDArray[np.float64],
    counter_j: NDArray[np.float64],
    *,
    open_ns: int,
    close_ns: int,
    gap_max_s: float,
    update_period_s: float,
    plausible_w: tuple[float, float],
) -> DeviceEnergy | Refused:
    """Integrate one device's readings (columns of shape (n,), times increasing) over [open, close]."""
    window_s = (close_ns - open_ns) / NS_PER_S
    counted, sampled = np.isfinite(counter_j), np.isfinite(power_w)
    by_power = _sampled(t_ns[sampled], power_w[sampled], (open_ns, close_ns))
    if counted.sum() >= 2:
        by_counter = _counter(t_ns[counted], counter_j[counted], open_ns, close_ns, gap_max_s)
        if isinstance(by_counter, Refused):
            return by_counter
        curve, method, times = by_counter, "energy counter", t_ns[counted]
    elif isinstance(by_power, Refused):
        return by_power
    else:
        curve, method, times = by_power, "sampled power", t_ns[sampled]
        if (stuck := _stuck(t_ns[sampled], power_w[sampled], open_ns, close_ns)) is not None:
            return stuck
    if curve.t_ns[-1] <= open_ns or curve.t_ns[0] >= close_ns:
        return Refused("coverage", "was not read in the window")
    energy_j = float(curve.at(close_ns) - curve.at(open_ns))
    mean_w = energy_j / window_s
    if not plausible_w[0] <= mean_w <= plausible_w[1]:
        beyond = f"outside {plausible_w[0]:g} to {plausible_w[1]:,.0f} W"
        return Refused("units", f"{mean_w:,.3g} W on average is {beyond}: the unit is wrong, or it is off")
    cross_check, doubt = None, 0.0
    between_j = _between_samples(t_ns[sampled], power_w[sampled], open_ns, close_ns, update_period_s)
    if method == "energy counter" and isinstance(by_power, Curve):
        sampled_j = float(by_power.at(close_ns) - by_power.at(open_ns))
        ratio = sampled_j / energy_j
        if not 1 / _UNITS_RATIO < ratio < _UNITS_RATIO:
            return Refused("units", f"sampled power gives {ratio:,.3g} times the energy of its counter")
        cross_check, doubt = ratio - 1, between_j / energy_j
    covered = _coverage(times, open_ns, close_ns, gap_max_s)
    uncertainty_j = _uncertainty(curve, open_ns, close_ns, update_period_s)
    if method == "sampled power":
        uncertainty_j += between_j
    return DeviceEnergy(curve, energy_j, covered, uncertainty_j, method, cross_check, doubt)


def _counter(
    t_ns: NDArray[np.int64], counter_j: NDArray[np.float64], open_ns: int, close_ns: int, gap_max_s: float
) -> Curve | Refused:
    counter_j = counter_j.copy()
    steps_j, steps_s = np.diff(counter_j), np.diff(t_ns) / NS_PER_S
    fastest_w = float(np.max(steps_j[steps_s > 0] / steps_s[steps_s > 0], initial=0.0))
    for i in np.flatnonzero(steps_j < 0):
        # A 32-bit counter goes on from 0; any other fall is a driver that was reloaded, or a broken reading.
        most_j = _WRAP_SLACK * fastest_w * steps_s[i]
        for wrap_j in _WRAPS_J:
            if counter_j[i] <= wrap_j and wrap_j - counter_j[i] + counter_j[i + 1] <= most_j:
                counter_j[i + 1 :] += wrap_j
                break
        else:
            return Refused("counter_backwards", "its energy counter went backwards: reset, or read wrongly")
    if t_ns[-1] <= t_ns[0]:
        return Refused("no_readings", "its energy counter was read at one moment only")
    moved = np.flatnonzero(np.diff(counter_j) > 0)
    # Where the counter stands still for longer than readings may be missing, it is not read: it repeats itself.
    still_from = np.concatenate(([t_ns[0]], t_ns[moved + 1]))
    still_to = np.concatenate((t_ns[moved], [t_ns[-1]]))
    still_s = (np.minimum(still_to, close_ns) - np.maximum(still_from, open_ns)) / NS_PER_S
    if still_s.size and still_s.max() > gap_max_s:
        return Refused("stuck", f"its energy counter stood still for {still_s.max():.1f} s")
    return Curve(t_ns, counter_j)


def _sampled(
    t_ns: NDArray[np.int64], power_w: NDArray[np.float64], edges_ns: tuple[int, int]
) -> Curve | Refused:
    if t_ns.size < 2 or t_ns[-1] <= t_ns[0]:
        return Refused("no_readings", f"{t_ns.size} usable readings, at least two are needed")
    # The window's edges become points of the curve: power is a line between two readings, energy is not.
    for edge_ns in edges_ns:
        if t_ns[0] < edge_ns < t_ns[-1] and edge_ns not in t_ns:
            place = int(np.searchsorted(t_ns, edge_ns))
            between_w = np.interp(edge_ns, t_ns[place - 1 : place + 1], power_w[place - 1 : place + 1])
            t_ns, power_w = np.insert(t_ns, place, edge_ns), np.insert(power_w, place, between_w)
    steps_j = np.diff(t_ns) / NS_PER_S * (power_w[1:] + power_w[:-1]) / 2
    return Curve(t_ns, np.concatenate(([0.0], np.cumsum(steps_j))))


def _stuck(
    t_ns: NDArray[np.int64], power_w: NDArray[np.float64], open_ns: int, close_ns: int
) -> Refused | None:
    inside = (t_ns >= open_ns) & (t_ns <= close_ns)
    if inside.sum() < _STUCK_READINGS or (t_ns[inside][-1] - t_ns[inside][0]) / NS_PER_S < _STUCK_S:
        return None
    values = power_w[inside]
    if np.all(values == values[0]):
        return Refused("stuck", f"its power was exactly {values[0]:g} W at all {values.size:,} readings")
    return None


def _coverage(t_ns: NDArray[np.int64], open_ns: int, close_ns: int, gap_max_s: float) -> float:
    """Return the share of the window that is nearer to readings than a gap."""
    starts, ends = np.maximum(t_ns[:-1], open_ns), np.minimum(t_ns[1:], close_ns)
    long = np.diff(t_ns) / NS_PER_S > gap_max_s
    missing = float(np.maximum(ends - starts, 0)[long].sum())
    missing += max(0, min(int(t_ns[0]), close_ns) - open_ns) + max(0, close_ns - max(int(t_ns[-1]), open_ns))
    return max(0.0, 1 - missing / (close_ns - open_ns))


def _uncertainty(curve: Curve, open_ns: int, close_ns: int, update_period_s: float) -> float:
    """Bound what the two ends can be off by: a value may be as old as one update, or lie between two readings."""
    spacing_s = max(update_period_s, float(np.median(np.diff(curve.t_ns))) / NS_PER_S)
    edges = np.arange(open_ns, close_ns, max(1, round(spacing_s * NS_PER_S)), dtype=np.int64)
    if edges.size < 2:
        return float(curve.at(close_ns) - curve.at(open_ns))
    powers_w = np.diff(curve.at(edges)) / (np.diff(edges) / NS_PER_S)
    stale_j = update_period_s * float(powers_w.max())
    # A line between two points of a curve is off by a quarter of what its slope can change, at each end.
    between_j = spacing_s * float(powers_w.max() - powers_w.min()) / 4 * 2**0.5
    return stale_j + between_j


def _between_samples(
    t_ns: NDArray[np.int64], power_w: NDArray[np.float64], open_ns: int, close_ns: int, update_period_s: float
) -> float:
    """Return what is open between samples at random moments: two standard deviations of the energy.

    Where power stays for several samples, each step happened anywhere between two of them (a twelfth of its square),
    and was seen up to an update late (another twelfth).
    Where it is faster than the samples, these are independent draws: then each step up tends to be followed by one
    down, and half the square of a step is the variance. The product of neighbouring steps tells the two apart.
    """
    inside = (t_ns[1:] > open_ns) & (t_ns[:-1] < close_ns)
    steps_w, gaps_s = np.diff(power_w)[inside], (np.diff(t_ns) / NS_PER_S)[inside]
    steps_j = steps_w * gaps_s
    back_j2 = max(0.0, -float(np.sum(steps_j[1:] * steps_j[:-1])))
    return 2 * float(
        np.sqrt((np.sum(steps_j**2) + np.sum((steps_w * update_period_s) ** 2)) / 12 + back_j2 * 5 / 6)
    )
