"""What the tests of the readers share: writing small recordings, reading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dataset_support import METADATA

from pytest_agentperf.dataset import write_dataset
from pytest_agentperf.dataset.formats import READERS
from pytest_agentperf.dataset.formats.base import ImportContext, Peek

if TYPE_CHECKING:
    from types import ModuleType

    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data"
NO_DATA = f"the recordings are not at {DATA}"
DEEP = 100_000


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


def is_storable(trajectories: list[Trajectory], directory: Path) -> None:
    write_dataset(directory, iter(trajectories), METADATA).verify()
