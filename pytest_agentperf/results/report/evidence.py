"""What the files beside a leaderboard add to it: distributions and timelines, reduced to what a page can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.results.artifact import digest
from pytest_agentperf.results.decision import deciding_probes
from pytest_agentperf.results.records_file import read_records
from pytest_agentperf.results.report.distributions import distributions
from pytest_agentperf.results.report.timelines import timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pytest_agentperf.core.leaderboard import Entry, PhaseResult

TIMELINES_MAX = 240
"""Each takes 6 to 10 KB: the deciding probes come first, the others as far as that goes."""


class Evidence:
    """Reads the files of one run's phases; what is missing or not what was measured is told, and left out."""

    def __init__(self, folder: Path | None, *, timelines_max: int = TIMELINES_MAX) -> None:
        self._folder = folder
        self._left = timelines_max
        self.problems: list[str] = []
        self.skipped = 0

    def of(self, entries: Mapping[str, Entry]) -> dict[str, dict[int, dict[str, Any]]]:
        """Return what the files of phases show, by label and number; of all systems the deciding probes come first."""
        deciding = {label: set(_deciding(entry)) for label, entry in entries.items()}
        judged = [
            (phase.phase not in deciding[label], phase.phase, label, phase)
            for label, entry in entries.items()
            for phase in entry.phases
            if phase.verdicts
        ]
        found: dict[str, dict[int, dict[str, Any]]] = {label: {} for label in entries}
        for other, number, label, phase in sorted(judged, key=lambda one: one[:2]):
            if not self._left:
                self.skipped += 1
                continue
            details = self._details(phase, decisive=not other)
            if details:
                found[label][number] = details
                self._left -= 1
        return found

    def _details(self, phase: PhaseResult, *, decisive: bool) -> dict[str, Any]:
        records = self._file(phase, phase.records)
        power = self._file(phase, phase.power.samples)
        server = self._file(phase, phase.server.samples if phase.server else None)
        if records is None and power is None and server is None:
            return {}
        try:
            columns = None if records is None else read_records(records, texts=("failure",))
            found: dict[str, Any] = {"timeline": timeline(phase, columns, _columns(power), _columns(server))}
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            self.problems.append(f"files of phase {phase.phase} cannot be read: {str(error).splitlines()[0]}")
            return {}
        if decisive and columns is not None:
            found["distributions"] = distributions(columns, phase)
        return found

    def _file(self, phase: PhaseResult, name: str | None) -> Path | None:
        """Return the file if it is there and the one that was written."""
        if name is None or self._folder is None:
            return None
        path = self._folder / name
        known = phase.digests.get(name)
        if known is None and not path.resolve().is_relative_to(self._folder.resolve()):
            self.problems.append(f"{name}: neither beside the leaderboard nor named with a digest")
            return None
        try:
            found = digest(path)
        except OSError as error:
            self.problems.append(f"{name}: {error.strerror or error}")
            return None
        if known not in (None, found):
            self.problems.append(f"{name}: it is not the file that was measured")
            return None
        return path


def _columns(path: Path | None) -> Mapping[str, npt.NDArray[Any]] | None:
    """Read a file of readings: numbers, NaN where null, and devices as numbers."""
    if path is None:
        return None
    table = pq.read_table(path)
    found: dict[str, npt.NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            found[name] = column.indices.to_numpy()
        elif name == "t_ns":
            found[name] = column.to_numpy()
        else:
            found[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    assert all(isinstance(values, np.ndarray) for values in found.values())
    return found


def _deciding(entry: Entry) -> Iterator[int]:
    for tier in entry.tiers:
        own = [phase for phase in entry.phases if phase.deployment == tier.deployment]
        yield from (phase.phase for phase in deciding_probes(tier, own) if phase is not None)
