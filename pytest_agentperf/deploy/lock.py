"""One run at a time on a system: two would measure each other."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import filelock

from pytest_agentperf.config.run import NotConfigured, RunSettings, resolve_endpoint
from pytest_agentperf.core.errors import LoadError

if TYPE_CHECKING:
    from types import TracebackType


class SystemLock:
    """Held while a system is measured, across processes and copies of its file; a crash releases it.

    Every run launches its own simulated server, so there is nothing to share then, and nothing is locked.
    """

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._locks: list[filelock.BaseFileLock] = []

    def acquire(self) -> None:
        """Take the system; raises LoadError if another run has it, ConfigError for an endpoint that is none."""
        if self._locks:
            return
        try:
            for path in self._paths():
                self._take(path)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the system go."""
        while self._locks:
            with contextlib.suppress(OSError):
                self._locks.pop().release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _paths(self) -> list[Path]:
        """Return a file per endpoint, so that runs that share but one of them exclude each other, too."""
        system = self._settings.system
        names = set()
        for deployment in system.deployments.values():
            endpoint = resolve_endpoint(deployment.endpoint, where=str(self._settings.system_path))
            if not isinstance(endpoint, NotConfigured) and endpoint.url is not None:
                # At worst two endpoints that differ in case exclude each other.
                url = endpoint.url.rstrip("/").lower()
                names.add(f"agentperf-{system.name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock")
        # In one order everywhere, as two runs that took them crosswise would both give up.
        return [Path(tempfile.gettempdir()) / name for name in sorted(names)]

    def _take(self, path: Path) -> None:
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise LoadError(
                f"another run is measuring the system {self._settings.system.name}",
                where=str(path),
                remedy="wait for it to end: two runs on one system would measure each other",
            ) from None
        except (OSError, NotImplementedError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise LoadError(
                f"the file that keeps other runs off the system cannot be used: {reason}",
                where=str(path),
                remedy="if it is another user's, ask whether they measure the system now, and have it removed; "
                "or set TMPDIR to a folder that all who measure it can write to",
            ) from None
        self._locks.append(lock)
