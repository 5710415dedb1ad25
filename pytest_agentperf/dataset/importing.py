"""From any agent's recordings to trajectories: finds them, chooses the reader, gives every trajectory its own id."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import READERS
from pytest_agentperf.dataset.formats.base import Peek

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Reader


class Recording(NamedTuple):
    """A path that a reader recognised."""

    path: Path
    reader: Reader


def reader_named(name: str) -> Reader:
    """Return the reader that `--format` names; raises DatasetError listing all."""
    for reader in READERS:
        if name == reader.NAME:
            return reader
    raise DatasetError(
        f"no recording format named {name!r}",
        remedy="use one of " + ", ".join(reader.NAME for reader in READERS),
    )


def find_recordings(
    paths: Iterable[Path], *, reader: Reader | None = None, unknown: Callable[[Path], None]
) -> Iterator[Recording]:
    """Yield the recordings at `paths`; folders that are none themselves are searched, in order of names.

    Raises DatasetError where a given path is no recording, and calls `unknown` for files inside folders that are none.
    """
    for path in paths:
        if not path.exists():
            raise DatasetError(
                "does not exist", where=str(path), remedy="give a recording or a folder of some"
            )
        if reader is not None:
            yield Recording(path, reader)
            continue
        found = False
        for recording in _search(path, unknown):
            found = True
            yield recording
        if not found:
            raise DatasetError(
                "no recording in a known format",
                where=str(path),
                remedy="name the format by --format; known are " + ", ".join(r.NAME for r in READERS),
            )


def _search(path: Path, unknown: Callable[[Path], None]) -> Iterator[Recording]:
    peek = Peek(path)
    for reader in READERS:
        if reader.recognises(peek):
            yield Recording(path, reader)
            return
    if not peek.is_dir:
        unknown(path)
        return
    for entry in sorted(path.iterdir()):
        # A link to a folder may lead back up.
        if not entry.name.startswith(".") and not (entry.is_symlink() and entry.is_dir()):
            yield from _search(entry, unknown)


def read_recordings(
    recordings: Iterable[Recording],
    context: ImportContext,
    *,
    broken: Callable[[Recording, DatasetError], None] | None = None,
) -> Iterator[Trajectory]:
    """Yield every trajectory under an id of its own; recordings that cannot be read go to `broken`, or raise."""
    taken: dict[str, int] = {}
    for recording in recordings:
        try:
            for trajectory in recording.reader.read(recording.path, context):
                key = trajectory.id.casefold()
                taken[key] = count = taken.get(key, 0) + 1
                yield trajectory if count == 1 else replace(trajectory, id=f"{trajectory.id}+{count}")
        except DatasetError as raised:
            # Not all that can fail knows where it is.
            where = raised.where or str(recording.path)
            error = DatasetError(raised.what, where=where, remedy=raised.remedy)
            if broken is None:
                raise error from raised
            broken(recording, error)
