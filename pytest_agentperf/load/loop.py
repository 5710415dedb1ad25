"""The one thread of a load worker: reads first, then whatever else is due, in slices too short to delay a read.

An event loop of our own instead of asyncio's: the order of work is what keeps the stamps true. Measured against
asyncio and uvloop in `docs/load-engine.md`.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
from collections import deque
from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.load.reads import Reads, ignore

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import SocketType

    from pytest_agentperf.load.reads import Reader

READ = select.POLLIN
WRITE = select.POLLOUT

# Longest stretch of other work between two looks at the sockets, and the most sockets told of at one look.
_SLICE_NS = 1_000_000
_BATCH = 42  # the kernel's events take half a kilobyte then, which CPython hands out fast
_MEMORY_BYTES = 1 << 18
_IDLE_S = 60.0
_S_PER_NS = 1e-9


def _read_elsewhere(ready: int) -> None:
    """Stand where `Reads` does the reading."""


class Timer:
    """A callback that waits for its time."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def __call__(self) -> None:
        """Run the callback, unless it was called off."""
        if (callback := self.callback) is not None:
            callback()

    def cancel(self) -> None:
        """Call it off."""
        self.callback = None


class Loop:
    """Runs callbacks at their time and handlers when their socket is ready; the `Clock` of a load worker.

    What a callback raises leaves `run`: an agent whose callback failed would stand still, and the phase with it.
    """

    def __init__(self) -> None:
        self.memory = bytearray(_MEMORY_BYTES)
        """Where every read lands first; whoever keeps bytes copies them."""
        self.view = memoryview(self.memory)
        self._poller = _Poller()
        self.reads = Reads(self.memory, READ)
        self._timers: list[tuple[int, int, Timer]] = []
        self._timers_made = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._running = False
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self.watch(self._wake_receiver.fileno(), READ, self._woken)

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return monotonic_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Run `callback` at `when_ns` or up to a millisecond later, never earlier."""
        timer = Timer(callback)
        self._timers_made += 1
        heapq.heappush(self._timers, (when_ns, self._timers_made, timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` after the reads at hand."""
        self._soon.append(callback)

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        """Run `callback` in this loop; may be called from any thread."""
        self._soon.append(callback)
        # Full: so many calls wait that the loop will wake anyway. Closed: nobody is left to call.
        with contextlib.suppress(OSError):
            self._wake_sender.send(b"\0")

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        """Call `handler(ready)` whenever the descriptor is ready for READ or WRITE, or broken."""
        self._register(fd, mask, handler)
        self.reads.end(fd)

    def read(self, sock: SocketType, reader: Reader) -> None:
        """Hand the reader whatever comes, but for what `reads` is told to count."""
        fd = sock.fileno()
        # Told of once, not again and again until it is read: that costs a look at each socket per read.
        self._register(fd, READ | _ENDS | _ONCE, _read_elsewhere)
        self.reads.begin(fd, sock, reader)

    def _register(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        handlers = self.reads.handlers
        if fd >= len(handlers):
            self.reads.grow(fd + 1)
        if handlers[fd] is ignore:
            self._poller.register(fd, mask)
        else:
            self._poller.modify(fd, mask)
        handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor, before it is closed."""
        handlers = self.reads.handlers
        if fd < len(handlers) and handlers[fd] is not ignore:
            handlers[fd] = ignore
            self.reads.end(fd)
            self._poller.unregister(fd)

    def run(self) -> None:
        """Work until `stop`."""
        self._running = True
        serve, soon, timers, poll = self.reads.serve, self._soon, self._timers, self._poller.poll
        now_ns = monotonic_ns()
        while self._running:
            if soon:
                timeout_s = 0.0
            elif timers:
                timeout_s = (timers[0][0] - now_ns) * _S_PER_NS
                if timeout_s < 0.0:
                    timeout_s = 0.0
            else:
                timeout_s = _IDLE_S
            batch = poll(timeout_s, _BATCH)
            now_ns = serve(batch) or monotonic_ns()
            if len(batch) == _BATCH:
                now_ns = self._serve_the_rest()
            while timers and timers[0][0] <= now_ns:
                # Still callable off until its turn has come.
                soon.append(heapq.heappop(timers)[2])
            if soon:
                end_ns = now_ns + _SLICE_NS
                while soon and self._running:
                    soon.popleft()()
                    now_ns = monotonic_ns()
                    if now_ns > end_ns:
                        break

    def _serve_the_rest(self) -> int:
        """Serve all that was ready and return the time: timers that overtook reads would not see how late these are."""
        reads = self.reads
        for _ in range(len(reads.handlers) // _BATCH):
            batch = self._poller.poll(0.0, _BATCH)
            reads.serve(batch)
            if len(batch) < _BATCH:
                break
        return monotonic_ns()

    def stop(self) -> None:
        """Let `run` return."""
        self._running = False

    def close(self) -> None:
        """Give the loop's own descriptors back."""
        self._wake_receiver.close()
        self._wake_sender.close()
        self._poller.close()

    def _woken(self, ready: int) -> None:
        self._wake_receiver.recv_into(self.memory)


if hasattr(select, "epoll"):
    _Poller = select.epoll
    _ONCE, _ENDS = select.EPOLLET, select.EPOLLRDHUP
else:
    _ONCE = _ENDS = 0

    class _Poller:  # type: ignore[no-redef]
        """`select.poll` with epoll's methods, where there is no epoll."""

        def __init__(self) -> None:
            self._poll = select.poll()
            self.register = self._poll.register
            self.modify = self._poll.modify
            self.unregister = self._poll.unregister

        def poll(self, timeout_s: float, maxevents: int) -> list[tuple[int, int]]:
            """Wait as epoll does; the timeout is rounded up."""
            return self._poll.poll(-(-timeout_s * 1000 // 1))

        def close(self) -> None:
            """Nothing is held."""
