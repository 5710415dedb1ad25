"""One running probe at a time on a load host: two would slow each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import tempfile
import threading
from pathlib import Path

from pytest_agentperf.load.host_facts import host_id

# Where all logins of a host look, whatever their TMPDIR says.
_FOLDER = Path("/tmp")
_KILL_PATIENCE_S = 2.0


class HostLock:
    """Held by a worker of the host itself, so that controllers on different machines exclude each other, too.

    The system gives it back however the worker ends. One that hangs or is stopped keeps it: whoever comes next for the
    same run, which has given it up by then, ends it.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def acquire(self, run: str) -> bool:
        """Take the host for a run; False if another one has it. Raises OSError where there is no room for a lock."""
        if self._descriptor is not None:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path(), flags, 0o600)
        if not self._locked(descriptor) and not self._taken_over(descriptor, run):
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {run}".encode(), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the host go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @staticmethod
    def path() -> Path:
        """Return the file of this host and user."""
        folder = _FOLDER if _FOLDER.is_dir() else Path(tempfile.gettempdir())
        return folder / f"agentperf-load-{host_id()}.lock"

    def _taken_over(self, descriptor: int, run: str) -> bool:
        pid, _, holder = os.pread(descriptor, 200, 0).decode("ascii", "replace").partition(" ")
        if holder != run or not pid.isdecimal() or int(pid) == os.getpid():
            return False
        # While it holds the lock, the number is its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        for _ in range(20):
            if self._locked(descriptor):
                return True
            threading.Event().wait(_KILL_PATIENCE_S / 20)
        return False

    @staticmethod
    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
