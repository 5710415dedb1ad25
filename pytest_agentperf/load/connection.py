"""One connection to the endpoint: connects, does the TLS handshake, writes a request, reads its response."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Protocol

import httptools

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.loop import READ, WRITE

if TYPE_CHECKING:
    from pytest_agentperf.load.address import Address, Addresses
    from pytest_agentperf.load.loop import Loop
    from pytest_agentperf.load.response import Response

# A server's idle limit is 5 s in uvicorn (and so in vLLM); a request that meets the closing of its connection
# would be lost, so older idle connections are replaced. The new connection's set-up counts in TTFT.
REUSE_MAX_IDLE_NS = 3 * NS_PER_S
_LINGER_NOTHING = struct.pack("ii", 1, 0)
_CONNECTING = (0, errno.EINPROGRESS)
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
        "_fd",
        "_host",
        "_loop",
        "_order",
        "_owner",
        "_request",
        "_response",
        "_sock",
        "_tls",
        "error",
        "not_http",
        "open",
        "reuse_ns",
        "t_idle_ns",
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
        self._host = host
        self._addresses = addresses
        self._tls = tls
        self._order: list[Address] = []
        self._owner: Owner | None = None
        self._sock: socket.SocketType | None = None
        self._fd = -1
        self._request: memoryview | None = None
        self._response: Response | None = None

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
            # TLS wraps the standard library's class; the type beneath it is made, and found in the cache, faster.
            make = socket.SocketType if self._tls is None else socket.socket
            self._sock = sock = make(address.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (code := sock.connect_ex(address.sockaddr)) not in _CONNECTING:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self._address_failed(error)
            return
        self._fd = sock.fileno()
        self._loop.watch(self._fd, WRITE, self._tcp_ready)

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
        assert isinstance(sock, socket.socket)
        # The same descriptor, but another object owns it from here on.
        self._loop.unwatch(self._fd)
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

    def _stand(self, sock: socket.SocketType) -> None:
        self.open = True
        self._listen(sock)
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
        assert self._sock is not None
        try:
            self._sock.recv_into(self._loop.memory)
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
        if ready & WRITE:
            try:
                self._request = self._request[sock.send(self._request) :]
            except _WAITING:
                pass
            except OSError:
                # Whoever hangs up may have said why: a reset behind an answer leaves the answer to be read.
                self._loop.watch(self._fd, READ, self._read)
                self._read(READ)
                return
            if not self._request:
                self._request = None
                self._listen(sock)
                if self._owner is not None:
                    self._owner.sent()
        if ready & ~WRITE:
            self._read(ready)

    def _listen(self, sock: socket.SocketType) -> None:
        """Take what comes from now on."""
        if self._tls is None:
            self._loop.read(sock, self)
        else:
            self._loop.watch(self._fd, READ, self._read)

    def _read(self, ready: int) -> None:
        """Read until nothing is left: what TLS has decrypted already makes no socket ready."""
        t_ns = 0
        while self.open:
            assert self._sock is not None
            try:
                size = self._sock.recv_into(self._loop.memory)
            except _WAITING:
                return
            except OSError as error:
                self.lost(str(error))
                return
            # What one wake-up brought arrived at one moment, in however many records.
            t_ns = t_ns or monotonic_ns()
            self.arrived(size, t_ns)

    def arrived(self, size: int, t_ns: int) -> None:
        """Take what was read into the loop's memory."""
        response = self._response
        if not size or response is None:
            # Closed; or sent what nobody asked for, which is out of step.
            self.lost(None)
            return
        self._take_counted(response)
        try:
            response.feed(size, t_ns)
        except httptools.HttpParserError as error:
            if response.complete:
                response.keep_alive = False
                self._responded(response)
            else:
                self.lost(f"not HTTP/1.1: {error}", not_http=True)
            return
        if response.complete:
            self._responded(response)
        elif self._tls is None:
            self._loop.reads.expect(self._fd, response.plain)

    @property
    def t_counted_ns(self) -> int:
        """Return when the last event came that was counted and is not known to the response, 0 if there is none."""
        return self._loop.reads.t_counted_ns(self._fd) if self.open else 0

    def _take_counted(self, response: Response) -> None:
        chunks, t_ns = self._loop.reads.take(self._fd)
        if chunks:
            response.count_plain(chunks, t_ns)

    def _responded(self, response: Response) -> None:
        owner = self._owner
        assert owner is not None
        self._response = self._owner = None
        self._loop.reads.expect(self._fd, None)
        self.t_idle_ns = response.t_read_ns
        if self._request is not None or not response.keep_alive:
            # Refused before it was all sent, or not to be used again.
            self.abort()
        owner.responded()

    def lost(self, why: str | None, *, not_http: bool = False) -> None:
        """Close a connection that broke, or that the server closed."""
        response, owner = self._response, self._owner
        if response is not None:
            self._take_counted(response)
        self._response = self._owner = None
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
        self._owner = self._response = self._request = None
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
