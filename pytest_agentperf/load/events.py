"""Cuts a body into server-sent events, read by read: CR, LF and CRLF in any split, comments, multi-line data."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_LINE_BYTES_MAX = 16 << 20


class Event(NamedTuple):
    """One event's data, and the time of the read that completed its last line."""

    t_ns: int
    data: bytes
    whole: bool
    """False where the stream ended inside the event's last line."""


class EventSplitter:
    """Keeps nothing of a body but what is not yet a whole event."""

    __slots__ = ("_after_cr", "_data", "_first_line", "_rest", "_t_data_ns", "_t_read_ns")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._t_data_ns = 0
        self._t_read_ns = 0
        self._first_line = True
        self._after_cr = False

    @property
    def at_boundary(self) -> bool:
        """Return whether the last read ended where an event ended."""
        return not (self._rest or self._data or self._after_cr)

    def whole_event(self, read: bytes) -> bytes | None:
        """Take a read that is one event, as most servers write them, and return its data; None if it is not."""
        if (
            read.startswith(b"data: ")
            and read.find(b"\n") == len(read) - 2
            and read.endswith(b"\n\n")
            and b"\r" not in read
            and self.at_boundary
        ):
            self._first_line = False
            return read[6:-2]
        return None

    def feed(self, t_ns: int, read: bytes) -> list[Event]:
        """Take one read and its time (monotonic ns), return the events it completed.

        Raises ValueError for a line that has no end.
        """
        if not read:
            return []
        self._t_read_ns = t_ns
        # A CRLF split across two reads is one line end, not two.
        chunk = read[1:] if self._after_cr and read[:1] == b"\n" else read
        self._after_cr = read[-1:] == b"\r"
        whole = self._rest + chunk if self._rest else chunk
        lines = _LINE_END.split(whole) if b"\r" in whole else whole.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LINE_BYTES_MAX:
            self._rest = b""
            raise ValueError(f"a line of more than {_LINE_BYTES_MAX >> 20} MiB")
        if self._first_line and lines:
            lines[0] = lines[0].removeprefix(_BOM)
            self._first_line = False
        events = []
        for line in lines:
            if line.startswith(b"data"):
                if (value := _field_value(line)) is not None:
                    self._data.append(value)
                    self._t_data_ns = t_ns
            elif not line and self._data:
                events.append(self._event(whole=True))
        return events

    def finish(self) -> list[Event]:
        """Return the event that the body's end left without its empty line, if there is one."""
        rest, self._rest = self._rest, b""
        if self._first_line:
            rest = rest.removeprefix(_BOM)
        value = _field_value(rest)
        if value is not None:
            self._data.append(value)
            self._t_data_ns = self._t_read_ns
        return [self._event(whole=value is None)] if self._data else []

    def _event(self, *, whole: bool) -> Event:
        data, self._data = self._data, []
        return Event(self._t_data_ns, data[0] if len(data) == 1 else b"\n".join(data), whole)


def _field_value(line: bytes) -> bytes | None:
    if line == b"data":
        return b""
    if not line.startswith(b"data:"):
        return None
    return line[6:] if line[5:6] == b" " else line[5:]
