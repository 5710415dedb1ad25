"""Streams chat completions over HTTP/1.1: raw reads with nanosecond stamps, decoded after the response closed.

One connection per agent, reused between its turns while it is fresh. No retries, no redirects: whatever happens
to a request is its result (METHODOLOGY §4.5).
"""

from __future__ import annotations

import asyncio
import errno
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
from pytest_agentperf.core.records import Answer, RequestKey
from pytest_agentperf.core.redact import redact
from pytest_agentperf.load.sse import StreamContent, decode
from pytest_agentperf.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor

    from pytest_agentperf.core.ports import TokenCounter

# A server's idle limit is 5 s in uvicorn (and so in vLLM); a request that meets the closing of its connection
# would be lost, so older idle connections are replaced. The new connection's set-up counts in TTFT.
REUSE_MAX_IDLE_NS = 3 * NS_PER_S
_WATCHDOG_S = 0.1
_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the headers every one carries (secrets included: never printed)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The ruleset's time limits of one request, in nanoseconds."""

    connect_ns: int
    first_token_ns: int
    stall_ns: int
    request_ns: int


class HttpClient:
    """The `InferenceClient` for real endpoints."""

    def __init__(
        self,
        target: Target,
        build_body: Callable[[RequestKey], bytes],
        timeouts: Timeouts,
        *,
        decoder: Executor,
        counter: TokenCounter | None = None,
    ) -> None:
        self._build_body = build_body
        self._timeouts = timeouts
        self._decoder = decoder
        self._counter = counter
        self._loop = asyncio.get_running_loop()
        parts = urlsplit(target.url)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl_context() if parts.scheme == "https" else None
        path = parts.path.rstrip("/") + "/chat/completions"
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {host}:{self.port}",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            *(f"{name}: {value}" for name, value in target.headers.items()),
        ]
        self._head = "\r\n".join(lines).encode("latin-1") + b"\r\nContent-Length: "
        self._secrets = list(target.headers.values())
        self._idle: dict[int, _Connection] = {}
        self._in_flight: set[_Exchange] = set()
        self._closed = False
        self._watchdog = self._loop.call_later(_WATCHDOG_S, self._watch)

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> _Exchange:
        """Send one request; `on_answer` runs in the loop when it has ended and is decoded."""
        body = self._build_body(key)
        request = self._head + b"%d\r\n\r\n" % len(body) + body
        exchange = _Exchange(self, key, on_answer, request, len(body))
        self._in_flight.add(exchange)
        connection = self._idle.pop(key.agent, None)
        if connection is not None and connection.fresh(exchange.t_sent_ns):
            connection.carry(exchange)
        else:
            if connection is not None:
                connection.abort()
            exchange.task = self._loop.create_task(self._connect(exchange))
        return exchange

    def close(self) -> None:
        """Close every connection at once; requests in flight, or not yet decoded, get no answer."""
        self._closed = True
        self._watchdog.cancel()
        for exchange in list(self._in_flight):
            exchange.cancel()
        for connection in self._idle.values():
            connection.abort()
        self._idle.clear()

    async def _connect(self, exchange: _Exchange) -> None:
        try:
            _, connection = await self._loop.create_connection(
                _Connection,
                self.host,
                self.port,
                ssl=self.tls,
                server_hostname=self.host if self.tls else None,
            )
        except OSError as error:  # an SSLError is one
            exchange.fail(
                "client_resources" if _is_ours(error) else "connect", str(error) or type(error).__name__
            )
            return
        exchange.connect_ns = monotonic_ns() - exchange.t_sent_ns
        if exchange.ended:
            connection.abort()
        else:
            connection.carry(exchange)

    def ended(self, exchange: _Exchange, connection: _Connection | None, *, reusable: bool) -> None:
        """Take a finished exchange: keep or close its connection, decode it off the loop."""
        self._in_flight.discard(exchange)
        if connection is not None:
            if reusable:
                self._idle[exchange.key.agent] = connection
            else:
                connection.abort()
        if not exchange.cancelled:
            future = self._loop.run_in_executor(self._decoder, partial(_answer, exchange, self._counter))
            future.add_done_callback(partial(self._deliver, exchange))

    def _deliver(self, exchange: _Exchange, future: asyncio.Future[Answer]) -> None:
        if self._closed or exchange.cancelled or future.cancelled():
            return
        exchange.on_answer(future.result())

    def scrub(self, text: str) -> str:
        """Return the text without the secrets that a server may echo."""
        return redact(text, self._secrets)

    def _watch(self) -> None:
        self._watchdog = self._loop.call_later(_WATCHDOG_S, self._watch)
        now_ns = monotonic_ns()
        for exchange in list(self._in_flight):
            if overdue := exchange.overdue(now_ns, self._timeouts):
                exchange.fail(overdue, None)


class _Exchange:
    """One request and what came back for it."""

    def __init__(
        self,
        client: HttpClient,
        key: RequestKey,
        on_answer: Callable[[Answer], None],
        request: bytes,
        body_bytes: int,
    ) -> None:
        self.client = client
        self.key = key
        self.on_answer = on_answer
        self.request = request
        self.body_bytes = body_bytes
        self.t_sent_ns = monotonic_ns()
        self.t_end_ns = 0
        self.connect_ns: int | None = None
        self.task: asyncio.Task[None] | None = None
        self.connection: _Connection | None = None
        self.status: int | None = None
        self.reads: list[tuple[int, bytes]] = []
        self.failure: str | None = None
        self.failure_detail: str | None = None
        self.ended = False
        self.cancelled = False

    def cancel(self) -> None:
        """Call the request off: its connection closes, no answer comes."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()
        self._end(reusable=False)

    def fail(self, failure: str, detail: str | None) -> None:
        """End the request as a failure."""
        self.failure = self.failure or failure
        self.failure_detail = self.failure_detail or detail
        if self.task is not None and self.connection is None:
            self.task.cancel()
        self._end(reusable=False)

    def complete(self, *, reusable: bool) -> None:
        """The response is complete."""
        self._end(reusable=reusable)

    def overdue(self, now_ns: int, timeouts: Timeouts) -> str | None:
        """Return the limit that has passed, if any."""
        age_ns = now_ns - self.t_sent_ns
        if age_ns > timeouts.request_ns:
            return "timeout_request"
        if self.connection is None:
            return "timeout_connect" if age_ns > timeouts.connect_ns else None
        if not self.reads:
            return "timeout_first_token" if age_ns > timeouts.first_token_ns else None
        return "stalled" if now_ns - self.reads[-1][0] > timeouts.stall_ns else None

    def _end(self, *, reusable: bool) -> None:
        if self.ended:
            return
        self.ended = True
        self.t_end_ns = monotonic_ns()
        self.request = b""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.exchange = None
        self.client.ended(self, connection, reusable=reusable)


class _Connection(asyncio.Protocol):
    """One connection; parses response after response."""

    def __init__(self) -> None:
        self.exchange: _Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._t_read_ns = 0
        self._until_close = True
        self._in_body = False

    def carry(self, exchange: _Exchange) -> None:
        """Send the exchange's request on this connection."""
        assert self._transport is not None
        if self._transport.is_closing():
            # Closed before the request was written: no further callback would end the exchange.
            exchange.fail("closed_before_response", "connection closed by the server")
            return
        self.exchange = exchange
        exchange.connection = self
        self._parser = httptools.HttpResponseParser(self)
        self._until_close = True
        self._in_body = False
        self._transport.write(exchange.request)
        exchange.request = b""

    def fresh(self, now_ns: int) -> bool:
        """Return whether the connection may carry another request."""
        open_ = self._transport is not None and not self._transport.is_closing()
        return open_ and now_ns - self._t_read_ns < REUSE_MAX_IDLE_NS

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; the loop has set TCP_NODELAY."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Stamp the read, let the parser cut out the body."""
        self._t_read_ns = monotonic_ns()
        if self.exchange is None or self._parser is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.exchange is not None:
                self.exchange.fail("malformed", f"not HTTP/1.1: {error}")
            # More than the response came: the connection is out of step.
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """End the exchange: complete if the body lasts until the close, cut otherwise."""
        exchange = self.exchange
        # A cycle otherwise, and the collector is off while a phase runs.
        self._parser = None
        if exchange is None:
            return
        if error is None and self._in_body and self._until_close:
            exchange.complete(reusable=False)
        elif exchange.status is None:
            exchange.fail(
                "closed_before_response", str(error) if error else "connection closed by the server"
            )
        else:
            exchange.fail(
                "cut", str(error) if error else "connection closed by the server inside the response"
            )

    # httptools callbacks
    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how the body's end is told."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_close = False

    def on_headers_complete(self) -> None:
        """Note the status."""
        assert self._parser is not None
        if self.exchange is not None:
            self.exchange.status = self._parser.get_status_code()
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        """Keep the bytes with the time of their read."""
        if self.exchange is not None:
            self.exchange.reads.append((self._t_read_ns, body))

    def on_message_complete(self) -> None:
        """The response is whole."""
        assert self._parser is not None
        self._in_body = False
        if self._parser.get_status_code() < 200:
            # An interim response (RFC 9110 §15.2): the final one follows.
            self._until_close = True
            return
        if self.exchange is not None:
            self.exchange.complete(reusable=bool(self._parser.should_keep_alive()))


def _answer(exchange: _Exchange, counter: TokenCounter | None) -> Answer:
    """Decode a finished exchange; runs in the decoder's thread."""
    failure, detail = exchange.failure, exchange.failure_detail
    status = exchange.status
    content = StreamContent()
    if failure is None and status is not None and status != 200:
        failure = "rate_limited" if status == 429 else f"http_{status // 100}xx"
        # Cut short only after secrets were taken out: half a key is one too.
        body = b"".join(data for _, data in exchange.reads)[: 16 * _DETAIL_CHARS]
        detail = f"HTTP {status}: {body.decode(errors='replace')}"
    elif failure is None:
        content = decode(exchange.reads)
        failure, detail = content.failure, content.failure_detail
    if detail is not None:
        detail = exchange.client.scrub(detail)[:_DETAIL_CHARS]
    first_tokens, source = _first_chunk_tokens(content, counter)
    return Answer(
        t_sent_ns=exchange.t_sent_ns,
        t_end_ns=exchange.t_end_ns,
        failure=failure,
        failure_detail=detail,
        status=status,
        connect_ns=exchange.connect_ns,
        t_first_ns=content.t_first_ns,
        t_last_ns=content.t_last_ns,
        prompt_tokens=content.prompt_tokens,
        cached_tokens=content.cached_tokens,
        output_tokens=content.output_tokens,
        reasoning_tokens=content.reasoning_tokens,
        first_chunk_tokens=first_tokens,
        first_chunk_source=source,
        content_chunks=content.content_chunks,
        finish_reason=content.finish_reason,
        response_id=content.response_id,
        body_bytes=exchange.body_bytes,
    )


def _first_chunk_tokens(
    content: StreamContent, counter: TokenCounter | None
) -> tuple[int | None, str | None]:
    """Return n₁ and where it comes from: running usage, else the tokenizer, else one token per chunk."""
    if content.t_first_ns is None:
        return None, None
    if content.first_tokens is not None:
        return content.first_tokens, "usage"
    if counter is not None:
        return max(1, counter.count(content.first_text)), "tokenizer"
    return content.first_chunks, "assumed"


_OUR_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


def _is_ours(error: OSError) -> bool:
    """Return whether this machine ran out of descriptors, ports or memory: no failure of the server."""
    # Several addresses tried in vain come as one error that has their numbers in its text only.
    numbers = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    return bool(_OUR_ERRNOS & (numbers | {error.errno}))
