"""Files that appear under their names complete, or not at all, and never in another one's place."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name when the block has ended; it is this user's alone.

    Raises FileExistsError if the name is taken, unless it is to be replaced.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not replace and path.exists():
            raise FileExistsError(errno.EEXIST, "it exists already", str(path))
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        # Where even that fails, the error that led here says more.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user alone: results tell of unpublished systems."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Make a new name in the folder last through a power failure, as the file's content does already."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # There are file systems that cannot sync folders; they keep names in ways of their own.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
