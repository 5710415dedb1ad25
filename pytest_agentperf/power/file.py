"""Readings that another tool writes to a file, followed while it grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pytest_agentperf.clock import monotonic_ns, wall_clock_offset_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.power.file_records import RECORD_CHARS_MAX, Format, NotARecord, Records, detect
from pytest_agentperf.power.problem_log import ProblemLog
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.config.power import FilePower
    from pytest_agentperf.core.power import DeviceState, PowerProblem
    from pytest_agentperf.power.rows import Row

_HEAD_BYTES = 4 * 2**20
"""How much of a file is read to find its devices."""
_CHUNK_BYTES = 4 * 2**20
"""How much one read takes, so that a long file delays none."""
_FUTURE_S = 5.0
_SILENT_PERIODS = 2.5


class FileReader:
    """A `PowerReader` of one file. Its wall-clock times become monotonic by the offset at opening."""

    def __init__(self, config: FilePower) -> None:
        self._config = config
        self._path = Path(config.path)
        self._problems = ProblemLog()
        self._file: BinaryIO | None = None
        self._format: Format | None = None
        self._rest = b""
        self._record = 0
        self._offset_ns = 0
        self._grown_ns = 0

    def open(self) -> PowerSource:
        """Find the format and the devices; the tool that writes must have begun."""
        try:
            return self._open()
        except PowerError:
            self.close()
            raise

    def _open(self) -> PowerSource:
        self._offset_ns, off_by_ns = wall_clock_offset_ns()
        try:
            head = self._begin()
        except (OSError, NotARecord) as error:
            said = error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)
            raise PowerError(
                said, where=self._config.path, remedy="start the tool that writes it before the run"
            ) from None
        devices: dict[str, Row] = {}
        refused: str | None = None
        for record in self._cut(head):
            parsed = self._parse(record)
            if isinstance(parsed, str):
                refused = refused or parsed
                continue
            for row in parsed.rows:
                devices.setdefault(self._device(row), row)
        if not devices:
            raise PowerError(
                refused or "has no record yet",
                where=self._config.path,
                remedy="start the tool that writes it before the run, and name its columns in power",
            )
        # All of it is read again, as readings.
        self._begin()
        assert self._format is not None
        notes = [f"wall-clock times mapped to the monotonic clock at the start, to {off_by_ns / 1e3:.3g} µs"]
        return PowerSource(
            source=f"file {self._path.name} ({self._format.name})",
            scope=self._config.scope,
            measured=True,
            update_period_s=self._config.update_period_s,
            devices=tuple(row.device(device, None) for device, row in devices.items()),
            notes=(*notes, *([self._format.note] if self._format.note else [])),
        )

    def read(self) -> Iterator[Reading]:
        """Return what was written since the last call."""
        if self._file is None:
            return
        try:
            self._follow()
            data = self._file.read(_CHUNK_BYTES)
        except (OSError, NotARecord) as error:
            self._problems.add("unreachable", None, f"{self._config.path}: {error}")
            return
        now_ns = monotonic_ns()
        if data:
            self._grown_ns = now_ns
        elif (
            silent_s := (now_ns - self._grown_ns) / NS_PER_S
        ) > 1 + _SILENT_PERIODS * self._config.update_period_s:
            text = f"{self._config.path} has not grown for {silent_s:.0f} s: does its tool still run?"
            self._problems.add("no_readings", None, text)
        for record in self._cut(data):
            yield from self._readings(record, now_ns)

    def states(self) -> Sequence[DeviceState]:
        """Return nothing: a file tells of power only."""
        return ()

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return what went wrong since the last call."""
        return self._problems.take()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> bytes:
        """Open the file, and return how it goes on after what tells its format."""
        self.close()
        self._file = self._path.open("rb")
        self._grown_ns = monotonic_ns()
        self._rest, self._record = b"", 0
        head = self._file.read(_HEAD_BYTES)
        try:
            text = head.decode("utf-8-sig", errors="ignore" if len(head) == _HEAD_BYTES else "strict")
        except UnicodeDecodeError:
            raise NotARecord("is no UTF-8 text") from None
        self._format, skip = detect(text, self._config)
        begin = len(head) - len(head.removeprefix(b"\xef\xbb\xbf")) + len(text[:skip].encode())
        self._record = 1 if skip else 0
        self._file.seek(begin)
        return head[begin:]

    def _follow(self) -> None:
        """Begin again where the file was replaced or cut."""
        assert self._file is not None
        here, there = os.fstat(self._file.fileno()), self._path.stat()
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino) or there.st_size < self._file.tell():
            text = f"{self._config.path} was replaced or cut: what stood there is lost"
            self._problems.add("no_readings", None, text)
            self._begin()

    def _cut(self, data: bytes) -> Iterator[str]:
        """Cut into records; the last one may still be being written."""
        assert self._format is not None
        end = self._format.end.encode()
        *records, self._rest = (self._rest + data).split(end)
        if len(self._rest) > RECORD_CHARS_MAX:
            self._rest = b""
        for record in records:
            self._record += 1
            whole = record + end if self._format.end != "\n" else record
            if whole.strip():
                yield whole.decode("utf-8", errors="replace")

    def _parse(self, record: str) -> Records | str:
        assert self._format is not None
        try:
            return self._format.parse(record)
        except NotARecord as error:
            return f"record {self._record} {error}"

    def _readings(self, record: str, now_ns: int) -> Iterator[Reading]:
        parsed = self._parse(record)
        if isinstance(parsed, str):
            self._problems.add("no_readings", None, f"{self._config.path}: {parsed}")
            return
        t_ns = round(parsed.unix_s * NS_PER_S) - self._offset_ns
        if t_ns > now_ns + _FUTURE_S * NS_PER_S:
            ahead_s = (t_ns - now_ns) / NS_PER_S
            ahead = f"record {self._record} is {ahead_s:,.0f} s in the future"
            text = f"{self._config.path}: {ahead}: are its clock and its zone right?"
            self._problems.add("units", None, text)
            return
        if parsed.declared is not None and parsed.declared > len(parsed.rows):
            text = f"{self._config.path}: shows {len(parsed.rows)} of the {parsed.declared} GPUs that its host has"
            self._problems.add("too_few_devices", None, text)
        for row in parsed.rows:
            device = self._device(row)
            for code, said in row.refused:
                text = f"device {device}: {said} ({self._config.path}, record {self._record})"
                self._problems.add(code, device, text)
            if row.values.is_any:
                yield Reading(t_ns, device, power_w=row.power_w, energy_j=row.energy_j)

    def _device(self, row: Row) -> str:
        return row.id or self._path.name
