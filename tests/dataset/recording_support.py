"""Reading recordings in tests, and a recording with anything wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.importing import find_recordings, read_recordings

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories"
needs_recordings = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not at {DATA}")


class Found(NamedTuple):
    """What a reader made of a path."""

    trajectories: list[Trajectory]
    notes: dict[str, int]


def read(path: Path, name: str) -> Found:
    """Read a path that the named reader must recognise before all others."""
    context = ImportContext()
    recordings = list(find_recordings([path], unknown=lambda file: pytest.fail(f"unknown: {file}")))
    assert {recording.reader.NAME for recording in recordings} == {name}
    return Found(list(read_recordings(recordings, context)), dict(context.notes.counts))


def one(path: Path, name: str) -> Trajectory:
    """Read a path that holds one trajectory."""
    (trajectory,) = read(path, name).trajectories
    return trajectory


def prompts(trajectory: Trajectory) -> list[list[Any]]:
    """Return every request's messages."""
    return [list(trajectory.request_messages(turn)) for turn in trajectory.turns]


def calls(trajectory: Trajectory) -> list[list[tuple[str | None, str, float | None]]]:
    """Return every turn's calls, durations in milliseconds."""
    return [
        [(c.id, c.name, None if c.duration_ns is None else c.duration_ns / 1e6) for c in turn.tool_calls]
        for turn in trajectory.turns
    ]


def counts(trajectory: Trajectory) -> list[tuple[int | None, int | None]]:
    """Return every turn's tokens."""
    return [(turn.prompt_tokens, turn.output_tokens) for turn in trajectory.turns]


def json_lines(rows: list[Any]) -> str:
    """Return rows as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows)
