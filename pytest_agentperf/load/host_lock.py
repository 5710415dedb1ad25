"""One running probe at a time on a load host: two would slow each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from pytest_agentperf.load.host_facts import host_id


class HostLock:
    """Held by a worker of the host itself, so that controllers on different machines exclude each other, too.

    The system gives it back however the worker ends.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the host; False if another run has it. Without a folder for the lock, nothing is locked."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
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
        return Path(tempfile.gettempdir()) / f"agentperf-load-{host_id()}.lock"
