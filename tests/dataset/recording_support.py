"""Reading recordings in tests, and a recording with anything wrong in it."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import trajectory_digest
from pytest_agentperf.dataset.formats import READERS
from pytest_agentperf.dataset.formats.base import ImportContext, Peek
from pytest_agentperf.dataset.importing import find_recordings, read_recordings, reader_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories"
needs_recordings = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not at {DATA}")

WRONG: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e300,
    10**30,
    "",
    "x",
    "\ud800",
    [],
    [None],
    [{}],
    {},
    {"a": []},
)
HOSTILE = (
    b"",
    b"\n",
    b"null",
    b"7",
    b'"text"',
    b"[]",
    b"{}",
    b"[[]]",
    b"[{}]",
    b"{",
    b"\xff\xfe",
    b'{"a": NaN}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" + b"9" * 5_000 + b"]",
)


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


def survives(path: Path, name: str) -> None:
    """Check that a broken recording ends in trajectories or in one DatasetError, and that all readers can look."""
    peek = Peek(path)
    for reader in READERS:
        reader.recognises(peek)
    with contextlib.suppress(DatasetError):
        for trajectory in reader_named(name).read(path, ImportContext()):
            trajectory_digest(trajectory)


def mutations(value: Any) -> Iterator[Any]:
    """Yield copies of a JSON value in which one part is missing or of another type."""
    for place in _places(value):
        for wrong in (*WRONG, _MISSING):
            changed = copy.deepcopy(value)
            holder = changed
            for key in place[:-1]:
                holder = holder[key]
            if wrong is _MISSING:
                del holder[place[-1]]
            else:
                holder[place[-1]] = wrong
            yield changed


_MISSING = object()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from _places(inner, (*place, key))


def survives_all(path: Path, name: str, value: Any, dump: Callable[[Any], str] = json.dumps) -> None:
    """Check every mutation of a recording."""
    for changed in mutations(value):
        # A new file is quicker than one cut to nothing.
        path.unlink(missing_ok=True)
        path.write_text(dump(changed), encoding="utf-8")
        survives(path, name)


def json_lines(rows: list[Any]) -> str:
    """Return rows as JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows)
