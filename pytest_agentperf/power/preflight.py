"""Whether a deployment's power can be read at all, in about a second; `power.check` looks closer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.checks import Check, failed, ok, skipped, warning
from pytest_agentperf.core.errors import PowerError

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.power import PowerSource
    from pytest_agentperf.core.power_series import PowerSeries
    from pytest_agentperf.power.metering import Metering

_NAME = "power"
_SECONDS_MIN, _SECONDS_MAX = 0.1, 15.0
_CLOSER = "`agentperf power check --system=…` looks closer"


def check_metering(
    metering: Metering, *, accelerators: int, interval_s: float, clock: BlockingClock
) -> Check:
    """Open the meters and see that a reading of every device arrives; closes them again if not."""
    try:
        metering.open()
    except PowerError as error:
        place = f"{error.where}: " if error.where not in (None, _NAME) else ""
        return failed(_NAME, f"{place}{error.what}", error.remedy)
    source = metering.source
    if source.source == "none":
        return skipped(
            _NAME, "no source is named: results per MW stay empty", "set `power.source` of the deployment"
        )
    metering.start()
    clock.sleep(min(max(_SECONDS_MIN, 2 * interval_s, 1.5 * (source.update_period_s or 0)), _SECONDS_MAX))
    series = metering.stop()
    found = _judged(source, series.accelerators, accelerators)
    for meter, readings in zip(metering.facility, series.facility, strict=True):
        if found.status != "failed" and not readings.t_ns.size:
            found = failed(_NAME, f"the {meter.scope} meter ({meter.source}) gave no reading", _CLOSER)
    if found.status == "failed":
        metering.close()
    return found


def _judged(source: PowerSource, series: PowerSeries, accelerators: int) -> Check:
    what = f"{source.source}, {source.scope}"
    if not source.measured and source.scope != "simulated":
        return warning(
            _NAME,
            f"{what}: not measured, so that results per MW are not comparable",
            "name a source that measures",
        )
    if series.problems:
        return failed(_NAME, f"{what}: {series.problems[0].text}", _CLOSER)
    read = len({*series.device.tolist()})
    if not read:
        return failed(_NAME, f"{what}: no reading arrived", _CLOSER)
    if read != accelerators:
        return failed(
            _NAME,
            f"{what}: {read} devices are read, but {accelerators} accelerators are allocated",
            "name the deployment's in `power.devices`, or correct `allocated_accelerators`",
        )
    return ok(_NAME, f"{what}: readings of {read} devices arrive")
