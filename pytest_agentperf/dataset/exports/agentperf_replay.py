"""Datasets as agentperf-local replays: what was imported from one and not changed comes out as it went in."""

from __future__ import annotations

import json
import math
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.ports import RecordedSource
from pytest_agentperf.dataset.digest import canonical_json
from pytest_agentperf.dataset.exports.replay_rows import replay_rows
from pytest_agentperf.dataset.formats.agentperf_replay import MANIFEST_FILE, NAME
from pytest_agentperf.dataset.formats.agentperf_rows import VERSION, is_relative, same_delay
from pytest_agentperf.dataset.formats.base import safe_id
from pytest_agentperf.dataset.publish import written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory

_MODE = "single_user_agentic_replay"


def write_replay(source: TrajectorySource, directory: Path, *, name: str | None = None) -> None:
    """Write every trajectory of `source` as a replay; raises DatasetError if `directory` exists.

    Where all trajectories of one replay are there and `name` is not given, its manifest is repeated. One trajectory
    is held at a time.
    """
    with written_whole(directory) as built:
        built.mkdir()
        manifest = _Manifest(source.name if name is None else name, renamed=name is not None)
        for trajectory_id in source.ids():
            trajectory = (
                source.load_recorded(trajectory_id)
                if isinstance(source, RecordedSource)
                else source.load(trajectory_id)
            )
            recorded = trajectory.recorded
            known = recorded
            if recorded is not None and (
                recorded.format != NAME or len(recorded.turns) < len(trajectory.turns)
            ):
                known = None
            head = {} if known is None else known.head
            trace = manifest.trace_of(trajectory, head)
            path = built / trace
            path.parent.mkdir(parents=True, exist_ok=True)
            totals = _Totals()
            with path.open("xb") as file:
                for row in replay_rows(trajectory, () if known is None else known.turns):
                    totals.add(row)
                    file.write(_json_line(row, trajectory.id))
            manifest.add(trajectory, head, trace, totals)
        text = json.dumps(manifest.document(), indent=2, ensure_ascii=True, allow_nan=False)
        (built / MANIFEST_FILE).write_text(text + "\n", encoding="ascii", newline="\n")


def _json_line(row: dict[str, Any], trajectory_id: str) -> bytes:
    try:
        return canonical_json(row) + b"\n"
    except DatasetError as error:
        raise DatasetError(error.what, where=f"trajectory {trajectory_id!r}", remedy=error.remedy) from error


class _Totals:
    """What a manifest declares of a trace."""

    def __init__(self) -> None:
        self.model_calls = 0
        self.tool_calls = 0
        self._delays_ms: list[float] = []

    def add(self, row: Mapping[str, Any]) -> None:
        self.model_calls += 1
        self.tool_calls += len(row.get("recorded_tool_calls_after") or ())
        self._delays_ms.append(row["simulated_tool_delay_ms_after"])

    @property
    def delay_ms(self) -> float:
        return math.fsum(self._delays_ms)


class _Manifest:
    """Collects the tasks, and decides at the end whether they are those of one recorded manifest."""

    def __init__(self, name: str, *, renamed: bool) -> None:
        self._name = name
        self._renamed = renamed
        self._tasks: list[tuple[int, dict[str, Any]]] = []
        self._heads: set[bytes] = set()
        self._head: Mapping[str, Any] | None = None
        self._traces: set[str] = {MANIFEST_FILE}

    def trace_of(self, trajectory: Trajectory, head: Mapping[str, Any]) -> str:
        """Return a path for the trace that no other trace has: the recorded one where it is fit for use."""
        recorded = _fields(head.get("task")).get("trace")
        plain = f"traces/{safe_id(trajectory.id)}.jsonl"
        for trace in (recorded, plain, f"traces/{len(self._traces):06}.jsonl"):
            if isinstance(trace, str) and _is_fit(trace) and trace.casefold() not in self._traces:
                self._traces.add(trace.casefold())
                return trace
        raise DatasetError(f"two traces at {plain}", where=f"trajectory {trajectory.id!r}")

    def add(self, trajectory: Trajectory, head: Mapping[str, Any], trace: str, totals: _Totals) -> None:
        """Take a trajectory's task."""
        task = dict(_fields(head.get("task")))
        declared_ms = task.get("total_recorded_tool_delay_ms")
        task.setdefault("task_id", trajectory.id)
        task.update(
            task_id=trajectory.id,
            trace=trace,
            model_calls=totals.model_calls,
            tool_calls=totals.tool_calls,
        )
        if not (isinstance(declared_ms, int | float) and same_delay(totals.delay_ms, declared_ms)):
            task["total_recorded_tool_delay_ms"] = totals.delay_ms
        position = head.get("position")
        self._tasks.append((position if isinstance(position, int) else len(self._tasks), task))
        whole = {"manifest": head.get("manifest"), "tasks": head.get("tasks")}
        self._heads.add(canonical_json(whole))
        self._head = whole

    def document(self) -> dict[str, Any]:
        """Return `manifest.json`."""
        if not self._tasks:
            raise DatasetError(
                "a replay needs a trajectory", where=self._name, remedy="export a dataset that has some"
            )
        if len(self._heads) == 1 and not self._renamed and self._head is not None:
            manifest = self._head["manifest"]
            if isinstance(manifest, dict) and self._head["tasks"] == len(self._tasks):
                tasks = [task for _, task in sorted(self._tasks, key=lambda pair: pair[0])]
                return {**manifest, "tasks": tasks}
        return {
            "name": self._name,
            "source": "pytest-agentperf",
            "mode": _MODE,
            "version": VERSION,
            "tasks": [task for _, task in self._tasks],
        }


def _fields(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_fit(trace: str) -> bool:
    path = PurePosixPath(trace)
    # Under a folder of its own, so that no trace can be taken for the manifest or stand in another's way.
    return is_relative(trace) and len(path.parts) == 2 and path.suffix == ".jsonl" and len(trace) < 240
