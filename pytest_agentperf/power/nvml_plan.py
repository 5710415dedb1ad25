"""What to read of each NVIDIA GPU: its counter and its power are watched for a moment, and held against each other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_agentperf.power.nvml_devices import Gpu, power_is_averaged, said
from pytest_agentperf.power.nvml_fields import (
    ALL_ONES,
    AVERAGE,
    ENERGY,
    ENERGY_CALL,
    ENERGY_GPU,
    INSTANT,
    MODULE,
    NO_POWER,
    POWER_CALL,
    Field,
    FieldReader,
    supported_fields,
)
from pytest_agentperf.power.update_rate import WATCH_S, Watched, counter_period_s, power_period_s, watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.power.local_devices import Notes

_AVERAGED_S = 1.0
_SAME = 0.1
"""How far a counter may rise from the power that it should count, in the short time it is watched."""
_MODULE_IS_MORE = 1.1

_ENERGY_FIELDS, _POWER_FIELDS = (ENERGY, ENERGY_GPU), (INSTANT, AVERAGE)
_COUNTERS = (*_ENERGY_FIELDS, ENERGY_CALL)

Seen = dict[tuple[str, Field], Watched]


def plan_reads(nvml: Any, gpus: Sequence[Gpu], clock: BlockingClock, notes: Notes) -> float | None:
    """Choose counter and power of every GPU; returns the longest update period of what their energy rests on."""
    seen = watch(lambda: _everything(nvml, gpus, clock), clock)
    periods = [_plan(nvml, gpu, seen, notes) for gpu in gpus]
    return max((period_s for period_s in periods if period_s is not None), default=None)


def _everything(nvml: Any, gpus: Sequence[Gpu], clock: BlockingClock) -> Iterator[tuple[Any, int, float]]:
    """Read all that a GPU may tell of its power; calls stand in for fields that it lacks."""
    for gpu in gpus:
        before_ns = clock.now_ns()
        found = supported_fields(nvml, gpu.handle, (*_ENERGY_FIELDS, *_POWER_FIELDS, MODULE))
        if not any(field in found for field in _ENERGY_FIELDS):
            found[ENERGY_CALL] = said(nvml, partial(nvml.nvmlDeviceGetTotalEnergyConsumption, gpu.handle))
        if not any(found.get(field) not in NO_POWER for field in _POWER_FIELDS):
            found[POWER_CALL] = said(nvml, partial(nvml.nvmlDeviceGetPowerUsage, gpu.handle))
        t_ns = (before_ns + clock.now_ns()) // 2
        for field, value in found.items():
            if value is not None and value not in ({ALL_ONES} if field in _COUNTERS else NO_POWER):
                yield (gpu.id, field), t_ns, value


def _plan(nvml: Any, gpu: Gpu, seen: Seen, notes: Notes) -> float | None:
    power = next((field for field in (*_POWER_FIELDS, POWER_CALL) if (gpu.id, field) in seen), None)
    energy = _counter(gpu, power, seen, notes)
    gpu.energy, gpu.power = energy, power
    fields = tuple(field for field in (energy, power) if field is not None and field[0] > 0)
    gpu.reader = FieldReader(nvml, fields) if fields else None
    if energy is not None:
        return counter_period_s(gpu.id, "energy counter", seen[gpu.id, energy], notes)
    if power is None:
        notes.add(gpu.id, "tells no power, and is left out")
        return None
    averaged = power == AVERAGE or (power == POWER_CALL and power_is_averaged(nvml, gpu))
    name = "power averaged over 1 s" if averaged else "instant power"
    notes.add(gpu.id, f"no usable energy counter: {name} is integrated")
    period_s = power_period_s(gpu.id, name, seen[gpu.id, power], notes)
    return max(period_s, _AVERAGED_S) if averaged else period_s


def _counter(gpu: Gpu, power_field: Field | None, seen: Seen, notes: Notes) -> Field | None:
    power = None if power_field is None else seen[gpu.id, power_field]
    module = seen.get((gpu.id, MODULE))
    for field in _COUNTERS:
        counter = seen.get((gpu.id, field))
        if counter is None:
            continue
        if not counter.moved:
            notes.add(gpu.id, f"energy counter {_name(field)} stood still for {WATCH_S:g} s: not used")
        elif power and module and module.mean > power.mean * _MODULE_IS_MORE and not _same(counter, power):
            # Nothing documents whether a superchip's counter counts its CPU in: it must match the GPU's own power.
            notes.add(
                gpu.id,
                f"energy counter {_name(field)} does not rise by the GPU's power, of a module that draws more: "
                "it counts more than the GPU, and is not used",
            )
        else:
            return field
    return None


def _same(counter: Watched, power: Watched) -> bool:
    rise = counter.per_s
    return rise is not None and abs(rise / power.mean - 1) <= _SAME


def _name(field: Field) -> str:
    return "(its call)" if field == ENERGY_CALL else f"(field {field[0]})"
