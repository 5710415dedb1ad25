"""Whether a source can give a valid result per MW: opened, read for about two seconds, judged; with what to fix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.energy import WindowEnergy, integrate
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.phase_power import throttled
from pytest_agentperf.core.power import DeviceState, PowerSource
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.ports import BlockingClock, PowerSampler
    from pytest_agentperf.core.power import PowerCode
    from pytest_agentperf.core.power_series import PowerSeries
    from pytest_agentperf.core.ruleset import Ruleset

_SECONDS_MIN, _SECONDS_MAX = 2.0, 90.0
_UPDATES = 3.0
_OVER_CAP = 1.25
_LENIENT = {"power_uncertainty_max": 0.999, "power_coverage_min": 0.5}

_REMEDIES: dict[PowerCode, str] = {
    "no_source": "set `power.source` of the deployment",
    "not_measured": "name a source that measures in `power.source`",
    "unreachable": "see that the host answers from here, and that its exporter runs",
    "device_lost": "see the host's kernel log, reset or replace the device",
    "too_few_devices": "see that all accelerators of the deployment are listed by the vendor's tool",
    "no_readings": "see what the vendor's tool says of the device's power",
    "coverage": "free the host's CPU, or read less often (power.interval_s)",
    "stuck": "see that the exporter collects, and the driver answers",
    "counter_backwards": "see whether the driver was reloaded; update it",
    "sentinel": "update the driver; see what the vendor's tool says of the device's power",
    "units": "give the metric's unit as the exporter means it",
    "cross_check": "see that power and energy are those of the same device; update the driver",
    "window_too_short": "use a source that updates more often",
    "sampler_died": "see this machine's memory and the vendor's library",
}


class Finding(BaseModel):
    """One thing that was looked at: good, bad (with what to do), or (None) worth knowing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good: bool | None
    text: str
    remedy: str | None = None


class CheckedDevice(BaseModel):
    """What a device showed; None where it did not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    name: str | None
    power_w: float | None
    power_cap_w: float | None
    counter: bool


class PowerCheck(BaseModel):
    """The result of a check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: PowerSource | None
    seconds: float
    devices: tuple[CheckedDevice, ...]
    states: tuple[DeviceState, ...]
    energy: WindowEnergy | None
    findings: tuple[Finding, ...]

    @property
    def valid(self) -> bool:
        """Whether a result per MW that rests on it can be valid."""
        return all(finding.good is not False for finding in self.findings)


def check_power(
    sampler: PowerSampler,
    *,
    accelerators: int | None,
    accelerator_scope: bool,
    rules: Ruleset,
    clock: BlockingClock,
) -> PowerCheck:
    """Open a source, read it for about two seconds (or three updates), and judge it.

    `accelerators`: how many the deployment has, None if nobody said. `accelerator_scope`: False for meters of the
    surroundings, which nothing is divided by.
    """
    try:
        source = sampler.open()
    except PowerError as error:
        place = f"{error.where}: " if error.where else ""
        finding = Finding(good=False, text=f"{place}{error.what}", remedy=error.remedy)
        return PowerCheck(source=None, seconds=0, devices=(), states=(), energy=None, findings=(finding,))
    if source.source == "none":
        finding = Finding(good=False, text="no power source is configured", remedy=_REMEDIES["no_source"])
        return PowerCheck(source=source, seconds=0, devices=(), states=(), energy=None, findings=(finding,))
    seconds = min(max(_SECONDS_MIN, _UPDATES * (source.update_period_s or 0)), _SECONDS_MAX)
    sampler.start()
    clock.sleep(seconds)
    series = sampler.stop()
    energy = _energy(series, source, rules)
    findings = [
        *_of_source(source, accelerators, accelerator_scope, rules),
        *_of_readings(series, source, energy),
    ]
    return PowerCheck(
        source=source,
        seconds=seconds,
        devices=tuple(_devices(series, source)),
        states=series.after,
        energy=energy,
        findings=tuple(findings),
    )


def _energy(series: PowerSeries, source: PowerSource, rules: Ruleset) -> WindowEnergy:
    first, last = (int(series.t_ns[0]), int(series.t_ns[-1])) if series.t_ns.size else (0, 0)
    return integrate(
        series,
        open_ns=first,
        close_ns=last,
        devices_expected=len(source.devices),
        update_period_s=source.update_period_s or 0.0,
        rules=rules.model_copy(update=_LENIENT),
        scope=source.scope,
    )


def _devices(series: PowerSeries, source: PowerSource) -> Iterable[CheckedDevice]:
    number = {device: i for i, device in enumerate(series.devices)}
    for device in source.devices:
        rows = series.device == number.get(device.id, -1)
        power_w, energy_j = series.power_w[rows], series.energy_j[rows]
        counted = np.isfinite(energy_j)
        mean_w = None
        if np.isfinite(power_w).any():
            mean_w = float(np.nanmean(power_w))
        elif counted.sum() >= 2:
            t_s = series.t_ns[rows][counted] / NS_PER_S
            mean_w = float((energy_j[counted][-1] - energy_j[counted][0]) / (t_s[-1] - t_s[0]))
        yield CheckedDevice(
            device=device.id,
            name=device.name,
            power_w=mean_w,
            power_cap_w=device.power_cap_w,
            counter=bool(counted.any()),
        )


def _of_source(
    source: PowerSource, accelerators: int | None, accelerator_scope: bool, rules: Ruleset
) -> Iterable[Finding]:
    found = len(source.devices)
    if accelerators is None:
        yield Finding(good=True, text=f"{found} device{'s' * (found != 1)} found")
    elif found == accelerators:
        yield Finding(good=True, text=f"{found} devices found, as many as the deployment's accelerators")
    else:
        yield Finding(
            good=False,
            text=f"{found} devices found, but {accelerators} accelerators are allocated",
            remedy="name the deployment's in `power.devices`, or correct `allocated_accelerators`",
        )
    if not source.measured:
        yield Finding(
            good=False,
            text=f"{source.source}: {source.scope} power is not measured, and no result on it is comparable",
            remedy="name a source that measures in `power.source`: nvml, amdsmi, dcgm, amd-exporter, prometheus",
        )
    if not accelerator_scope:
        yield Finding(good=None, text=f"it measures the {source.scope}, shown beside the accelerators' power")
    elif source.scope == "gpu+hbm":
        yield Finding(
            good=True, text="it measures the accelerator with its memory (gpu+hbm), as results want it"
        )
    else:
        yield Finding(
            good=None, text=f"it measures {source.scope}, not gpu+hbm: results are marked with that scope"
        )
    if source.update_period_s is None:
        yield Finding(good=None, text="it does not say how often its values change")
    else:
        least_s = math.ceil(source.update_period_s / rules.power_uncertainty_max)
        fits = least_s <= rules.min_window_s
        yield Finding(
            good=fits,
            text=f"values change every {source.update_period_s:.3g} s: windows of {least_s:,} s and more are "
            f"certain to {rules.power_uncertainty_max:.0%} ({rules.id} has {rules.min_window_s:,.0f} s)",
            remedy=None if fits else "let the exporter collect more often, or use a source that does",
        )


def _of_readings(series: PowerSeries, source: PowerSource, energy: WindowEnergy) -> Iterable[Finding]:
    told = set()
    for problem in series.problems:
        told.add(problem.text)
        yield Finding(good=False, text=problem.text)
    if energy.invalid_reason is not None:
        # A problem that was told is not told again as the reason of what follows from it.
        if not any(text in energy.invalid_reason for text in told):
            assert energy.invalid_code is not None
            yield Finding(good=False, text=energy.invalid_reason, remedy=_REMEDIES[energy.invalid_code])
        return
    checked = list(_devices(series, source))
    counters = sum(device.counter for device in checked)
    if counters == len(checked):
        yield Finding(good=True, text="every device has an energy counter")
    else:
        yield Finding(
            good=None,
            text=f"{counters} of {len(checked)} devices have an energy counter: else power is integrated",
        )
    if energy.cross_check is not None:
        yield Finding(
            good=True,
            text=f"sampled power agrees with the counters: the worst device is {energy.cross_check:+.1%} off",
        )
    for device in checked:
        if device.power_w and device.power_cap_w and device.power_w > _OVER_CAP * device.power_cap_w:
            yield Finding(
                good=False,
                text=f"device {device.device} draws {device.power_w:,.0f} W, its cap is {device.power_cap_w:,.0f} W",
                remedy=_REMEDIES["units"],
            )
    slowed = throttled(series.before, series.after)
    if slowed:
        yield Finding(good=None, text=f"slowed down now: {'; '.join(slowed)}")
