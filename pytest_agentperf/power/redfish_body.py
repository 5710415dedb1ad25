"""Power and energy in a Redfish resource: a chassis, a power supply, a rack PDU or one of its outlets, a sensor."""

from __future__ import annotations

import math
from typing import Any

import orjson

from pytest_agentperf.power.rows import Row

_OFF = {"Absent", "Disabled", "UnavailableOffline"}
_POWER_MAX_W = 1e7
_SENSOR_W = {"W": 1.0, "kW": 1e3}
_SENSOR_J = {"J": 1.0, "kJ": 1e3, "W.h": 3600.0, "kW.h": 3.6e6}


class NotPower(ValueError):
    """Why a body says nothing about power; reads on from the name of its source."""


def parse(body: bytes) -> Row:
    """Return the power and energy that a resource shows; raises NotPower."""
    try:
        resource = orjson.loads(body)
    except ValueError:
        raise NotPower("sends no JSON") from None
    if not isinstance(resource, dict):
        raise NotPower("sends JSON that is no Redfish resource")
    if "error" in resource:
        raise NotPower("answers with a Redfish error")
    state = _part(resource, "Status").get("State")
    if isinstance(state, str) and state in _OFF:
        raise NotPower(f"is {state}")
    row = _row(resource)
    if row.power_w is None and row.energy_j is None:
        raise NotPower("shows neither power nor energy")
    for key, said in (("name", "Model"), ("firmware", "FirmwareVersion")):
        if isinstance(resource.get(said), str):
            setattr(row, key, resource[said])
    row.name = row.name or (resource["Name"] if isinstance(resource.get("Name"), str) else None)
    return row


def _row(resource: dict[str, Any]) -> Row:
    if "PowerControl" in resource:
        return _chassis(resource["PowerControl"])
    if "ReadingUnits" in resource or "ReadingType" in resource:
        return _sensor(resource)
    for name in ("PowerWatts", "InputPowerWatts"):
        if name in resource:
            power = _reading(resource, name)
            return Row("", power_w=power, energy_j=_energy(resource), power_cap_w=_cap(resource))
    if (energy := _energy(resource)) is not None:
        return Row("", energy_j=energy)
    raise NotPower(_instead(resource))


def _chassis(controls: object) -> Row:
    # The first one is the whole chassis; others are parts of it (processors, memory).
    control = controls[0] if isinstance(controls, list) and controls else None
    if not isinstance(control, dict):
        raise NotPower("has an empty PowerControl")
    watts = _number(control.get("PowerConsumedWatts"), "PowerControl[0].PowerConsumedWatts")
    if watts == 0:
        raise NotPower("shows PowerControl[0].PowerConsumedWatts 0: it does not measure")
    name = control.get("Name")
    limit = _part(control, "PowerLimit").get("LimitInWatts")
    return Row(
        "",
        power_w=watts,
        name=name if isinstance(name, str) else None,
        power_cap_w=_finite(limit),
    )


def _sensor(resource: dict[str, Any]) -> Row:
    unit = resource.get("ReadingUnits")
    value = _number(resource.get("Reading"), "Reading")
    if isinstance(unit, str) and unit in _SENSOR_W:
        return Row("", power_w=value * _SENSOR_W[unit])
    if isinstance(unit, str) and unit in _SENSOR_J:
        return Row("", energy_j=value * _SENSOR_J[unit])
    raise NotPower(f"is a sensor in {str(unit)[:20]!r}, which is no unit of power or energy")


def _energy(resource: dict[str, Any]) -> float | None:
    for name, joules in (("EnergyJoules", 1.0), ("EnergykWh", 3.6e6)):
        if _part(resource, name).get("Reading") is not None:
            return _reading(resource, name) * joules
    return None


def _cap(resource: dict[str, Any]) -> float | None:
    limit = _part(resource, "PowerLimitWatts").get("SetPoint")
    return _finite(limit)


def _reading(resource: dict[str, Any], name: str) -> float:
    return _number(_part(resource, name).get("Reading"), f"{name}.Reading")


def _number(value: object, where: str) -> float:
    if value is None:
        raise NotPower(f"shows no {where}: it does not measure")
    number = _finite(value)
    if number is None:
        raise NotPower(f"shows {str(value)[:20]!r} as {where}")
    if number < 0:
        raise NotPower(f"shows {number:g} as {where}, which no meter can show")
    if number > _POWER_MAX_W and "Watts" in where:
        raise NotPower(f"shows {number:g} W as {where}, which no meter can show")
    return number


def _finite(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _part(resource: dict[str, Any], name: str) -> dict[str, Any]:
    part = resource.get(name)
    return part if isinstance(part, dict) else {}


def _instead(resource: dict[str, Any]) -> str:
    link = _part(resource, "Metrics").get("@odata.id")
    if isinstance(link, str):
        return f"has no reading of its own: read its Metrics at {link[:200]}"
    link = _part(resource, "EnvironmentMetrics").get("@odata.id")
    if isinstance(link, str):
        return f"has no reading of its own: read its EnvironmentMetrics at {link[:200]}"
    kind = resource.get("@odata.type")
    what = f"is a {kind[:60]}, which" if isinstance(kind, str) else "is JSON that"
    return (
        f"{what} shows no power: read Power or EnvironmentMetrics of a chassis, Metrics of a power supply or PDU, "
        "an outlet, or a sensor"
    )
