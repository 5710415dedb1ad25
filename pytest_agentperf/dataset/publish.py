"""Writing a folder or a file that appears complete, by one rename, or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to build a folder or a file at; `path` appears when the block ends well.

    Raises DatasetError if `path` exists, then or when the block ends: nothing is overwritten.
    """
    _refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".agentperf-", dir=path.parent) as scratch:
            # Inside the scratch folder, which is private to its owner; what appears should not be.
            built = Path(scratch) / "built"
            yield built
            _appear(built, path)
    except OSError as error:
        raise DatasetError(
            f"cannot be written: {error}", where=str(path), remedy="check permissions and free space"
        ) from error


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise DatasetError("exists", where=str(path), remedy="choose a new path; nothing is overwritten")


def _appear(built: Path, path: Path) -> None:
    if built.is_dir():
        # Onto an existing folder that is empty this would succeed; onto anything else it fails by itself.
        _refuse_existing(path)
        built.rename(path)
        return
    try:
        # A rename would replace a file that came to be meanwhile; a link does not.
        os.link(built, path)
    except FileExistsError:
        _refuse_existing(path)
    except OSError:
        # Some file systems have no links.
        _refuse_existing(path)
        built.rename(path)
