"""The hot path: reads whatever socket is ready, and recognises plain events right in the receive buffer.

Of a stream that sends what is expected only its socket and a few places in arrays are touched, by descriptor: with
thousands of streams each further object costs the time to fetch it into the cache, per token.
"""

from __future__ import annotations

from array import array
from socket import SocketType
from typing import TYPE_CHECKING, Protocol

from pytest_agentperf.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_agentperf.load.shape import Match

    Serve = Callable[[Iterable[tuple[int, int]]], int]

_CHUNK_LINE_ENDS = 4
"""Bytes of an HTTP chunk besides its size and its data: two line ends."""


def _size_line(read_size: int) -> bytes:
    """Return the first line of an HTTP chunk that fills a read of that size; what no chunk begins with if none can."""
    for digits in range(1, 5):
        size = read_size - digits - _CHUNK_LINE_ENDS
        if size > 0 and len(b"%x" % size) == digits:
            return b"%x\r\n" % size
    return b"-" * read_size


SIZE_LINES = [_size_line(size) for size in range(1 << 12)]
"""By the size of a read that is one HTTP chunk."""


class Reader(Protocol):
    """Whoever takes what was read from a socket."""

    def arrived(self, size: int, t_ns: int) -> None:
        """Take the first `size` bytes of the memory; none at the stream's end."""

    def lost(self, why: str) -> None:
        """The connection broke."""


def ignore(ready: int) -> None:
    """Stand where nothing is watched: a handler may have closed the socket of a later one of its batch."""


class Reads:
    """What is known by descriptor: its handler, or its socket and what is expected of it."""

    def __init__(self, memory: bytearray, edge: int) -> None:
        """`edge` is what is ready where there is something to read and nothing else."""
        self.handlers: list[Callable[[int], None]] = []
        self._memory = memory
        self._sockets: list[SocketType | None] = []
        self._readers: list[Reader | None] = []
        self._plain: list[Match | None] = []
        self._chunks: list[int] = []
        self._stamps = array("q")
        self.grow(64)
        self.serve = self._make_serve(edge)
        """Serve descriptors and what they are ready for; returns the time of the last read, 0 without one."""

    def grow(self, least: int) -> None:
        """Make room for so many descriptors, twice as many as before at least."""
        more = max(least, 2 * len(self.handlers)) - len(self.handlers)
        self.handlers += [ignore] * more
        self._sockets += [None] * more
        self._readers += [None] * more
        self._plain += [None] * more
        self._chunks += [0] * more
        self._stamps.extend([0] * more)

    def begin(self, fd: int, sock: SocketType, reader: Reader) -> None:
        """Read from this socket from now on."""
        self._sockets[fd], self._readers[fd] = sock, reader
        self.expect(fd, None)
        self.take(fd)

    def end(self, fd: int) -> None:
        """Read no more from it."""
        self._sockets[fd] = self._readers[fd] = self._plain[fd] = None

    def expect(self, fd: int, plain: Match | None) -> None:
        """Count what this recognises, behind the size of an HTTP chunk, instead of handing it on."""
        self._plain[fd] = plain

    def take(self, fd: int) -> tuple[int, int]:
        """Return how many chunks were counted since the last call, and when the last of them came; 0 for none."""
        counted = self._chunks[fd], self._stamps[fd]
        self._chunks[fd] = self._stamps[fd] = 0
        return counted

    def t_counted_ns(self, fd: int) -> int:
        """Return when the last chunk came that was counted and not taken, 0 for none."""
        return self._stamps[fd]

    def _make_serve(self, edge: int) -> Serve:
        # Names of a closure, looked up faster than attributes.
        memory, handlers, sockets, readers = self._memory, self.handlers, self._sockets, self._readers
        plain, chunks, stamps, read_on = self._plain, self._chunks, self._stamps, self._read_on
        recv_into, startswith = SocketType.recv_into, memory.startswith
        full, lines, sizes = len(memory), SIZE_LINES, len(SIZE_LINES)

        def serve(batch: Iterable[tuple[int, int]]) -> int:
            t_ns = 0
            for fd, ready in batch:
                if (sock := sockets[fd]) is None:
                    handlers[fd](ready)
                    continue
                try:
                    size = recv_into(sock, memory)
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError as error:
                    readers[fd].lost(str(error))  # type: ignore[union-attr]
                    continue
                t_ns = monotonic_ns()
                if size < sizes and (match := plain[fd]) is not None:
                    line = lines[size]
                    if startswith(line) and match(memory, len(line), size) is not None:
                        chunks[fd] += 1
                        stamps[fd] = t_ns
                        if ready != edge:
                            read_on(fd, sock, to_the_end=True)
                        continue
                readers[fd].arrived(size, t_ns)  # type: ignore[union-attr]
                if ready != edge or size == full:
                    read_on(fd, sock, to_the_end=ready != edge)
            return t_ns

        return serve

    def _read_on(self, fd: int, sock: SocketType, *, to_the_end: bool) -> None:
        """Read until nothing is left: what is there already, the end included, makes a socket ready no more."""
        full = len(self._memory)
        while self._sockets[fd] is sock:
            reader = self._readers[fd]
            assert reader is not None
            try:
                size = sock.recv_into(self._memory)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                reader.lost(str(error))
                return
            reader.arrived(size, monotonic_ns())
            if size < full and not to_the_end:
                return
