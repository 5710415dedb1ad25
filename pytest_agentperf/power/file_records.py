"""What other tools write, a record a line or a document: their times, devices, power and energy."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pytest_agentperf.power.rows import Refusal, Row
from pytest_agentperf.power.smi_output import NotSmi, is_rocm, parse_nvidia_xml, parse_rocm

if TYPE_CHECKING:
    from pytest_agentperf.config.power import FilePower

_UNIT = re.compile(r"^(.*?)\s*\[(.*)\]$")
_DEFAULTS = {"device", "power_w"}
_SMI_TIME = "timestamp"
_SMI_DEVICES = ("uuid", "gpu_uuid", "index", "pci.bus_id", "gpu_bus_id")
_SMI_POWER = ("power.draw.instant", "power.draw", "power.draw.average")
_SMI_END = "</nvidia_smi_log>"
RECORD_CHARS_MAX = 4 * 2**20


class Records(NamedTuple):
    """All that one record says."""

    unix_s: float
    rows: list[Row]
    declared: int | None = None


class NotARecord(ValueError):
    """Why a record cannot be used."""


Parse = Callable[[str], Records]


class Format(NamedTuple):
    """How a file is cut into records and read."""

    name: str
    end: str
    """What ends a record."""
    parse: Parse
    note: str | None = None


def detect(head: str, config: FilePower) -> tuple[Format, int]:
    """Return the format of a file from how it begins, and where its records begin; raises NotARecord."""
    if head.lstrip().startswith("<"):
        return Format("nvidia-smi -q -x", _SMI_END, _nvidia_xml, _LOCAL_TIME), 0
    if head.lstrip().startswith("{"):
        return Format("JSONL", "\n", lambda line: _json(line, config)), 0
    header, found, _ = head.partition("\n")
    if not found:
        raise NotARecord("has no whole line yet")
    columns = [column.strip() for column in next(csv.reader([header]), [])]
    parse, name, note = _csv(columns, config)
    return Format(name, "\n", parse, note), len(header) + 1


_LOCAL_TIME = "nvidia-smi writes local time without a zone: taken as this machine's"


def _csv(columns: list[str], config: FilePower) -> tuple[Parse, str, str | None]:
    if config.time_column not in columns and _SMI_TIME in columns:
        return _smi_csv(columns), "nvidia-smi --query-gpu", _LOCAL_TIME
    wanted = [config.time_column, config.device_column, config.power_w_column, config.energy_j_column]
    # What is only asked for by default may be missing; a file without any value is none.
    missing = [name for name in wanted if name and name not in columns and name not in _DEFAULTS]
    if missing or not {config.power_w_column, config.energy_j_column} & set(columns):
        raise NotARecord(
            f"has no column {next(iter(missing), config.power_w_column)!r}; it has {', '.join(columns[:20])[:200]!r}"
        )

    return lambda line: _record(_cells(line, columns), config), "CSV", None


def _smi_csv(columns: list[str]) -> Parse:
    bare = [found[1] if (found := _UNIT.match(column)) else column for column in columns]
    device = next((name for name in _SMI_DEVICES if name in bare), None)
    power = next((name for name in _SMI_POWER if name in bare), None)
    if power is None:
        raise NotARecord(f"has no column power.draw; it has {', '.join(columns[:20])[:200]!r}")
    unit = _UNIT.match(columns[bare.index(power)])
    if unit is not None and unit[2] != "W":
        raise NotARecord(f"shows {power} in {unit[2]!r}, not in W")

    def parse(line: str) -> Records:
        cells = _cells(line, bare)
        try:
            local = datetime.strptime(cells[_SMI_TIME], "%Y/%m/%d %H:%M:%S.%f")
        except ValueError:
            raise NotARecord(f"has the time {cells[_SMI_TIME][:40]!r}") from None
        row = Row(cells[device] if device else "", name=cells.get("name"), driver=cells.get("driver_version"))
        row.uuid = cells.get("uuid") or cells.get("gpu_uuid")
        row.power_w = _value(cells[power].removesuffix("W").strip(), power, row)
        return Records(local.astimezone(UTC).timestamp(), [row])

    return parse


def _nvidia_xml(text: str) -> Records:
    try:
        snapshot = parse_nvidia_xml(text)
    except NotSmi as error:
        raise NotARecord(str(error)) from None
    if snapshot.time is None:
        raise NotARecord("has no timestamp")
    return Records(snapshot.time.astimezone(UTC).timestamp(), snapshot.rows, snapshot.declared)


def _json(line: str, config: FilePower) -> Records:
    try:
        record = orjson.loads(line)
    except ValueError:
        raise NotARecord("is no JSON") from None
    if not isinstance(record, dict):
        raise NotARecord("is no JSON object")
    if is_rocm(record):
        if config.time_column not in record:
            raise NotARecord(
                f"is of rocm-smi, which writes no time: add {config.time_column!r} to each record"
            )
        return Records(_unix_s(record[config.time_column]), parse_rocm(record).rows)
    return _record(record, config)


def _record(record: dict[str, Any], config: FilePower) -> Records:
    if config.time_column not in record:
        raise NotARecord(f"has no {config.time_column!r}")
    device = record.get(config.device_column) if config.device_column else None
    if isinstance(device, dict | list | float) or (device is None and config.device_column in record):
        raise NotARecord(f"has the device {str(device)[:40]!r}")
    row = Row("" if device is None else str(device))
    if config.power_w_column in record:
        row.power_w = _value(record[config.power_w_column], config.power_w_column, row)
    if config.energy_j_column in record:
        row.energy_j = _value(record[config.energy_j_column], config.energy_j_column, row)
    if row.power_w is None and row.energy_j is None and not row.refused:
        raise NotARecord(f"has neither {config.power_w_column!r} nor {config.energy_j_column!r}")
    return Records(_unix_s(record[config.time_column]), [row])


def _cells(line: str, columns: list[str]) -> dict[str, str]:
    try:
        cells = next(csv.reader([line]), [])
    except csv.Error as error:
        raise NotARecord(f"is no CSV: {error}") from None
    if len(cells) != len(columns):
        raise NotARecord(f"has {len(cells)} columns, the header {len(columns)}")
    return {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}


def _value(said: object, column: str | None, row: Row) -> float | None:
    try:
        value = (
            float(said) if isinstance(said, str | int | float) and not isinstance(said, bool) else math.nan
        )
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        row.refused.append(Refusal("sentinel", f"{column} is {str(said)[:40]!r}, which is no value"))
    elif value < 0:
        row.refused.append(Refusal("units", f"{column} is {value:g}, which no meter can show"))
    else:
        return value
    return None


def _unix_s(said: object) -> float:
    if isinstance(said, str):
        try:
            seconds = float(said)
        except ValueError:
            return _iso(said)
    elif isinstance(said, int | float) and not isinstance(said, bool):
        seconds = float(said)
    else:
        raise NotARecord(f"has the time {str(said)[:40]!r}")
    if not 0 < seconds < 1e11:
        raise NotARecord(f"has the time {seconds:g}: seconds since the epoch are needed, not milliseconds")
    return seconds


def _iso(said: str) -> float:
    try:
        when = datetime.fromisoformat(said.strip())
    except ValueError:
        raise NotARecord(
            f"has the time {said[:40]!r}: seconds since the epoch or ISO 8601 are needed"
        ) from None
    if when.tzinfo is None:
        raise NotARecord(f"has the time {said[:40]!r} without an offset: add Z or +02:00")
    return when.timestamp()
