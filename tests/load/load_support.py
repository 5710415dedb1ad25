"""Shared by the load generator's tests: peers that send exact bytes, scripted clients, small trajectories."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.core.records import Answer, RequestKey
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.client import HttpClient, Target, Timeouts
from pytest_agentperf.load.loop import Loop
from pytest_agentperf.load.segment_writer import SegmentWriter
from pytest_agentperf.load.segments import Segments

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterable, Iterator, Mapping

    from pytest_agentperf.core.ports import Clock, TokenCounter
    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.load.client import Exchange
    from pytest_agentperf.load.connection import Connection
    from pytest_agentperf.load.keeping import AnswerKeeper

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
DEMO_SET = ROOT / "fixtures" / "datasets" / "demo-v1"
SHARED = ROOT.parent / "shared" / "data"
MS = 1_000_000
WAIT_S = 10.0
"""Bounds every wait for something that happens at once when all is well."""


def key(agent: int = 0, turn: int = 0, *, ordinal: int = 0, trajectory: str = "t1") -> RequestKey:
    return RequestKey(phase=1, attempt=0, agent=agent, ordinal=ordinal, trajectory=trajectory, turn=turn)


def segments(*trajectories: Trajectory) -> Segments:
    """Encode trajectories and open what was written; what is mapped stays when its files go."""
    with tempfile.TemporaryDirectory() as folder:
        with SegmentWriter(Path(folder)) as writer:
            for trajectory in trajectories:
                writer.add(trajectory)
            writer.finish()
        return Segments(Path(folder))


# Streams


def data(value: object) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> bytes:
    """Return the event of a chunk with one choice."""
    return data({"id": "r1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


def usage(prompt: int = 10, output: int = 3, /, **more: Any) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": output, **more}
    return data({"id": "r1", "choices": [], "usage": counts})


DONE = b"data: [DONE]\n\n"
ROLE = delta(role="assistant", content="")
EVENTS = (ROLE, delta(content="a"), delta(content="b"), delta("stop"), usage(), DONE)
STREAM = b"".join(EVENTS)


# HTTP


class Received(NamedTuple):
    """A request as it came in."""

    number: int
    connection: int
    accepted_ns: int
    head: bytes
    body: bytes


def head(status: str = "200 OK", *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", "Content-Type: text/event-stream", *lines, "", "")).encode()


def fixed(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    return head(status, f"Content-Length: {len(body)}", *lines) + body


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def chunked(parts: Iterable[bytes], *lines: str) -> bytes:
    return head("200 OK", "Transfer-Encoding: chunked", *lines) + b"".join(map(chunk, parts)) + b"0\r\n\r\n"


class RawServer:
    """Reads whole requests and lets `respond` write any bytes; `respond` returns True to close the connection.

    Runs in a thread of its own: the client's loop stands still while a test waits for the server.
    """

    def __init__(self, respond: Respond, *, early: bool) -> None:
        self._respond = respond
        self._early = early
        self.requests: list[Received] = []
        self.connections = 0
        self.port = 0
        self.tls = False
        self.open: set[asyncio.Task[Any]] = set()
        self.writers: list[asyncio.StreamWriter] = []
        self.loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted_ns = monotonic_ns()
        connection, self.connections = self.connections, self.connections + 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        self.writers.append(writer)
        try:
            while True:
                first = await reader.readuntil(b"\r\n\r\n")
                length = int(first.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = b"" if self._early else await reader.readexactly(length)
                received = Received(len(self.requests), connection, accepted_ns, first, body)
                self.requests.append(received)
                if await self._respond(received, writer):
                    break
                await writer.drain()
                while self._early and await reader.read(1 << 16):
                    pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.open.discard(task)

    async def close(self, server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()
        # A connection that is being accepted has a task, which closes it once it has begun.
        await asyncio.sleep(0)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        # One whose TLS handshake was under way waits for its peer before it closes.
        for transport in list(getattr(self.loop, "_transports", {}).values()):
            transport.abort()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Let the server's thread call something, such as a method of a connection's transport."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def wait_closed(self) -> None:
        """Wait until no connection is open any more."""
        wait_for(lambda: not self.open)


Respond = Callable[[Received, asyncio.StreamWriter], Awaitable[bool | None]]


@contextmanager
def raw_server(
    respond: Respond, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, early: bool = False
) -> Iterator[RawServer]:
    """Serve on a free port; at the end no connection may be open. `early`: respond before the body is read."""
    raw = RawServer(respond, early=early)
    raw.tls = tls is not None
    with background_loop() as loop:
        raw.loop = loop

        def run(coroutine: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT_S)

        server = run(asyncio.start_server(raw.serve, host, 0, ssl=tls))
        raw.port = server.sockets[0].getsockname()[1]
        try:
            yield raw
            raw.wait_closed()
        finally:
            run(raw.close(server))


@contextmanager
def background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An asyncio loop in a thread; what a callback raised fails the test."""
    problems: list[Mapping[str, Any]] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert problems == []


def answering(response: bytes, *, close: bool = False) -> Respond:
    """Return a `respond` that always gives the same bytes."""

    async def respond(received: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(response)
        return close

    return respond


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection the hard way."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silence(received: Received, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""


# Waiting


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what other threads or the kernel do."""
    deadline_ns = monotonic_ns() + round(WAIT_S * NS_PER_S)
    while not condition():
        assert monotonic_ns() < deadline_ns, "it did not come to that"
        time.sleep(0.001)


def run_until(loop: Loop, condition: Callable[[], bool]) -> None:
    """Let a loop work until something has come to pass."""
    deadline_ns = monotonic_ns() + round(WAIT_S * NS_PER_S)

    def look() -> None:
        if condition():
            loop.stop()
            return
        assert monotonic_ns() < deadline_ns, "it did not come to that"
        loop.call_at(monotonic_ns() + MS, look)

    loop.call_soon(look)
    loop.run()


def run_for(loop: Loop, duration_ns: int) -> None:
    """Let a loop work for a while: what must not happen could happen now."""
    loop.call_at(monotonic_ns() + duration_ns, loop.stop)
    loop.run()


# The client


LONG_NS = 60 * NS_PER_S
PATIENT = Timeouts(LONG_NS, LONG_NS, LONG_NS, LONG_NS)


class Client:
    """An `HttpClient` in a loop that works only while an answer is awaited."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http
        self.answers: list[Answer] = []

    def send(self, request: RequestKey) -> Exchange:
        return self.http.send(request, self.answers.append)

    def ask(self, agent: int = 0, turn: int = 0) -> Answer:
        return self.ask_all([key(agent, turn)])[0]

    def ask_all(self, requests: Iterable[RequestKey]) -> list[Answer]:
        found: dict[RequestKey, Answer] = {}
        requests = list(requests)
        for request in requests:
            self.http.send(request, lambda answer, request=request: found.__setitem__(request, answer))  # type: ignore[misc]
        self.until(lambda: len(found) == len(requests))
        return [found[request] for request in requests]

    def until(self, condition: Callable[[], bool]) -> None:
        run_until(self.http.loop, condition)

    def kept(self, agent: int = 0) -> Connection:
        return self.http._idle[agent]

    def wait_for_bytes(self, connection: Connection | None) -> None:
        """Wait until the kernel has something for the client, or an end."""
        assert connection is not None
        sock = connection._sock
        assert sock is not None
        wait_for(lambda: bool(select.select([sock], [], [], 0)[0]))


@contextmanager
def connected(
    url: str,
    *,
    timeouts: Timeouts = PATIENT,
    counter: TokenCounter | None = None,
    build_body: Callable[[RequestKey], bytes] | None = None,
    keeper: AnswerKeeper | None = None,
    keeps_connections: bool = True,
    **target: Any,
) -> Iterator[Client]:
    loop = Loop()
    http = HttpClient(
        loop,
        Target(url, **target),
        build_body or body,
        timeouts,
        counter=counter,
        keeper=keeper,
        keeps_connections=keeps_connections,
    )
    try:
        yield Client(http)
    finally:
        http.close()
        loop.close()


def body(request: RequestKey) -> bytes:
    return json.dumps({"agent": request.agent, "turn": request.turn, "text": "é" * 3_000}).encode()


# What a worker tells at the end of a phase.
HEALTH = {"lag_p50_s": 0.0, "lag_p99_s": 0.001, "lag_max_s": 0.002, "send_late_p99_s": 0.0, "cpu_share": 0.1}


def phase_spec(n_agents: int, **changes: Any) -> PhaseSpec:
    """Return a phase whose agents all begin at once."""
    fields: dict[str, Any] = {
        "phase": 1,
        "attempt": 0,
        "kind": "fixed",
        "n_agents": n_agents,
        "stagger_ns": 0,
        "seed": 0,
        "nonce": "n",
        "trajectories": ("t",),
        "failure_wait_ns": 0,
    }
    return PhaseSpec(**(fields | changes))


# Virtual time


class Sent(NamedTuple):
    """A request that a scripted client was given."""

    t_ns: int
    key: RequestKey


class ScriptedRequest:
    """In flight until its answer is due or it is called off."""

    def __init__(self, client: ScriptedClient, first_due_ns: int | None) -> None:
        self._client = client
        self._first_due_ns = first_due_ns
        self.cancelled = False

    @property
    def t_first_ns(self) -> int | None:
        due_ns = self._first_due_ns
        return due_ns if due_ns is not None and due_ns <= self._client.now_ns() else None

    def cancel(self) -> None:
        self.cancelled = True
        self._client.cancelled += 1


class ScriptedClient:
    """Answers each request after the duration, and with the fields, that `script` gives for its key."""

    def __init__(self, clock: Clock, script: Callable[[RequestKey], tuple[int, Mapping[str, Any]]]) -> None:
        self._clock = clock
        self._script = script
        self.now_ns = clock.now_ns
        self.sent: list[Sent] = []
        self.cancelled = 0

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> ScriptedRequest:
        t_sent_ns = self._clock.now_ns()
        self.sent.append(Sent(t_sent_ns, key))
        duration_ns, fields = self._script(key)
        first_ns = fields.get("t_first_ns")
        request = ScriptedRequest(self, first_ns)

        def answer() -> None:
            if not request.cancelled:
                on_answer(Answer(t_sent_ns, self._clock.now_ns(), **fields))

        self._clock.call_at(t_sent_ns + duration_ns, answer)
        return request

    def close(self) -> None:
        """Nothing is open."""
