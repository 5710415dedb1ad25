"""Energy of a deployment over exactly the steady window, from readings that may have gaps; missing is never zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.device_energy import DeviceEnergy, Refused, device_energy
from pytest_agentperf.core.power import PLAUSIBLE_W, PowerCode
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.core.power import PowerProblem, Scope
    from pytest_agentperf.core.power_series import PowerSeries
    from pytest_agentperf.core.ruleset import Ruleset

_PEAK_STEP_S = 1.0
_LOST = ("unreachable", "device_lost")


class WindowEnergy(BaseModel):
    """Energy and power of a deployment's accelerators over a window; None with a reason where unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy_j: float | None
    mean_power_w: float | None
    peak_power_w: float | None = None
    """The highest mean over one second (or one update, where these are rarer) of all devices together."""
    uncertainty: float | None = None
    """How far `energy_j` can be off for the source's update rate, as a share of it."""
    cross_check: float | None = None
    """Sampled power against the counters, as a share: of the device where they differ most."""
    devices: int
    coverage: float
    """The least covered device's share of the window."""
    method: str | None
    per_device_j: dict[str, float] = Field(default_factory=dict)
    invalid_code: PowerCode | None
    invalid_reason: str | None
    problems: tuple[str, ...] = ()
    """What the sampler saw, valid or not."""


def integrate(
    series: PowerSeries,
    *,
    open_ns: int,
    close_ns: int,
    devices_expected: int,
    update_period_s: float,
    rules: Ruleset,
    scope: Scope = "gpu+hbm",
) -> WindowEnergy:
    """Sum the energy of all devices over [open, close], interpolating at both ends.

    Counters are preferred over sampled power, and both are held against each other. What the readings cannot carry
    makes the result invalid: with a code, and the device.
    """
    problems = tuple(problem.text for problem in series.problems)

    def invalid(code: PowerCode, reason: str, coverage: float = 0.0) -> WindowEnergy:
        return WindowEnergy(
            energy_j=None,
            mean_power_w=None,
            devices=len(series.devices),
            coverage=coverage,
            method=None,
            invalid_code=code,
            invalid_reason=reason,
            problems=problems,
        )

    if close_ns <= open_ns:
        return invalid("no_readings", "the window is empty")
    told = series.problems[0] if series.problems else None
    if not series.devices:
        return invalid(told.code if told else "no_readings", told.text if told else "no readings")
    if len(series.devices) != devices_expected:
        reason = f"readings of {len(series.devices)} devices, the deployment has {devices_expected}"
        told = next((p for p in series.problems if p.code in _LOST), told)
        return invalid("too_few_devices", f"{reason}: {told.text}" if told else reason)
    gap_max_s = max(rules.power_gap_max_s, 2.5 * update_period_s)
    parts: dict[str, DeviceEnergy] = {}
    for number, device in enumerate(series.devices):
        rows = series.device == number
        part = device_energy(
            series.t_ns[rows],
            series.power_w[rows],
            series.energy_j[rows],
            open_ns=open_ns,
            close_ns=close_ns,
            gap_max_s=gap_max_s,
            update_period_s=update_period_s,
            plausible_w=PLAUSIBLE_W[scope],
        )
        if isinstance(part, Refused):
            return invalid(part.code, f"device {device}: {part.text}")
        parts[device] = part
    least = min(parts, key=lambda device: parts[device].coverage)
    coverage = parts[least].coverage
    if coverage < rules.power_coverage_min:
        seen = next((p for p in series.problems if _concerns(p, least)), told)
        least_share = f"{rules.power_coverage_min:.0%} are needed"
        reason = f"device {least}: readings cover {coverage:.1%} of the window, {least_share}"
        return invalid(
            seen.code if seen else "coverage", f"{reason}: {seen.text}" if seen else reason, coverage
        )
    energy_j = sum(part.energy_j for part in parts.values())
    uncertainty = sum(part.uncertainty_j for part in parts.values()) / energy_j
    if uncertainty > rules.power_uncertainty_max:
        return invalid(
            "window_too_short",
            f"values that change every {update_period_s:g} s leave {uncertainty:.1%} of doubt over "
            f"{(close_ns - open_ns) / NS_PER_S:.1f} s, {rules.power_uncertainty_max:.1%} are allowed",
            coverage,
        )
    checks = {d: p.cross_check for d, p in parts.items() if p.cross_check is not None}
    worst = max(checks, key=lambda device: abs(checks[device]), default=None)
    allowed = rules.power_cross_check_max + uncertainty
    wrong = next(
        (device for device in checks if abs(checks[device]) > allowed + parts[device].cross_check_doubt), None
    )
    if wrong is not None:
        return invalid(
            "cross_check",
            f"device {wrong}: sampled power is {checks[wrong]:+.1%} off its energy counter",
            coverage,
        )
    return WindowEnergy(
        energy_j=energy_j,
        mean_power_w=energy_j / ((close_ns - open_ns) / NS_PER_S),
        peak_power_w=_peak(list(parts.values()), open_ns, close_ns, max(_PEAK_STEP_S, update_period_s)),
        uncertainty=uncertainty,
        cross_check=None if worst is None else checks[worst],
        devices=len(parts),
        coverage=coverage,
        method=", ".join(sorted({part.method for part in parts.values()})),
        per_device_j={device: part.energy_j for device, part in parts.items()},
        invalid_code=None,
        invalid_reason=None,
        problems=problems,
    )


def _concerns(problem: PowerProblem, device: str) -> bool:
    """Return whether a problem is the device's own, or its host's: devices are called `host/…`."""
    return problem.device is not None and (
        device == problem.device or device.startswith(f"{problem.device}/")
    )


def _peak(parts: list[DeviceEnergy], open_ns: int, close_ns: int, step_s: float) -> float:
    steps = max(1, int((close_ns - open_ns) / NS_PER_S / step_s))
    edges = np.linspace(open_ns, close_ns, steps + 1).astype(np.int64)
    total_j = sum((np.diff(part.curve.at(edges)) for part in parts), np.zeros(steps))
    return float((total_j / (np.diff(edges) / NS_PER_S)).max())
