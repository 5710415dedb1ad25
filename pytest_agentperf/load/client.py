"""Streams chat completions over HTTP/1.1, thousands at a time in one thread.

One connection per agent, reused between its turns while it is fresh. No retries, no redirects: whatever happens
to a request is its result (METHODOLOGY §4.5).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.redact import redact
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.address import Addresses
from pytest_agentperf.load.answer import answer_of
from pytest_agentperf.load.connection import Connection
from pytest_agentperf.load.keeping import KeptResponse
from pytest_agentperf.load.response import Response
from pytest_agentperf.load.reuse import Reuse
from pytest_agentperf.load.shape import Shapes
from pytest_agentperf.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.core.records import Answer, RequestKey
    from pytest_agentperf.load.keeping import AnswerKeeper
    from pytest_agentperf.load.loop import Loop

_SWEEP_STEPS = 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the headers every one carries (secrets included: never printed)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What the server may know and say besides those headers: the password of a hub, for instance."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The ruleset's time limits of one request, in nanoseconds."""

    connect_ns: int
    first_token_ns: int
    stall_ns: int
    request_ns: int


class HttpClient:
    """The `InferenceClient` for real endpoints; lives in one `Loop`."""

    def __init__(
        self,
        loop: Loop,
        target: Target,
        build_body: Callable[[RequestKey], bytes],
        timeouts: Timeouts,
        *,
        counter: TokenCounter | None = None,
        keeper: AnswerKeeper | None = None,
        keeps_connections: bool = False,
        prefix_head: Callable[[RequestKey], int] | None = None,
    ) -> None:
        """Resolve the host; where that fails, every request will say so.

        `keeps_connections`: it is known that the server keeps them open; otherwise that is found out first.
        `prefix_head(key)`: what is recorded of the isolation prefix in the body that was just built.
        """
        self.loop = loop
        self.timeouts = timeouts
        self.counter = counter
        self.keeper = keeper
        self.shapes = Shapes()
        self._build_body = build_body
        self._prefix_head = prefix_head
        parts = urlsplit(target.url)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl_context(target.ca_file) if parts.scheme == "https" else None
        self._head = _head(target, self.host, self.port, parts.path)
        self._secrets = [*target.headers.values(), *target.secrets]
        self._idle: dict[int, Connection] = {}
        self._reuse = Reuse(loop, trusted=keeps_connections)
        self._in_flight: set[Exchange] = set()
        self.closed = False
        self.addresses: Addresses | None = None
        self.unresolved: OSError | None = None
        try:
            self.addresses = Addresses(self.host, self.port)
        except OSError as error:
            self.unresolved = error
        except UnicodeError as error:  # no host name at all
            self.unresolved = OSError(str(error))
        limits = (timeouts.connect_ns, timeouts.first_token_ns, timeouts.stall_ns, timeouts.request_ns)
        self._sweep_ns = min(NS_PER_S, *(limit // 4 for limit in limits))
        self._unchecked: list[Exchange] = []
        self._watchdog = loop.call_at(monotonic_ns(), self._watch)

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> Exchange:
        """Send one request; `on_answer` runs in the loop after it has ended."""
        body = self._build_body(key)
        # One copy, from the segments' join to the kernel's: at 500 kB a body that is felt.
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        keeper = self.keeper
        kept = keeper is not None and keeper.wants(key)
        exchange = Exchange(self, key, on_answer, request, len(body), kept=kept)
        if self._prefix_head is not None:
            exchange.prefix_head = self._prefix_head(key)
        self._in_flight.add(exchange)
        exchange.start(self._idle.pop(key.agent, None))
        return exchange

    def close(self) -> None:
        """Close every connection at once; requests in flight get no answer."""
        self.closed = True
        self._watchdog.cancel()
        for exchange in list(self._in_flight):
            exchange.cancel()
        self._reuse.close()
        for connection in self._idle.values():
            connection.abort()
        self._idle.clear()

    def ended(self, exchange: Exchange, connection: Connection | None) -> None:
        """Take a finished exchange and keep its connection, if it may carry another request."""
        self._in_flight.discard(exchange)
        if connection is None or not connection.open:
            return
        if self._reuse.trusted:
            self._idle[exchange.key.agent] = connection
        else:
            self._reuse.put_aside(connection)

    def keep(self, exchange: Exchange) -> None:
        """Keep a whole answer that is in the sample."""
        response = exchange.response
        if self.keeper is not None and isinstance(response, KeptResponse):
            self.keeper.keep(exchange.key, response, response.content().first_text)

    def scrub(self, text: str) -> str:
        """Return the text without the secrets that a server may echo."""
        return redact(text, self._secrets)

    def _watch(self) -> None:
        """Look at a few of the requests in flight: all at once would hold up the reads."""
        now_ns = monotonic_ns()
        if not self._unchecked:
            self._unchecked = list(self._in_flight)
        unchecked = self._unchecked
        share = max(1, -(-len(self._in_flight) // _SWEEP_STEPS))
        for exchange in unchecked[-share:]:
            if not exchange.ended:
                exchange.check(now_ns)
        del unchecked[-share:]
        self._watchdog = self.loop.call_at(now_ns + self._sweep_ns // _SWEEP_STEPS, self._watch)


class Exchange:
    """One request and what came back for it; the `Owner` of its connection meanwhile."""

    __slots__ = (
        "_client",
        "_connection",
        "_kept",
        "_on_answer",
        "_request",
        "_t_connect_ns",
        "body_bytes",
        "cancelled",
        "connect_ns",
        "ended",
        "failure",
        "failure_detail",
        "key",
        "prefix_head",
        "reconnects",
        "response",
        "t_end_ns",
        "t_sent_ns",
    )

    def __init__(
        self,
        client: HttpClient,
        key: RequestKey,
        on_answer: Callable[[Answer], None],
        request: bytes,
        body_bytes: int,
        *,
        kept: bool = False,
    ) -> None:
        self.key = key
        self.body_bytes = body_bytes
        self.prefix_head: int | None = None
        self.t_sent_ns = monotonic_ns()
        self.t_end_ns = 0
        self.connect_ns: int | None = None
        self.reconnects = 0
        """Kept connections that turned out to be closed before a byte of the request was taken."""
        self.response: Response | None = None
        self.failure: str | None = None
        self.failure_detail: str | None = None
        self.ended = False
        self.cancelled = False
        self._client = client
        self._on_answer = on_answer
        self._request = request
        self._kept = kept
        self._connection: Connection | None = None
        self._t_connect_ns = self.t_sent_ns

    def start(self, kept: Connection | None) -> None:
        """Send on the agent's kept connection, or on a new one."""
        if kept is not None and kept.open:
            if self.t_sent_ns - kept.t_idle_ns >= kept.reuse_ns:
                kept.abort()
            elif kept.closed_by_server():
                kept.abort()
                self.reconnects = 1
            else:
                self._connection = kept
                if self._carry():
                    return
                self.response = None
                self.reconnects = 1
        client = self._client
        if client.addresses is None:
            self.connect_failed(client.unresolved or OSError("no address"))
            return
        self._connection = Connection(client.loop, client.host, client.addresses, client.tls)
        self._t_connect_ns = monotonic_ns()
        self._connection.connect(self.key.agent, self)

    def _carry(self) -> bool:
        assert self._connection is not None
        client = self._client
        memory, view = client.loop.memory, client.loop.view
        if self._kept and client.keeper is not None:
            self.response = client.keeper.response(memory, view, client.shapes)
        else:
            self.response = Response(memory, view, client.shapes)
        return self._connection.carry(self._request, self.response, self)

    @property
    def t_first_ns(self) -> int | None:
        """Return when the first token came."""
        return None if self.response is None else self.response.t_first_token_ns

    def cancel(self) -> None:
        """Call the request off: its connection closes, no answer comes."""
        self.cancelled = True
        self._abort()
        self._end()

    def fail(self, failure: str, detail: str | None) -> None:
        """End the request as a failure."""
        self.failure, self.failure_detail = failure, detail
        self._abort()
        self._end()

    def check(self, now_ns: int) -> None:
        """End the request if one of its time limits has passed."""
        limits = self._client.timeouts
        age_ns = now_ns - self.t_sent_ns
        response = self.response
        if age_ns > limits.request_ns:
            self.fail("timeout_request", None)
        elif response is None:
            connection = self._connection
            waited_ns = now_ns - self._t_connect_ns
            # Each address gets its share of the time, or one that swallows packets would hide the next.
            if connection is None:
                return
            if age_ns > limits.connect_ns:
                self.fail("timeout_connect", None)
            elif waited_ns > limits.connect_ns // max(1, connection.alternatives):
                self._t_connect_ns = now_ns
                connection.try_next()
        elif response.t_first_token_ns is None:
            if age_ns > limits.first_token_ns:
                self.fail("timeout_first_token", None)
        elif self._connection is not None:
            t_last_ns = max(response.t_progress_ns, self._connection.t_counted_ns)
            if now_ns - t_last_ns > limits.stall_ns:
                self.fail("stalled", None)

    # What the connection tells

    def connected(self) -> None:
        """Send the request."""
        self.connect_ns = monotonic_ns() - self.t_sent_ns
        if not self._carry():
            self.fail("closed_before_response", "connection closed by the server")

    def connect_failed(self, error: OSError) -> None:
        """No connection, no answer."""
        self._connection = None
        ours = error.errno in _OUR_ERRNOS
        self.fail("client_resources" if ours else "connect", str(error) or type(error).__name__)

    def sent(self) -> None:
        """Let go of the request's bytes."""
        self._request = b""

    def responded(self) -> None:
        """The response has ended, in one way or another."""
        response, connection = self.response, self._connection
        assert response is not None
        assert connection is not None
        if not response.complete:
            if connection.not_http:
                self.failure = "malformed"
            elif response.status is None:
                self.failure = "closed_before_response"
            elif response.status == 200:
                self.failure = "cut"
            self.failure_detail = connection.error or (
                "connection closed by the server inside the response"
                if response.started
                else "connection closed by the server"
            )
        elif connection.open and response.keep_alive_s is not None:
            connection.keep_alive(response.keep_alive_s)
        self._end()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.t_end_ns = monotonic_ns()
        self._request = b""
        if self.response is not None:
            self.response.release()
        connection, self._connection = self._connection, None
        self._client.ended(self, connection)
        if not self.cancelled:
            # After the reads at hand: the next request and its body can wait for them.
            self._client.loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        if not (self.cancelled or self._client.closed):
            answer = answer_of(self, self._client.counter, self._client.scrub)
            if self._kept and answer.failure is None:
                self._client.keep(self)
            self._on_answer(answer)


def _head(target: Target, host: str, port: int, path: str) -> bytes:
    named = f"[{host}]" if ":" in host else host
    lines = [
        f"POST {path.rstrip('/')}/chat/completions HTTP/1.1",
        f"Host: {named}:{port}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        *(f"{name}: {value}" for name, value in target.headers.items()),
        "Content-Length: ",
    ]
    return "\r\n".join(lines).encode("latin-1")


# This machine ran out of descriptors, ports or memory: no failure of the server.
_OUR_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
