"""A server's output on its way to a file: bounded, without secrets, its last lines at hand."""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from itertools import chain, count
from typing import IO, TYPE_CHECKING

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FILE_BYTES = 32 << 20
LINE_BYTES = 64 << 10
TAIL_LINES = 40
_TAIL_LINE_CHARS = 500
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def new_file(path: Path, *, numbered: bool = False) -> Path:
    """Return a path like this where nothing is yet, its folder made: a restart overwrites nothing.

    `numbered`: the first one has a number, too. Raises EndpointError if nothing can be written there.
    """
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise EndpointError(
            f"no log can be written there: {error.strerror or error}",
            where=str(folder),
            remedy="correct `log` of `launch:`, or the folder of the results",
        ) from error
    numbers = (f"{path.stem}-{number}{path.suffix}" for number in count(1 if numbered else 2))
    names = numbers if numbered else chain([path.name], numbers)
    return next(found for name in names if not (found := folder / name).exists())


class ServerLog:
    """Takes what a server writes: into a file, continued in others of which only the last two are kept.

    What it wrote first, its configuration mostly, and what it wrote last are worth keeping; an endless log between
    them is not worth a disk.
    """

    def __init__(self, path: Path | None, secrets: Iterable[str], *, file_bytes: int = FILE_BYTES) -> None:
        self.problem: str | None = None
        """Why the file is incomplete."""
        self._path = path
        # Longest first, as one may hold another.
        self._secrets = sorted((s.encode() for s in secrets if s), key=len, reverse=True)
        self._held_back = max((len(s) - 1 for s in self._secrets), default=0)
        self._file_bytes = file_bytes
        self._pending = b""
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._file: IO[bytes] | None = None
        self._written = 0
        self._continued = 0
        if path is not None:
            self._open(path)

    def write(self, data: bytes) -> None:
        """Take output as it was read; complete lines are kept at once."""
        self._pending += data
        end = self._pending.rfind(b"\n") + 1
        if not end and len(self._pending) > LINE_BYTES + self._held_back:
            # Not in the middle of a secret: what may be the beginning of one waits.
            self._pending = self._redacted(self._pending)
            end = len(self._pending) - self._held_back
        if end:
            self._keep(self._redacted(self._pending[:end]))
            self._pending = self._pending[end:]

    def close(self) -> None:
        """Keep the rest."""
        if self._pending:
            self._keep(self._redacted(self._pending))
            self._pending = b""
        if self._file is not None:
            self._file.close()
            self._file = None

    def tail(self) -> list[str]:
        """Return the last lines, a half one included."""
        lines = [*self._tail]
        if self._pending:
            lines.append(self._redacted(self._pending))
        return shown_lines(b"\n".join(lines))

    def _redacted(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"***")
        return data

    def _keep(self, data: bytes) -> None:
        for line in data[-TAIL_LINES * LINE_BYTES :].rstrip(b"\n").split(b"\n"):
            # A progress bar rewrites its line; a line without end is kept by its end.
            self._tail.append(line.rstrip(b"\r").rpartition(b"\r")[2][-LINE_BYTES:])
        if self._file is None:
            return
        try:
            self._file.write(data)
            self._written += len(data)
            if self._written >= self._file_bytes:
                self._continue()
        except OSError as error:
            self._give_up(error)

    def _continue(self) -> None:
        assert self._path is not None
        assert self._file is not None
        self._file.close()
        self._continued += 1
        self._nth(self._continued - 2).unlink(missing_ok=True)
        self._open(self._nth(self._continued))

    def _nth(self, number: int) -> Path:
        assert self._path is not None
        # Of the first file nothing is ever thrown away.
        return self._path.with_name(f"{self._path.name}.{max(number, 0)}")

    def _open(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            # Unbuffered: what a server wrote before all of us were killed is on disk.
            self._file = open(descriptor, "wb", buffering=0)  # noqa: PTH123, SIM115 - closed by `close`
            self._written = 0
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Go on without the file: the server must not wait for a full disk."""
        self.problem = f"the server's log is incomplete: {error.strerror or error}"
        file, self._file = self._file, None
        if file is not None:
            file.close()


def shown_lines(data: bytes, *, count: int = TAIL_LINES) -> list[str]:
    """Return the last lines as text that a terminal and a report can show: no control characters, none endless."""
    lines = data.decode("utf-8", "backslashreplace").replace("\t", "  ").split("\n")
    return [_shortened(line.rstrip()) for line in lines if line.strip()][-count:]


def _shortened(line: str) -> str:
    text = _COLOUR.sub("", line)
    words = text.lstrip(" ")
    # Indentation tells in a traceback; all else that is not printable is escaped.
    shown = text[: len(text) - len(words)] + printable(words)
    return shown if len(shown) <= _TAIL_LINE_CHARS else f"{shown[:_TAIL_LINE_CHARS]}…"


def quoted(tail: Sequence[str], *, count: int = 10) -> str:
    """Return the last lines below a message, or nothing if there are none."""
    return "".join(f"\n  | {line}" for line in tail[-count:])
