"""What exporters call power, energy and the rest: samples of one answer become rows, one per accelerator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.power.rows import Refusal, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_agentperf.config.power import Metric, PrometheusPower
    from pytest_agentperf.core.power import Scope
    from pytest_agentperf.core.prometheus_text import Sample

UNITS = {
    "W": 1.0,
    "mW": 1e-3,
    "kW": 1e3,
    "J": 1.0,
    "mJ": 1e-3,
    "kJ": 1e3,
    "Wh": 3600.0,
    "kWh": 3.6e6,
    "µJ": 1e-6,
}
_DCGM_BLANKS = ((2**31 - 16, 2**31), (2**47, 2**47 + 16), (2**63 - 1024, 2**63))
"""Where DCGM keeps its marks for not found, not supported, not permitted: the last values of int32, double, int64."""
_AMD_BLANKS = (2**16 - 1, 2**32 - 1, 2.0**64)
_POWER_MAX_W = 1e6
"""No meter shows more; exporters without marks for missing values show the largest number of some type."""
_SLOWS = {
    0x04: "sw_power_cap",
    0x08: "hw_slowdown",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
}


_DCGM = "DCGM_FI_DEV_"


class Dialect(NamedTuple):
    """One kind of exporter."""

    source: str
    scope: Scope
    rows: Callable[[Sequence[Sample]], list[Row]]
    names: tuple[str, ...]
    """What the names begin with of all metrics that are read."""
    wanted: str
    """What an answer must hold, for messages."""
    period_unseen_s: float
    """The update period where none can be seen: what the exporter is shipped with."""


def _dcgm_rows(samples: Iterable[Sample]) -> list[Row]:
    best: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        labels = sample.labels
        if not sample.name.startswith(_DCGM) or "gpu" not in labels:
            continue
        key = labels.get("UUID") or labels.get("uuid") or f"{labels.get('Hostname')}/{labels['gpu']}"
        of_device = best.setdefault(key, {})
        seen = of_device.get(sample.name)
        # A MIG instance, and a pod that shares a GPU, repeat the power of the whole one: it counts once.
        if seen is None or ("GPU_I_ID" in seen.labels and "GPU_I_ID" not in labels):
            of_device[sample.name] = sample
    return _named([row for of_device in best.values() if (row := _dcgm_row(of_device)) is not None])


def _dcgm_row(metrics: dict[str, Sample]) -> tuple[Row, str] | None:
    power = metrics.get(f"{_DCGM}POWER_USAGE") or metrics.get(f"{_DCGM}POWER_USAGE_INSTANT")
    energy = metrics.get(f"{_DCGM}TOTAL_ENERGY_CONSUMPTION")
    first = power or energy
    if first is None:
        return None
    labels = first.labels
    row = Row(
        labels["gpu"],
        name=labels.get("modelName"),
        uuid=labels.get("UUID") or labels.get("uuid"),
        driver=labels.get("DCGM_FI_DRIVER_VERSION"),
        firmware=labels.get("DCGM_FI_DEV_VBIOS_VERSION"),
    )
    _set(row, power, energy, 1.0, 1e-3, _is_dcgm_blank)
    row.power_cap_w = _other(metrics.get(f"{_DCGM}POWER_MGMT_LIMIT"))
    row.clock_mhz = _other(metrics.get(f"{_DCGM}SM_CLOCK"))
    row.memory_clock_mhz = _other(metrics.get(f"{_DCGM}MEM_CLOCK"))
    row.temperature_c = _other(metrics.get(f"{_DCGM}GPU_TEMP"))
    bits = _other(
        metrics.get(f"{_DCGM}CLOCKS_EVENT_REASONS") or metrics.get(f"{_DCGM}CLOCK_THROTTLE_REASONS")
    )
    row.throttle_reasons = tuple(name for bit, name in _SLOWS.items() if int(bits or 0) & bit)
    return row, labels.get("Hostname", "")


_AMD_PREFIX = "amd_"
_AMD_POWER = ("gpu_package_power", "gpu_power_usage", "gpu_average_package_power")


def _amd_rows(samples: Iterable[Sample]) -> list[Row]:
    found: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        labels = sample.labels
        # The exporter can be told to put a prefix before all names.
        name = sample.name.removeprefix(_AMD_PREFIX)
        partition = labels.get("gpu_partition_id") or labels.get("partition_id") or "0"
        # Only the first partition has the sensors of the whole accelerator; the others say 0.
        if "gpu_id" in labels and partition == "0":
            found.setdefault(f"{labels.get('hostname')}/{labels['gpu_id']}", {}).setdefault(name, sample)
    return _named([row for metrics in found.values() if (row := _amd_row(metrics)) is not None])


def _amd_row(metrics: dict[str, Sample]) -> tuple[Row, str] | None:
    powers = [metrics[name] for name in _AMD_POWER if name in metrics]
    energy = metrics.get("gpu_energy_consumed")
    if not powers and energy is None:
        return None
    # Which of the three a model fills differs; the others say 0 or the largest number of their type.
    power = next(
        (sample for sample in powers if not _is_amd_blank(sample.value)), powers[0] if powers else None
    )
    labels = (power or energy).labels  # type: ignore[union-attr]
    row = Row(
        labels["gpu_id"],
        name=labels.get("card_model") or labels.get("card_series"),
        uuid=labels.get("gpu_uuid") or labels.get("serial_number"),
        driver=labels.get("driver_version"),
        firmware=labels.get("vbios_version"),
    )
    _set(row, power, energy, 1.0, 1e-6, _is_amd_blank)
    row.temperature_c = _other(metrics.get("gpu_junction_temperature"))
    return row, labels.get("hostname", "")


def metric_rows(config: PrometheusPower) -> Callable[[Sequence[Sample]], list[Row]]:
    """Return what finds the metrics that a system file names."""

    def rows(samples: Sequence[Sample]) -> list[Row]:
        powers, energies = _matching(samples, config.power), _matching(samples, config.energy)
        found = []
        for device in sorted(powers.keys() | energies.keys()):
            power, energy = powers.get(device, []), energies.get(device, [])
            row = Row(device)
            if len(power) > 1 or len(energy) > 1:
                text = "several samples match: name more labels, or the one that tells devices apart in device_label"
                row.refused.append(Refusal("units", text))
            else:
                _set(
                    row,
                    power[0] if power else None,
                    energy[0] if energy else None,
                    UNITS[config.power.unit] if config.power else 1.0,
                    UNITS[config.energy.unit] if config.energy else 1.0,
                    lambda value: False,
                )
            found.append(row)
        return found

    return rows


DCGM = Dialect(
    "dcgm-exporter",
    "gpu+hbm",
    _dcgm_rows,
    tuple(
        f"{_DCGM}{name}"
        for name in (
            "POWER_USAGE",
            "TOTAL_ENERGY_CONSUMPTION",
            "POWER_MGMT_LIMIT",
            "SM_CLOCK",
            "MEM_CLOCK",
            "GPU_TEMP",
            "CLOCKS_EVENT_REASONS",
            "CLOCK_THROTTLE_REASONS",
        )
    ),
    "DCGM_FI_DEV_POWER_USAGE or DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    30.0,
)
AMD = Dialect(
    "AMD device-metrics-exporter",
    "gpu+hbm",
    _amd_rows,
    tuple(
        f"{prefix}{name}"
        for prefix in ("", _AMD_PREFIX)
        for name in (*_AMD_POWER, "gpu_energy_consumed", "gpu_junction_temperature")
    ),
    f"gpu_energy_consumed or one of {', '.join(_AMD_POWER)}",
    30.0,
)


def _named(found: list[tuple[Row, str]]) -> list[Row]:
    """Let rows of several hosts in one answer have different names."""
    ids = [row.id for row, _ in found]
    for row, host in found:
        if ids.count(row.id) > 1:
            row.id = f"{host}/{row.id}"
    return [row for row, _ in found]


def _set(
    row: Row,
    power: Sample | None,
    energy: Sample | None,
    watts: float,
    joules: float,
    is_blank: Callable[[float], bool],
) -> None:
    for sample in (power, energy):
        if sample is None:
            continue
        value = sample.value
        if is_blank(value) or not math.isfinite(value):
            row.refused.append(Refusal("sentinel", f"{sample.name} is {value:.20g}, which means no value"))
        elif value < 0 or (sample is power and value * watts > _POWER_MAX_W):
            row.refused.append(Refusal("units", f"{sample.name} is {value:.20g}, which no meter can show"))
        elif sample is power:
            row.power_w = value * watts
        else:
            row.energy_j = value * joules
        if sample.timestamp_ms is not None:
            row.timestamp_ms = sample.timestamp_ms


def _matching(samples: Iterable[Sample], metric: Metric | None) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        if metric is None or sample.name != metric.name or not metric.labels.items() <= sample.labels.items():
            continue
        device = "" if metric.device_label is None else sample.labels.get(metric.device_label)
        if device is not None:
            found.setdefault(device, []).append(sample)
    return found


def _other(sample: Sample | None) -> float | None:
    if sample is None or _is_dcgm_blank(sample.value) or not math.isfinite(sample.value):
        return None
    return sample.value


def _is_dcgm_blank(value: float) -> bool:
    return any(low <= value <= high for low, high in _DCGM_BLANKS)


def _is_amd_blank(value: float) -> bool:
    return value == 0 or value in _AMD_BLANKS or value > 2.0**63
