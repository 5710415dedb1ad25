"""NVML's field values: one call reads a device's energy counter and its power."""

from __future__ import annotations

from typing import Any

Field = tuple[int, int]
"""A field and its scope."""

# Numbers of nvml.h: older versions of the Python package lack names for some.
_SCOPE_GPU, _SCOPE_MODULE = 0, 1
ENERGY: Field = (83, _SCOPE_GPU)
"""Total energy consumption in mJ since the driver was loaded; Volta and newer."""
ENERGY_GPU: Field = (191, _SCOPE_GPU)
"""The same, of a scope: on a superchip field 83 may count the whole module."""
INSTANT: Field = (186, _SCOPE_GPU)
AVERAGE: Field = (185, _SCOPE_GPU)
"""Over one second; Ampere (except GA100) and newer."""
MODULE: Field = (186, _SCOPE_MODULE)
"""GPU and CPU of a superchip; not supported elsewhere."""

ENERGY_CALL: Field = (-1, _SCOPE_GPU)
POWER_CALL: Field = (-2, _SCOPE_GPU)
"""No fields: functions of their own, for drivers and devices without these."""

ALL_ONES = 0xFFFF_FFFF_FFFF_FFFF
NO_POWER = frozenset({None, 0, 0xFFFF_FFFF, ALL_ONES})
"""What stands for no value in a field of mW: a GPU that can be asked draws something."""

_SLOWED_FOR_NS: dict[Field, str] = {
    (74, _SCOPE_GPU): "sw_power_cap",
    (75, _SCOPE_GPU): "thermal",
    (76, _SCOPE_GPU): "sync_boost",
    (77, _SCOPE_GPU): "board_limit",
    (269, _SCOPE_GPU): "sw_thermal_slowdown",
    (270, _SCOPE_GPU): "hw_thermal_slowdown",
    (271, _SCOPE_GPU): "hw_power_brake",
}
_SLOWS_NOW = {
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
}
"""Bits of the clocks' event reasons; idle, application clocks and the display's clock are left out."""

_OK = 0
_MEMBER = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Of the value's union, by its type."""


def field_number(value: Any) -> float | None:
    """Return a field's number, None if its type is unknown."""
    kind: int = value.valueType
    return getattr(value.value, _MEMBER[kind]) if 0 <= kind < len(_MEMBER) else None


class FieldReader:
    """Some fields of one device, in one call.

    The package's own function builds its arguments anew at each call, which costs three times what the call does;
    these are built once.
    """

    def __init__(self, nvml: Any, fields: tuple[Field, ...]) -> None:
        self._values = (nvml.c_nvmlFieldValue_t * len(fields))()
        self._call = nvml.nvmlLib.nvmlDeviceGetFieldValues
        self.items = tuple(zip(fields, self._values, strict=True))
        for field, value in self.items:
            value.fieldId, value.scopeId = field

    def read(self, handle: Any) -> int:
        """Fill `items` and return NVML's code; each item has a code of its own."""
        code: int = self._call(handle, len(self.items), self._values)
        return code


def supported_fields(nvml: Any, handle: Any, fields: tuple[Field, ...]) -> dict[Field, float | None]:
    """Read many fields; those that the device has no value of are left out."""
    try:
        values = nvml.nvmlDeviceGetFieldValues(handle, fields)
    except nvml.NVMLError:
        return {}
    return {
        field: field_number(value)
        for field, value in zip(fields, values, strict=True)
        if value.nvmlReturn == _OK
    }


def slowed_for(nvml: Any, handle: Any) -> dict[str, float]:
    """Return for how long (ns since the driver was loaded) each reason kept the clocks down."""
    found = supported_fields(nvml, handle, tuple(_SLOWED_FOR_NS))
    return {_SLOWED_FOR_NS[field]: number for field, number in found.items() if number is not None}


def slows_now(bits: int) -> tuple[str, ...]:
    """Return what keeps the clocks down at this moment."""
    return tuple(reason for bit, reason in _SLOWS_NOW.items() if bits & bit)
