"""The run directory: records as phases end, the leaderboard last; complete files only, never overwritten."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

from pytest_agentperf import __version__
from pytest_agentperf.results.files import new_file
from pytest_agentperf.results.power_file import write_power
from pytest_agentperf.results.records_file import write_records
from pytest_agentperf.results.server_file import write_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from pytest_agentperf.core.leaderboard import Leaderboard, PhaseResult
    from pytest_agentperf.core.phase_power import PhasePower
    from pytest_agentperf.core.power import PowerSeries
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.server_metrics import ServerSeries, ServerSummary

LEADERBOARD = "leaderboard.json"
_PACKAGES = ("httptools", "httpx", "numpy", "orjson", "pyarrow", "pydantic", "pytest", "pytest-xdist")


def store_phase(
    folder: Path,
    result: PhaseResult,
    columns: RequestColumns,
    power: PowerSeries | None = None,
    facility: Sequence[PowerSeries] = (),
    *,
    server: ServerSeries | None = None,
) -> PhaseResult:
    """Write a phase's records, readings and result below `folder`; returns the result with the files' names.

    The result is in the leaderboard, too; this copy of it outlives a run that is killed before it writes one.
    """
    name = f"{result.phase:03d}-{result.kind}-{result.n_agents}"
    # Apart, as pandas reads a folder of records whole.
    records, summary = folder / "requests" / f"{name}.parquet", folder / "phases" / f"{name}.json"
    for path in (records, summary):
        path.parent.mkdir(parents=True, exist_ok=True)
    stored = result.model_copy(
        update={
            "records": str(records.relative_to(folder)),
            "power": _store_power(folder, name, result.power, power, facility),
            "server": _store_server(folder, name, result.server, server),
        }
    )
    write_records(records, stored, columns)
    _write_json(summary, stored)
    return stored


def _store_power(
    folder: Path, name: str, result: PhasePower, power: PowerSeries | None, facility: Sequence[PowerSeries]
) -> PhasePower:
    """Write the readings of every source that has some: accelerators and facility apart, never to be summed."""

    def store(series: PowerSeries | None, place: str, file: str) -> str | None:
        if series is None or not series.t_ns.size:
            return None
        path = folder / place / f"{file}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_power(path, series)
        return str(path.relative_to(folder))

    meters = tuple(
        meter.model_copy(update={"samples": store(series, "facility", f"{name}-{number}")})
        for number, (meter, series) in enumerate(zip(result.facility, facility, strict=True))
    )
    return result.model_copy(update={"samples": store(power, "power", name), "facility": meters})


def _store_server(
    folder: Path, name: str, summary: ServerSummary | None, series: ServerSeries | None
) -> ServerSummary | None:
    if summary is None or series is None or not series.t_ns.size:
        return summary
    path = folder / "server" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_server(path, series)
    return summary.model_copy(update={"samples": str(path.relative_to(folder))})


def write_leaderboard(folder: Path, leaderboard: Leaderboard) -> Path:
    """Write `leaderboard.json`: complete and new, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LEADERBOARD
    _write_json(path, leaderboard)
    return path


def _write_json(path: Path, model: BaseModel) -> None:
    with new_file(path) as file:
        file.write((model.model_dump_json(by_alias=True, indent=2) + "\n").encode())


def software_versions() -> dict[str, str]:
    """Return the versions of what could change a number."""
    versions = {"pytest-agentperf": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**versions, "platform": platform.platform(terse=True)}
