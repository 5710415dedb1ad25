"""Replays as agentperf-local writes them: `manifest.json`, and one JSONL trace per task with full requests.

The format's version 1: every line of a trace is one model turn and repeats the whole history. Histories are
not append-only (a status line may be replaced on every turn), delays are in milliseconds, there is no
reasoning text.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import Recorded, Trajectory
from pytest_agentperf.dataset.digest import source_digest
from pytest_agentperf.dataset.formats.agentperf_rows import (
    ELSEWHERE,
    MALFORMED,
    Manifest,
    Row,
    Task,
    besides,
    check_version,
    is_relative,
    request,
    same_delay,
)
from pytest_agentperf.dataset.formats.base import Peek
from pytest_agentperf.dataset.histories import TrajectoryBuilder
from pytest_agentperf.dataset.reading import (
    MAX_JSON_BYTES,
    is_file,
    parse_json,
    read_document,
    read_lines,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.dataset.formats.base import ImportContext

NAME = "agentperf-replay"
TITLE = "agentperf-local replay (manifest.json and traces/*.jsonl)"

MANIFEST_FILE = "manifest.json"
_DAMAGED = "the replay is damaged or incomplete: export or fetch it again"


def recognises(peek: Peek) -> bool:
    """Say whether a folder holds a manifest of tasks."""
    if MANIFEST_FILE not in peek.names:
        return False
    manifest = Peek(peek.path / MANIFEST_FILE).document
    return isinstance(manifest, dict) and "tasks" in manifest


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the tasks' trajectories; delays are the recording's own."""
    replay = ReplayDataset(path)
    yield from map(replay.load_recorded, replay.ids())


class _Entry(NamedTuple):
    task: Task
    trace: Path
    where: str
    position: int


class ReplayDataset:
    """An agentperf-local replay directory; a trace is read when its trajectory is asked for, and not kept.

    `digest` reads every trace once: for a large replay, write a dataset in the internal format.
    """

    def __init__(self, directory: Path, *, max_row_bytes: int = MAX_JSON_BYTES) -> None:
        self.directory = directory
        self._max_row_bytes = max_row_bytes
        path = directory / MANIFEST_FILE
        value = read_document(path)
        check_version(value, where=str(path))
        self._manifest = validate(Manifest, value, where=str(path), remedy=MALFORMED)
        self._fields: dict[str, Any] = value
        self._entries: dict[str, _Entry] = {}
        for i, task in enumerate(self._manifest.tasks):
            where = f"{path}: tasks[{i}]"
            if task.task_id in self._entries:
                raise DatasetError(f"two tasks named {task.task_id!r}", where=where, remedy=_DAMAGED)
            self._entries[task.task_id] = _Entry(
                task, _trace_path(directory, task.trace, where=where), where, i
            )

    @property
    def name(self) -> str:
        """Return the replay's name."""
        return self._manifest.name

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of the content, computed by reading all of it once."""
        return source_digest(self)

    def ids(self) -> Sequence[str]:
        """Return the task ids, sorted."""
        return tuple(sorted(self._entries))

    def load(self, trajectory_id: str) -> Trajectory:
        """Read one task's trace; raises DatasetError naming file and line if it is unknown or broken."""
        return self._load(trajectory_id, None)

    def load_recorded(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory with everything else that manifest and trace say about it."""
        rows: list[dict[str, Any]] = []
        trajectory = self._load(trajectory_id, rows)
        tasks = self._fields["tasks"]
        position = self._entries[trajectory_id].position
        head = {
            "manifest": {**self._fields, "tasks": ELSEWHERE},
            "tasks": len(tasks),
            "position": position,
            "task": tasks[position],
        }
        return replace(trajectory, recorded=Recorded(NAME, head, tuple(rows)))

    def _load(self, trajectory_id: str, rest: list[dict[str, Any]] | None) -> Trajectory:
        entry = self._entries.get(trajectory_id)
        if entry is None:
            raise DatasetError(
                f"no task {trajectory_id!r}",
                where=str(self.directory / MANIFEST_FILE),
                remedy="use an id that ids() lists",
            )
        builder = TrajectoryBuilder(trajectory_id)
        position: dict[str, int] = {}
        model_calls = tool_calls = 0
        delays_ms: list[float] = []
        for line in read_lines(entry.trace, max_line_bytes=self._max_row_bytes):
            where = f"{entry.trace}:{line.number}"
            value = parse_json(line.data, where=str(entry.trace), first_line=line.number)
            row = _check_row(value, entry, position, where=where)
            try:
                builder.add(request(row))
            except DatasetError as error:
                raise DatasetError(error.what, where=where, remedy=error.remedy) from error
            if rest is not None:
                rest.append(besides(value))
            model_calls += 1
            tool_calls += len(row.recorded_tool_calls_after)
            delays_ms.append(row.simulated_tool_delay_ms_after)
        _check_totals(entry, model_calls, tool_calls, math.fsum(delays_ms))
        return builder.build()


def _trace_path(directory: Path, trace: str, *, where: str) -> Path:
    # Judged by its text, not resolved: download caches legitimately hold symlinks to their blobs.
    if not is_relative(trace):
        raise DatasetError(
            f"trace {trace!r} leads out of the replay's directory",
            where=where,
            remedy="a trace path must be relative",
        )
    path = directory / PurePosixPath(trace)
    if not is_file(path):
        raise DatasetError(f"its trace {path} is missing", where=where, remedy=_DAMAGED)
    return path


def _check_row(value: Any, entry: _Entry, position: dict[str, int], *, where: str) -> Row:
    check_version(value, where=where)
    row = validate(Row, value, where=where, remedy=MALFORMED)
    if row.task_id != entry.task.task_id:
        raise DatasetError(
            f"row of task {row.task_id!r} in the trace of {entry.task.task_id!r}",
            where=where,
            remedy=_DAMAGED,
        )
    last = position.get(row.conversation_id, -1)
    if row.conversation_idx <= last:
        raise DatasetError(
            f"turn {row.conversation_idx} follows turn {last}: rows are not in replay order",
            where=where,
            remedy=_DAMAGED,
        )
    position[row.conversation_id] = row.conversation_idx
    return row


def _check_totals(entry: _Entry, model_calls: int, tool_calls: int, delay_ms: float) -> None:
    task = entry.task
    declared_ms = task.total_recorded_tool_delay_ms
    for what, declared, found, same in (
        ("model_calls", task.model_calls, model_calls, task.model_calls == model_calls),
        ("tool_calls", task.tool_calls, tool_calls, task.tool_calls == tool_calls),
        ("total_recorded_tool_delay_ms", declared_ms, delay_ms, same_delay(delay_ms, declared_ms)),
    ):
        if not same:
            raise DatasetError(
                f"declares {what} {declared}, the rows of {entry.trace} have {found}",
                where=entry.where,
                remedy=_DAMAGED,
            )
