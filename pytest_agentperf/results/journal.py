"""The journal of a run: a file of one event a line, appended, synced, and checked when it is read.

    {"sha256":"…","event":{"event":"phase_started",…}}

The digest of a line covers the one before and its own event, so that a line that was changed, lost or moved is seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import ConfigError, LoadError
from pytest_agentperf.core.journal import RunBegun, parse_event
from pytest_agentperf.results.files import make_private, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_agentperf.core.journal import Event

JOURNAL = "journal.jsonl"
_HEAD, _MIDDLE, _END = b'{"sha256":"', b'","event":', b"}"
_HEX = 64
_PREFIX = len(_HEAD) + _HEX + len(_MIDDLE)
_FIRST = "0" * _HEX


class JournalContent(NamedTuple):
    """What a journal holds: the run's settings, then everything since."""

    begun: RunBegun
    events: tuple[Event, ...]
    """All of them, the first one included."""
    digest: str
    """Of the last line."""
    size: int
    """Bytes of whole lines; what follows was being written when the machine or the process went."""


def read_journal(path: Path) -> JournalContent:
    """Read a journal; a torn last line is left out. Raises ConfigError naming the line that is damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"no journal can be read there: {error.strerror or error}",
            where=str(path),
            remedy="name the directory of a run: agentperf-results/SUITE-SYSTEM-TIME",
        ) from None
    lines = data.split(b"\n")
    # Without its line end a line was never acknowledged: what it tells had not begun yet.
    whole, digest, size = lines[:-1], _FIRST, 0
    events: list[Event] = []
    for number, line in enumerate(whole, 1):
        found = _digest(digest, line[_PREFIX : -len(_END)])
        if line != _line(found, line[_PREFIX : -len(_END)]):
            if number == len(whole) and not lines[-1] and b"\0" in line:
                break  # its pages reached the disk in another order
            raise _damaged(path, number, "it is not what was written")
        try:
            events.append(parse_event(line[_PREFIX : -len(_END)]))
        except ValueError:
            raise _damaged(path, number, "this version does not know such an event") from None
        digest, size = found, size + len(line) + 1
    if not events or not isinstance(events[0], RunBegun):
        raise _damaged(path, 1, "it does not say what was measured")
    return JournalContent(events[0], tuple(events), digest, size)


class FileJournal:
    """The `Journal` of a run directory; the first event makes both, and only for a run that has none yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._digest = _FIRST
        self._size = 0
        self._made_folder = False

    @property
    def folder_is_new(self) -> bool:
        """Return whether this object made the run's folder, and no event has been written yet."""
        return self._made_folder and not self.path.exists()

    def make_folder(self) -> Path:
        """Make the run's folder for what comes before the first event; raises ConfigError if it is another run's."""
        folder = self.path.parent
        if self._descriptor is None and not self._made_folder:
            make_private(folder.parent)
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                raise not_ours(folder) from None
            self._made_folder = True
        return folder

    def append(self, event: Event) -> None:
        """Write an event and wait until the disk has it; raises LoadError, and the journal is as before."""
        text = event.model_dump_json(by_alias=True).encode()
        digest = _digest(self._digest, text)
        line = _line(digest, text) + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._create()
            self._write(self._descriptor, line)
        except OSError as error:
            raise LoadError(
                f"the run's journal cannot be written: {error.strerror or error}",
                where=str(self.path),
                remedy="make room; --agentperf-resume with this folder then goes on from the last finished phase",
            ) from None
        self._digest, self._size = digest, self._size + len(line)

    def reopen(self) -> JournalContent:
        """Read a run's journal and go on with it; raises ConfigError, LoadError if another process has it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise LoadError(
                f"the run's journal cannot be written: {error.strerror or error}",
                where=str(self.path),
                remedy="name the directory of a run that may be continued",
            ) from None
        try:
            self._lock(descriptor)
            content = read_journal(self.path)
            os.ftruncate(descriptor, content.size)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._digest, self._size = descriptor, content.digest, content.size
        return content

    def close(self) -> None:
        """Let the file go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _create(self) -> int:
        folder = self.make_folder()
        try:
            descriptor = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except FileExistsError:
            raise not_ours(folder) from None
        self._lock(descriptor)
        for named in (folder, folder.parent):
            sync_folder(named)
        return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LoadError(
                "the run still goes on in another process",
                where=str(self.path),
                remedy="wait for it, or end it",
            ) from None
        except OSError:
            # There are file systems without locks.
            return

    def _write(self, descriptor: int, line: bytes) -> None:
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except BaseException:
            # Half a line would stand before the next one; and where Ctrl-C came between the writing and the wait for
            # the disk, a whole one that nobody knows of.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise


def chained(events: Iterable[bytes]) -> bytes:
    """Return the journal that holds these events, each as JSON."""
    lines, digest = [], _FIRST
    for event in events:
        digest = _digest(digest, event)
        lines.append(_line(digest, event) + b"\n")
    return b"".join(lines)


def not_ours(folder: Path) -> ConfigError:
    """Return the error for the folder of another run, which began in the same second for instance."""
    return ConfigError(
        "another run has written results there, and they are never overwritten",
        where=str(folder),
        remedy="run again",
    )


def _line(digest: str, event: bytes) -> bytes:
    return b"".join((_HEAD, digest.encode(), _MIDDLE, event, _END))


def _digest(before: str, event: bytes) -> str:
    return hashlib.sha256(before.encode() + event).hexdigest()


def _damaged(path: Path, number: int, how: str) -> ConfigError:
    return ConfigError(
        f"the journal is damaged: {how}",
        where=f"{path}:{number}",
        remedy="the lines before it are whole: remove this one and what follows, and what they tell is measured anew",
    )
