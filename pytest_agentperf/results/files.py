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
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name when the block has ended; raises FileExistsError if that is taken."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            raise FileExistsError(errno.EEXIST, "it exists already", str(path))
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
