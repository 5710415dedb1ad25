"""A temporary folder for what is large and perhaps confidential, and must not stay behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

_PREFIX = "agentperf-run-"
# A folder is locked a moment after it was made; a younger one may be about to be.
_YOUNG_S = 60.0


class PrivateFolder:
    """Open to this user alone and gone with `close`; what a killed run left goes when the next one makes its own.

    A lock on the folder tells the two apart: the system gives it back however a process ends.
    """

    def __init__(self) -> None:
        """Make the folder, with mode 0700; raises OSError."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(self.path, os.O_RDONLY)
        # Also at the interpreter's end, if nobody came to close it.
        self.close = weakref.finalize(self, _remove, self.path, lock)
        """Remove the folder and all that is in it."""
        # There are file systems without locks; nobody can take the folder for abandoned there.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_abandoned(self.path)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _remove_abandoned(ours: Path) -> None:
    # Nothing here may end a run: other users' folders lie there too, and come and go.
    with contextlib.suppress(OSError):
        old_s = ours.stat().st_mtime - _YOUNG_S
        for entry in os.scandir(ours.parent):
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry, old_s)


def _remove_if_abandoned(entry: os.DirEntry[str], old_s: float) -> None:
    found = entry.stat(follow_symlinks=False)
    if found.st_uid != os.geteuid() or found.st_mtime > old_s:
        return
    folder = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Raises where a run that lives holds it.
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry.path, ignore_errors=True)
    finally:
        os.close(folder)
