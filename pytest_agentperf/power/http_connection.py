"""One URL, asked again and again over one kept connection: bounded in time and size, following nothing."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httptools

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_READ_BYTES = 256 * 1024
_HEAD_BYTES_MAX = 64 * 1024
_SAFE = "/:@!$&'()*+,;=%~-._?"


class NotAnswered(Exception):
    """Why there is no body; reads on from `host:port `."""


class HttpConnection:
    """Sends GET requests to one URL. An HTTP library costs several times as much per request."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        request_s: float,
        body_bytes_max: int,
        context: ssl.SSLContext | None,
    ) -> None:
        """`context`: for https. `request_s` bounds a whole request, connecting included."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context if parts.scheme == "https" else None
        path = quote(parts.path or "/", safe=_SAFE) + (
            f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
        )
        lines = [f"GET {path} HTTP/1.1", f"Host: {_ascii(parts.netloc)}", "User-Agent: pytest-agentperf"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._request_s = request_s
        self._body_bytes_max = body_bytes_max
        self._socket: socket.socket | None = None

    def get(self) -> bytes:
        """Return the body of a 200; raises NotAnswered for everything else."""
        deadline_ns = monotonic_ns() + round(self._request_s * NS_PER_S)
        try:
            kept = self._still_open()
            answer = self._ask(deadline_ns)
            if answer is None and kept:
                # It had been closed for being idle, and was not asked: a new connection is.
                answer = self._ask(deadline_ns)
            if answer is None:
                raise NotAnswered("closed the connection without an answer: is it running?")
        except TimeoutError:
            self.close()
            raise NotAnswered(f"did not answer within {self._request_s:g} s") from None
        except (OSError, UnicodeError) as error:
            self.close()
            said = str(error).rstrip(".") or type(error).__name__
            raise NotAnswered(f"cannot be reached ({said}): is it running, and is the port open?") from None
        except BaseException:
            self.close()
            raise
        if not answer.keeps:
            self.close()
        return bytes(answer.body)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _still_open(self) -> bool:
        """Return whether there is a connection that nothing has arrived on: what would is its end."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(0):
            self.close()
        return self._socket is not None

    def _ask(self, deadline_ns: int) -> Answer | None:
        """Send the request and read the answer; None if the connection was closed before its first byte."""
        if self._socket is None:
            self._socket = self._connect(deadline_ns)
        connection = self._socket
        answer = Answer(self._body_bytes_max)
        try:
            connection.settimeout(_left_s(deadline_ns))
            connection.sendall(self._request)
            while not answer.complete:
                connection.settimeout(_left_s(deadline_ns))
                if not (data := connection.recv(_READ_BYTES)):
                    break
                answer.feed(data)
        except (ConnectionResetError, BrokenPipeError):
            if answer.received:
                raise
            data = b""
        if not answer.received:
            self.close()
            return None
        if not answer.complete:
            answer.end()
        return answer

    def _connect(self, deadline_ns: int) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), timeout=_left_s(deadline_ns))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                return plain
            plain.settimeout(_left_s(deadline_ns))
            return self._context.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise


class Answer:
    """One response while it arrives."""

    def __init__(self, body_bytes_max: int) -> None:
        self.body = bytearray()
        self.complete = False
        self.keeps = False
        self.received = 0
        self._body_bytes_max = body_bytes_max
        self._in_head = True
        self._has_length = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what has arrived; raises NotAnswered."""
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            # The parser wraps what its callbacks raise.
            if isinstance(error.__context__, NotAnswered):
                raise error.__context__ from None
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise NotAnswered("does not speak HTTP: is this the right URL?") from None
        if self._in_head and self.received > _HEAD_BYTES_MAX:
            raise NotAnswered("sends an endless HTTP header: is this the right URL?")

    def end(self) -> None:
        """Take the end of the connection: that of a body whose length was not told."""
        if self._in_head or self._has_length:
            raise NotAnswered("closed the connection in the middle of its answer")
        self.complete = True

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Keep no connection on which something follows a whole answer."""
        if self.complete:
            self.keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how the body's end is told; refuse a compressed one."""
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise NotAnswered("sends a compressed body though none was asked for")

    def on_headers_complete(self) -> None:
        """Refuse every status but 200; an interim answer (1xx) comes before the real one."""
        status = self._parser.get_status_code()
        if status >= 200 and not self.complete:
            self._in_head = False
            if status != 200:
                raise NotAnswered(_status(status))

    def on_body(self, data: bytes) -> None:
        """Add to the body, up to its bound."""
        if self.complete:
            return
        self.body += data
        if len(self.body) > self._body_bytes_max:
            raise NotAnswered(f"sends more than {self._body_bytes_max // 2**20} MiB: is this the right URL?")

    def on_message_complete(self) -> None:
        """Note that all is there."""
        if not self._in_head and not self.complete:
            self.complete = True
            self.keeps = self._parser.should_keep_alive()


def _left_s(deadline_ns: int) -> float:
    left_ns = deadline_ns - monotonic_ns()
    if left_ns <= 0:
        raise TimeoutError
    return left_ns / NS_PER_S


def _ascii(netloc: str) -> str:
    return netloc if netloc.isascii() else netloc.encode("idna").decode("ascii")


def _status(status: int) -> str:
    if status in (401, 403):
        return f"refuses access (HTTP {status}): check the user and password"
    if 300 <= status < 400:
        return f"redirects (HTTP {status}), which is not followed: give the final URL"
    return f"answers HTTP {status}"
