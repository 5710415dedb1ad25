"""Files that every load host needs: sent once, kept there by their digest, and checked against it each time.

    controller → worker   ("wanted", digest, folder) · ("file", name, bytes) · ("whole",)
    worker → controller   ("kept", path or None) · ("got",) for each part · ("kept", path) at the end

`folder` is where the host keeps them, empty for its own cache: hosts that share a folder are sent them once together.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.config.bundled import cache_directory
from pytest_agentperf.core.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PART_BYTES = 4 << 20


class Parcel:
    """Files of this machine, under the names that they have on every host."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(sorted(files.items()))
        self.digest = _digest(self._files)

    def parts(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield `file` frames; an empty file is one as well."""
        for name, path in self._files.items():
            with path.open("rb") as file:
                part = file.read(PART_BYTES)
                while True:
                    yield ("file", name, part)
                    if not (part := file.read(PART_BYTES)):
                        break


class Shelf:
    """Where a host keeps parcels."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else cache_directory() / "load"

    def find(self, digest: str) -> str | None:
        """Return the folder of a parcel that is there whole, None if there is none."""
        kept = self._folder / digest
        try:
            files = {path.name: path for path in kept.iterdir()}
            return str(kept) if _digest(dict(sorted(files.items()))) == digest else None
        except OSError:
            return None

    def begin(self, digest: str) -> Delivery:
        """Return what takes a parcel's parts; raises LoadError where there is no room."""
        return Delivery(self._folder, digest)


class Delivery:
    """A parcel on its way: in a folder of its own until it is whole."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._place = folder / digest
        self._digest = digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._part = Path(tempfile.mkdtemp(prefix=f".{digest[:16]}-", dir=folder))
        except OSError as error:
            raise self._no_room(error) from None

    def take(self, name: str, data: bytes) -> None:
        """Append to a file; raises LoadError where there is no room."""
        if Path(name).name != name:
            raise LoadError(f"{name!r} is no file's name", where=str(self._part), remedy="report it")
        try:
            with (self._part / name).open("ab") as file:
                file.write(data)
        except OSError as error:
            shutil.rmtree(self._part, ignore_errors=True)
            raise self._no_room(error) from None

    def finish(self) -> str:
        """Return the folder, once everything is there; raises LoadError if it is not what was promised."""
        files = {path.name: path for path in self._part.iterdir()}
        if _digest(dict(sorted(files.items()))) != self._digest:
            shutil.rmtree(self._part, ignore_errors=True)
            raise LoadError(
                "files arrived changed", where=str(self._place), remedy="see to this host's memory and disk"
            )
        shelf = Shelf(str(self._place.parent))
        try:
            # Another host of the same folder may have been first, and a run may have mapped what is there.
            if shelf.find(self._digest) is None:
                shutil.rmtree(self._place, ignore_errors=True)
                self._part.rename(self._place)
        except OSError as error:
            if shelf.find(self._digest) is None:
                raise self._no_room(error) from None
        finally:
            shutil.rmtree(self._part, ignore_errors=True)
        return str(self._place)

    def drop(self) -> None:
        """Remove what came of a parcel that will not be whole."""
        shutil.rmtree(self._part, ignore_errors=True)

    def _no_room(self, error: OSError) -> LoadError:
        return LoadError(
            f"files cannot be kept there: {error.strerror or error}",
            where=str(self._place.parent),
            remedy="make room there, or name another folder with //cache=FOLDER",
        )


def _digest(files: Mapping[str, Path]) -> str:
    """Return the SHA-256 (hex) of names and contents; raises OSError."""
    total: Any = hashlib.sha256()
    for name, path in files.items():
        with path.open("rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return str(total.hexdigest())
