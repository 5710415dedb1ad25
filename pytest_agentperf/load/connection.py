"""One connection to the endpoint: connects, does the TLS handshake, writes a request, reads its response."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Protocol

import httptools

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
from pytest_agentperf.load.loop import READ, WRITE
from pytest_agentperf.load.response import SIZE_LINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.load.address import Address, Addresses
    from pytest_agentperf.load.loop import Loop
    from pytest_agentperf.load.response import Response
    from pytest_agentperf.load.shape import Match

# A server's idle limit is 5 s in uvicorn (and so in vLLM); a request that meets the closing of its connection
# would be lost, so older idle connections are replaced. The new connection's set-up counts in TTFT.
REUSE_MAX_IDLE_NS = 3 * NS_PER_S
_LINGER_NOTHING = struct.pack("ii", 1, 0)
_SIZES_END = len(SIZE_LINES)
_WAITING = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Owner(Protocol):
    """Whoever a connection works for."""

    def connected(self) -> None:
        """The connection stands, TLS included."""

    def connect_failed(self, error: OSError) -> None:
        """No address could be reached."""

    def sent(self) -> None:
        """The last byte of the request is with the kernel."""

    def responded(self) -> None:
        """The response is complete, or will never be: its connection is closed then."""


class Connection:
    """A non-blocking socket and the request that it carries, if any."""

    __slots__ = (
        "_addresses",
        "_host",
        "_loop",
        "_memory",
        "_order",
        "_owner",
        "_plain",
        "_plain_chunks",
        "_recv_into",
        "_request",
        "_response",
        "_sock",
        "_tls",
        "error",
        "not_http",
        "open",
        "reuse_ns",
        "t_idle_ns",
        "t_plain_ns",
    )

    def __init__(self, loop: Loop, host: str, addresses: Addresses, tls: ssl.SSLContext | None) -> None:
        self.open = False
        self.error: str | None = None
        """Why the connection closed inside a response, if for another reason than the server's close."""
        self.not_http = False
        """Whether that reason is that it does not speak HTTP/1.1."""
        self.t_idle_ns = 0
        self.reuse_ns = REUSE_MAX_IDLE_NS
        """How long it may idle and still carry another request."""
        self._loop = loop
        self._memory = loop.memory
        self._host = host
        self._addresses = addresses
        self._tls = tls
        self._order: list[Address] = []
        self._owner: Owner | None = None
        self._sock: socket.socket | None = None
        self._recv_into: Callable[[bytearray], int]
        self._request: memoryview | None = None
        self._response: Response | None = None
        self._plain: Match | None = None
        """The response's own, kept here: the hot path touches as little memory as it can."""
        self._plain_chunks = 0
        self.t_plain_ns = 0
        """When the last event came that was recognised without being decoded."""

    # Opening

    def connect(self, agent: int, owner: Owner) -> None:
        """Connect to the first address that answers."""
        self._owner = owner
        self._order = self._addresses.for_agent(agent)
        self._try_next()

    @property
    def alternatives(self) -> int:
        """Return how many addresses are left to try, this one included."""
        return len(self._order)

    def try_next(self) -> bool:
        """Give up the address at hand and try the next; returns False if there is none."""
        if len(self._order) < 2:
            return False
        self._drop()
        self._order.pop(0)
        self._try_next()
        return True

    def _try_next(self) -> None:
        address = self._order[0]
        try:
            self._sock = sock = socket.socket(address.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address.sockaddr)
        except OSError as error:
            self._address_failed(error)
            return
        self._loop.watch(sock.fileno(), WRITE, self._tcp_ready)

    def _tcp_ready(self, ready: int) -> None:
        sock = self._sock
        assert sock is not None
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._address_failed(OSError(code, f"{os.strerror(code)} ({self._order[0].sockaddr[0]})"))
            return
        self._addresses.worked(self._order[0])
        if self._tls is None:
            self._stand(sock)
            return
        # The same descriptor, but another object owns it from here on.
        self._loop.unwatch(sock.fileno())
        try:
            self._sock = self._tls.wrap_socket(
                sock, server_hostname=self._host, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        except OSError as error:
            self._address_failed(error)
            return
        self._handshake(0)

    def _handshake(self, ready: int) -> None:
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._loop.watch(sock.fileno(), READ, self._handshake)
        except ssl.SSLWantWriteError:
            self._loop.watch(sock.fileno(), WRITE, self._handshake)
        except (OSError, ValueError) as error:
            self._address_failed(error if isinstance(error, OSError) else OSError(str(error)))
        else:
            self._stand(sock)

    def _stand(self, sock: socket.socket) -> None:
        self.open = True
        self._recv_into = sock.recv_into
        self._loop.watch(sock.fileno(), READ, self._readable if self._tls is None else self._readable_tls)
        assert self._owner is not None
        self._owner.connected()

    def _address_failed(self, error: OSError) -> None:
        # A refusal may concern one family only; what TLS or this machine refuse, no other address mends.
        if not isinstance(error, ssl.SSLError) and self.try_next():
            return
        owner = self._owner
        self.abort()
        assert owner is not None
        owner.connect_failed(error)

    # Requests

    def keep_alive(self, seconds: float) -> None:
        """Take what the server says of its idle limit, with room for what is under way: it may only shorten ours."""
        self.reuse_ns = round(min(REUSE_MAX_IDLE_NS, seconds * NS_PER_S / 2))

    def closed_by_server(self) -> bool:
        """Ask the socket whether the server has closed it: what it was not told yet costs no request."""
        try:
            self._recv_into(self._memory)
        except _WAITING:
            return False
        except OSError:
            return True
        # The end; or bytes that nobody asked for.
        return True

    def carry(self, request: bytes, response: Response, owner: Owner) -> bool:
        """Send a request; returns False if the connection turned out to be dead before a byte was taken."""
        assert self._sock is not None
        self._owner = owner
        try:
            taken = self._sock.send(request)
        except _WAITING:
            taken = 0
        except OSError:
            self._owner = None
            self.abort()
            return False
        self._response = response
        self._plain_chunks = self.t_plain_ns = 0
        if taken == len(request):
            owner.sent()
        else:
            self._request = memoryview(request)[taken:]
            self._loop.watch(self._sock.fileno(), READ | WRITE, self._busy)
        return True

    def _busy(self, ready: int) -> None:
        """Write on, and read: a server may refuse a request before it has all of it."""
        sock = self._sock
        assert sock is not None
        assert self._request is not None
        readable = self._readable if self._tls is None else self._readable_tls
        if ready & WRITE:
            try:
                self._request = self._request[sock.send(self._request) :]
            except _WAITING:
                pass
            except OSError:
                # Whoever hangs up may have said why: a reset behind an answer leaves the answer to be read.
                self._loop.watch(sock.fileno(), READ, readable)
                readable(READ)
                return
            if not self._request:
                self._request = None
                self._loop.watch(sock.fileno(), READ, readable)
                if self._owner is not None:
                    self._owner.sent()
        if ready & ~WRITE:
            readable(ready)

    def _readable(self, ready: int) -> None:
        memory = self._memory
        # Called by way of a local name: CPython looks up what hangs on an instance more slowly if it is called there.
        recv_into = self._recv_into
        try:
            size = recv_into(memory)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(str(error))
            return
        t_ns = monotonic_ns()
        # The hot path: one read, one plain event. All else goes through `feed`.
        if (plain := self._plain) is not None and size < _SIZES_END:
            line = SIZE_LINES[size]
            if memory.startswith(line) and plain(memory, len(line), size) is not None:
                self._plain_chunks += 1
                self.t_plain_ns = t_ns
                return
        response = self._response
        if not size or response is None:
            # Closed; or sent what nobody asked for, which is out of step.
            self._lost(None)
            return
        self._feed(response, size, t_ns)

    def _feed(self, response: Response, size: int, t_ns: int) -> None:
        if self._plain_chunks:
            response.count_plain(self._plain_chunks, self.t_plain_ns)
            self._plain_chunks = 0
        try:
            response.feed(size, t_ns)
        except httptools.HttpParserError as error:
            if response.complete:
                response.keep_alive = False
                self._responded(response)
            else:
                self._lost(f"not HTTP/1.1: {error}", not_http=True)
            return
        self._plain = response.plain
        if response.complete:
            self._responded(response)

    def _readable_tls(self, ready: int) -> None:
        """Read record after record: what is decrypted already makes no socket ready."""
        t_ns = 0
        while self.open:
            try:
                size = self._recv_into(self._memory)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
                return
            except OSError as error:
                self._lost(str(error))
                return
            # Records that one wake-up brought arrived at one moment.
            t_ns = t_ns or monotonic_ns()
            response = self._response
            if not size or response is None:
                self._lost(None)
                return
            self._feed(response, size, t_ns)

    def _responded(self, response: Response) -> None:
        owner = self._owner
        assert owner is not None
        self._response = self._owner = self._plain = None
        self.t_idle_ns = response.t_read_ns
        if self._request is not None or not response.keep_alive:
            # Refused before it was all sent, or not to be used again.
            self.abort()
        owner.responded()

    def _lost(self, why: str | None, *, not_http: bool = False) -> None:
        response, owner = self._response, self._owner
        if response is not None and self._plain_chunks:
            response.count_plain(self._plain_chunks, self.t_plain_ns)
        self._response = self._owner = self._plain = None
        self.error, self.not_http = why, not_http
        self.abort()
        if owner is None or response is None:
            return
        if why is None:
            response.closed()
        owner.responded()

    def abort(self) -> None:
        """Close at once; the owner hears no more of it."""
        self.open = False
        self._owner = self._response = self._request = self._plain = None
        self._drop()

    def _drop(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            if sock.fileno() >= 0:
                self._loop.unwatch(sock.fileno())
                with contextlib.suppress(OSError):
                    # Closed at once, and no port left behind in TIME_WAIT.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
            sock.close()
