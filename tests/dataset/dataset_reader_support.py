"""What the tests of the readers share: writing small recordings, reading them, breaking them everywhere."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dataset_support import METADATA

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset import write_dataset
from pytest_agentperf.dataset.formats import READERS
from pytest_agentperf.dataset.formats.base import ImportContext, Peek

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data"
NO_DATA = f"the recordings are not at {DATA}"
DEEP = 100_000
JUNK: tuple[Any, ...] = (None, -1e308, "\ud800x", {"type": {}}, [{"type": []}])
"""What a foreign file may have in any place."""


class Imported(NamedTuple):
    """What a reader made of a file."""

    trajectories: list[Trajectory]
    notes: dict[str, int]

    @property
    def only(self) -> Trajectory:
        (found,) = self.trajectories
        return found

    def prompts(self, turn: int) -> list[dict[str, Any]]:
        return [dict(message) for message in self.only.request_messages(self.only.turns[turn])]


def imported(reader: ModuleType, path: Path) -> Imported:
    context = ImportContext()
    trajectories = list(reader.read(path, context))
    return Imported(trajectories, dict(context.notes.counts))


def chosen(path: Path) -> str | None:
    """Return the name of the reader that takes a path."""
    peek = Peek(path)
    return next((reader.NAME for reader in READERS if reader.recognises(peek)), None)


def lines_file(path: Path, *rows: Any, head: str = "") -> Path:
    path.write_text(head + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def json_file(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def broken(value: Any) -> Iterator[Any]:
    """Yield copies of a value with each part of it replaced by each kind of junk, or left out."""
    for place in _places(value):
        for junk in JUNK:
            changed = copy.deepcopy(value)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = junk
            yield changed
        changed = copy.deepcopy(value)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        del parent[place[-1]]
        yield changed


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from _places(inner, (*at, key))


def survives(reader: ModuleType, path: Path) -> bool:
    """Return whether a file was read, having made sure that it was read or refused in one defined way."""
    reader.recognises(Peek(path))
    context = ImportContext()
    try:
        trajectories = list(reader.read(path, context))
    except DatasetError:
        return False
    for trajectory in trajectories:
        for turn in trajectory.turns:
            json.dumps(trajectory.request_messages(turn))
            assert all(message["role"] in _ROLES for message in trajectory.request_messages(turn))
    return True


_ROLES = frozenset(("system", "user", "assistant", "tool"))


def is_storable(trajectories: list[Trajectory], directory: Path) -> None:
    write_dataset(directory, iter(trajectories), METADATA).verify()
