"""A server that does nothing but stream: it answers any request with chunks at a steady pace, and notes when.

The load generator calibrates itself against it: what the client reports more than these notes, it added itself.
"""

from __future__ import annotations

import heapq
import select
import socket
from array import array
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import execnet

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_TTFT_NS = NS_PER_S // 50
_REMOTE = "from pytest_agentperf.sim.null import serve; serve(channel)"
_PATIENCE_S = 30.0
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
# How long answers stream, in turn, as shares of their mean: so that requests begin and end out of step.
_ANSWER_SHARES = (0.5, 1.4, 0.8, 1.1, 0.6, 1.6)


_BIN_NS = NS_PER_S // 10


Notes: TypeAlias = "list[list[bytes]]"
"""What each null server of a host noted: columns of int64, plain values for a frame."""


class Truth:
    """What the null servers of one host noted of the answers that they gave, by its clock."""

    def __init__(self, notes: Iterable[Sequence[bytes]] = ()) -> None:
        self.answers: dict[str, tuple[int, int, int]] = {}
        """By response id: when the request had come, when the first and the last token were written (monotonic ns)."""
        self._writes: Counter[int] = Counter()
        for number, columns in enumerate(notes):
            self._add(number, columns)

    def _add(self, number: int, columns: Sequence[bytes]) -> None:
        *times, bins, writes = (array("q", column) for column in columns)
        for seq, (received, first, last) in enumerate(zip(*times, strict=True)):
            if last:
                self.answers[f"null-{number}-{seq}"] = (received, first, last)
        self._writes.update(dict(zip(bins, writes, strict=True)))

    def chunks_per_s(self, open_ns: int, close_ns: int) -> float:
        """Return how many chunks a second all servers wrote inside a window."""
        first, end = -(-open_ns // _BIN_NS), close_ns // _BIN_NS
        return sum(self._writes[bin_] for bin_ in range(first, end)) / ((end - first) * _BIN_NS / NS_PER_S)


@contextmanager
def null_servers(count: int, tokens_per_s: float, answer_s: float) -> Iterator[NullServers]:
    """Run `count` processes, each on a port of its own; answers stream at `tokens_per_s`, for `answer_s` on average."""
    group = execnet.Group()
    try:
        yield NullServers(group, count, {"tokens_per_s": tokens_per_s, "answer_s": answer_s})
    finally:
        group.terminate(timeout=5.0)


class NullServers:
    """Running null servers; they end with their channels."""

    def __init__(self, group: Any, count: int, config: dict[str, float]) -> None:
        self._channels = []
        for number in range(count):
            channel = group.makegateway(f"popen//id=null{number}").remote_exec(_REMOTE)
            channel.send({"number": number, **config})
            self._channels.append(channel)
        self.urls = [f"http://127.0.0.1:{self._receive(channel)}/v1" for channel in self._channels]

    def stop(self) -> Notes:
        """End the servers and return what they noted."""
        for channel in self._channels:
            channel.send("stop")
        return [self._receive(channel) for channel in self._channels]

    @staticmethod
    def _receive(channel: Any) -> Any:
        try:
            return channel.receive(_PATIENCE_S)
        except (channel.TimeoutError, channel.RemoteError, EOFError, OSError) as error:
            raise LoadError(
                f"the null server for calibration failed: {error}",
                remedy="check memory and CPU; 127.0.0.1 must be reachable",
            ) from None


def serve(channel: Any) -> None:
    """Serve until the controller says stop or is gone; runs on the far side of the channel."""
    config = channel.receive()
    server = _NullServer(**config)
    waker, wakes = socket.socketpair()

    def stop(item: object) -> None:
        waker.send(b"\0")

    channel.send(server.port)
    channel.setcallback(stop, endmarker=None)
    server.run(wakes)
    if not channel.isclosed():
        bins = (array("q", server.writes), array("q", server.writes.values()))
        channel.send([column.tobytes() for column in (*server.notes, *bins)])


class _Stream:
    """One connection: the request that it is reading, or the answer that it is given."""

    __slots__ = ("chunk", "expected", "head", "left", "seq", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = b""
        self.expected = 0
        """Bytes of the body still to come, once the head is whole."""
        self.seq = -1
        self.left = 0
        self.chunk = b""


class _NullServer:
    def __init__(self, number: int, tokens_per_s: float, answer_s: float) -> None:
        self._number = number
        self._gap_ns = round(NS_PER_S / tokens_per_s)
        self._tokens = [max(3, round(share * answer_s * tokens_per_s)) for share in _ANSWER_SHARES]
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._streams: dict[int, _Stream] = {}
        self._due: list[tuple[int, int, int]] = []
        self._poller = select.epoll() if hasattr(select, "epoll") else select.poll()
        self.notes = (array("q"), array("q"), array("q"))
        """Request received, first token, last token, by number of the answer; 0 for what did not happen."""
        self.writes: Counter[int] = Counter()

    def run(self, wakes: socket.socket) -> None:
        """Serve until a byte comes on `wakes`."""
        listener = self._listener.fileno()
        self._poller.register(listener, select.POLLIN)
        self._poller.register(wakes.fileno(), select.POLLIN)
        # epoll counts in seconds, poll in milliseconds.
        scale = 1e-9 if hasattr(select, "epoll") else 1e-6
        while True:
            wait = (self._due[0][0] - monotonic_ns()) * scale if self._due else 1e9 * scale
            for fd, _ in self._poller.poll(max(0.0, wait)):
                if fd == wakes.fileno():
                    return
                if fd == listener:
                    self._accept()
                elif (stream := self._streams.get(fd)) is not None:
                    self._read(fd, stream)
            now_ns = monotonic_ns()
            while self._due and self._due[0][0] <= now_ns:
                due_ns, fd, seq = heapq.heappop(self._due)
                found = self._streams.get(fd)
                # The descriptor may be another's by now.
                if found is not None and found.seq == seq:
                    self._write(due_ns, fd, found)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams[sock.fileno()] = _Stream(sock)
            self._poller.register(sock.fileno(), select.POLLIN)

    def _read(self, fd: int, stream: _Stream) -> None:
        try:
            data = stream.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(fd, stream)
        elif stream.expected:
            stream.expected -= len(data)
            if stream.expected <= 0:
                self._begin(fd, stream)
        else:
            stream.head += data
            head, found, body = stream.head.partition(b"\r\n\r\n")
            if found:
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                stream.expected = length - len(body)
                stream.head = b""
                if stream.expected <= 0:
                    self._begin(fd, stream)

    def _begin(self, fd: int, stream: _Stream) -> None:
        now_ns = monotonic_ns()
        stream.seq = seq = len(self.notes[0])
        stream.expected = 0
        for column, value in zip(self.notes, (now_ns, 0, 0), strict=True):
            column.append(value)
        stream.left = self._tokens[seq % len(self._tokens)]
        stream.chunk = _chunk(
            b'{"id":"null-%d-%d","object":"chat.completion.chunk","created":1,"model":"null","choices":'
            b'[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}'
            % (self._number, seq)
        )
        heapq.heappush(self._due, (now_ns + _TTFT_NS, fd, seq))

    def _write(self, due_ns: int, fd: int, stream: _Stream) -> None:
        seq = stream.seq
        data = stream.chunk
        now_ns = monotonic_ns()
        if not self.notes[1][seq]:
            self.notes[1][seq] = now_ns
            data = _HEAD + data
        self.writes[now_ns // _BIN_NS] += 1
        stream.left -= 1
        if stream.left == 0:
            data += self._ending(seq)
        try:
            stream.sock.send(data)
        except OSError:
            # Not even a few hundred bytes fit: whoever asked reads no more.
            self._close(fd, stream)
            return
        if stream.left:
            heapq.heappush(self._due, (due_ns + self._gap_ns, fd, seq))
        else:
            self.notes[2][seq] = now_ns

    def _ending(self, seq: int) -> bytes:
        tokens = self._tokens[seq % len(self._tokens)]
        finish = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
        usage = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d}}' % tokens
        return _chunk(finish) + _chunk(usage) + _chunk(b"[DONE]") + b"0\r\n\r\n"

    def _close(self, fd: int, stream: _Stream) -> None:
        del self._streams[fd]
        self._poller.unregister(fd)
        stream.sock.close()


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)
