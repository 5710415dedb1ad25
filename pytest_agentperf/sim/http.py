"""HTTP/1.1 on asyncio transports: requests in, fixed or chunked responses out."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_HEADER_BYTES = 64 * 1024
# Requests that a client may send ahead on one connection before it is cut off.
MAX_QUEUED = 16
# How long a client that was refused may go on sending.
LINGER_S = 2.0

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class HttpRequest(NamedTuple):
    """A complete request; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """One request and the response to it; everything after the response's end or a disconnect is ignored."""

    __slots__ = ("_connection", "_keep_alive", "on_disconnect", "open", "request")

    def __init__(self, connection: HttpConnection, request: HttpRequest, *, keep_alive: bool) -> None:
        self.request = request
        self.on_disconnect: Callable[[], None] | None = None
        self.open = True
        self._connection = connection
        self._keep_alive = keep_alive

    def respond(self, status: int, body: bytes, content_type: str, *, extra: str = "") -> None:
        """Send a complete response."""
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n{extra}{self._connection_header()}\r\n"
        )
        self._write(head.encode("latin-1") + body)
        self._end()

    def respond_json(self, status: int, value: object, *, extra: str = "") -> None:
        """Send a complete JSON response."""
        self.respond(status, json.dumps(value).encode(), "application/json", extra=extra)

    def stream_head(self) -> bytes:
        """Return the head of an SSE response, to be written together with the first chunk."""
        return (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            f"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n{self._connection_header()}\r\n"
        ).encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send part of a stream, framed by `chunk` already."""
        self._write(data)

    def end_stream(self, data: bytes = b"") -> None:
        """Send the rest of a stream and its end."""
        self._write(data + b"0\r\n\r\n")
        self._end()

    def cut(self) -> None:
        """Close the connection in the middle of the response."""
        self.open = False
        self._connection.close()

    def _connection_header(self) -> str:
        return "" if self._keep_alive else "connection: close\r\n"

    def _write(self, data: bytes) -> None:
        if self.open:
            self._connection.write(data)

    def _end(self) -> None:
        if self.open:
            self.open = False
            self._connection.ended(keep_alive=self._keep_alive)


def chunk(data: bytes) -> bytes:
    """Frame data for chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class HttpConnection(asyncio.Protocol):
    """One connection; `handler` gets the exchanges one at a time."""

    def __init__(
        self, handler: Callable[[Exchange], None], connections: set[HttpConnection], max_body_bytes: int
    ) -> None:
        self._handler = handler
        self._connections = connections
        self._max_body_bytes = max_body_bytes
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._current: Exchange | None = None
        self._queued: deque[Exchange] = deque()
        self._broken = False
        self._lingers = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; small writes must not wait for each other's acknowledgement."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "Upgrades are not supported.")
        except httptools.HttpParserError as error:
            # An error raised in one of our callbacks arrives here too; then the refusal is out already.
            if not self._broken:
                self._refuse(400, f"Malformed HTTP: {error}")
        # Not from within the parser, which would take an error of the handler for one of its own.
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that nobody listens any more."""
        self._connections.discard(self)
        self._transport = None
        self._broken = True
        self._queued.clear()
        current, self._current = self._current, None
        if current is not None:
            current.open = False
            if current.on_disconnect is not None:
                current.on_disconnect()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Start a request."""
        self._reset()

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count_header(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Refuse a body that is announced as too long, ask for one that waits to be asked for."""
        if self._broken:
            return
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            self._refuse_body()
        elif self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            self._refuse_body()
        elif not self._broken:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Queue the request behind those before it."""
        if self._broken:
            return
        request = HttpRequest(
            method=self._parser.get_method().decode("latin-1"),
            path=self._url.partition(b"?")[0].decode("latin-1"),
            headers=self._headers,
            body=b"".join(self._body),
        )
        exchange = Exchange(self, request, keep_alive=self._parser.should_keep_alive())
        if len(self._queued) < MAX_QUEUED:
            self._queued.append(exchange)
        else:
            self.close()

    # For Exchange

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None:
            self._transport.write(data)

    def ended(self, *, keep_alive: bool) -> None:
        """Go on after a response."""
        self._current = None
        if self._lingers:
            self._linger()
        elif not keep_alive:
            self.close()
        else:
            self._next()

    def close(self) -> None:
        """Close the connection once what was written is sent."""
        self._broken = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._broken = True
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        if self._current is None and self._queued and not self._broken:
            self._current = self._queued.popleft()
            self._handler(self._current)

    def _linger(self) -> None:
        # Closing while the client still sends would reset the connection, and the refusal with it.
        transport = self._transport
        if transport is not None:
            transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES and not self._broken:
            self._refuse(431, "The request's headers are too large.")

    def _refuse_body(self) -> None:
        if not self._broken:
            self._refuse(413, f"The body is larger than {self._max_body_bytes} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be parsed; the rest of the connection cannot be trusted."""
        self._broken = self._lingers = True
        if self._current is not None:
            self.close()
            return
        error = {"message": message, "type": "BadRequestError", "param": None, "code": status}
        request = HttpRequest("", "", {}, b"")
        self._current = Exchange(self, request, keep_alive=False)
        self._current.respond_json(status, {"error": error})
