"""The run directory: records as phases end, the leaderboard last; complete files only, never overwritten."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pytest_agentperf.results.files import make_private, new_file
from pytest_agentperf.results.power_file import write_power
from pytest_agentperf.results.records_file import write_records
from pytest_agentperf.results.server_file import write_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_agentperf.core.journal import PhaseStarted
    from pytest_agentperf.core.leaderboard import Leaderboard, PhaseResult
    from pytest_agentperf.core.phase_power import PhasePower
    from pytest_agentperf.core.power_series import PowerSeries
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.server_metrics import ServerSeries, ServerSummary

REHEARSAL = "-rehearsal"
"""Ends the name of every file and folder that a rehearsal leaves behind, so that none is taken for a measurement."""


def leaderboard_name(*, rehearsal: bool) -> str:
    """Return the name of the result document."""
    return f"leaderboard{REHEARSAL if rehearsal else ''}.json"


def store_phase(
    folder: Path,
    result: PhaseResult,
    columns: RequestColumns,
    power: PowerSeries | None = None,
    facility: Sequence[PowerSeries] = (),
    *,
    server: ServerSeries | None = None,
    rehearsal: bool = False,
) -> PhaseResult:
    """Write a phase's records and readings below `folder`; returns the result with their names and digests."""
    name = f"{result.phase:03d}-{result.kind}-{result.n_agents}"
    if result.kind == "warmup" and result.attempt:
        name += f"-{result.attempt}"
    if rehearsal:
        name += REHEARSAL
    # Apart, as pandas reads a folder of records whole.
    records = folder / "requests" / f"{name}.parquet"
    make_private(records.parent)
    stored = result.model_copy(
        update={
            "records": str(records.relative_to(folder)),
            "power": _store_power(folder, name, result.power, power, facility),
            "server": _store_server(folder, name, result.server, server),
        }
    )
    write_records(records, stored, columns)
    return stored.model_copy(update={"digests": {file: digest(folder / file) for file in files_of(stored)}})


def store_broken_off(folder: Path, phase: PhaseStarted, columns: RequestColumns) -> dict[str, str]:
    """Write what was recorded of a phase that did not come to its end; returns the file's digest by its name."""
    # Apart: who reads all requests of a run must not take these for measured ones.
    name = f"{phase.phase:03d}-{phase.kind}-{phase.n_agents}" + (f"-{phase.attempt}" if phase.attempt else "")
    path = folder / "broken-off" / f"{name}.parquet"
    make_private(path.parent)
    write_records(path, None, columns)
    return {str(path.relative_to(folder)): digest(path)}


def files_of(result: PhaseResult) -> list[str]:
    """Return the names of a phase's files, relative to the run directory."""
    server = None if result.server is None else result.server.samples
    meters = (meter.samples for meter in result.power.facility)
    names = (result.records, result.power.samples, *meters, server)
    return [name for name in names if name is not None]


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _store_power(
    folder: Path, name: str, result: PhasePower, power: PowerSeries | None, facility: Sequence[PowerSeries]
) -> PhasePower:
    """Write the readings of every source that has some: accelerators and facility apart, never to be summed."""

    def store(series: PowerSeries | None, place: str, file: str) -> str | None:
        if series is None or not series.t_ns.size:
            return None
        path = folder / place / f"{file}.parquet"
        make_private(path.parent)
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
    make_private(path.parent)
    write_server(path, series)
    return summary.model_copy(update={"samples": str(path.relative_to(folder))})


def write_leaderboard(folder: Path, leaderboard: Leaderboard, *, replace: bool = False) -> Path:
    """Write the result document: complete, or not at all; `replace` that of an earlier part of the same run."""
    make_private(folder)
    path = folder / leaderboard_name(rehearsal=any(entry.rehearsal for entry in leaderboard.entries))
    with new_file(path, replace=replace) as file:
        file.write((leaderboard.model_dump_json(by_alias=True, indent=2) + "\n").encode())
    return path
