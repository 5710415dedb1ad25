"""Shared by the load generator's tests: peers that send exact bytes, scripted clients, small trajectories."""

from __future__ import annotations

import asyncio
import inspect
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.records import Answer, RequestKey

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from pytest_agentperf.core.ports import Clock
    from pytest_agentperf.core.trajectory import Trajectory

ROOT = Path(__file__).parents[2]
DEMO_SET = ROOT / "fixtures" / "datasets" / "demo-v1"
SHARED = ROOT.parent / "shared" / "data"
MS = 1_000_000
NS_PER_S = 1_000_000_000
WAIT_S = 10.0
"""Bounds every wait for something that happens at once when all is well."""


def key(agent: int = 0, turn: int = 0, *, ordinal: int = 0, trajectory: str = "t1") -> RequestKey:
    return RequestKey(phase=1, attempt=0, agent=agent, ordinal=ordinal, trajectory=trajectory, turn=turn)


class OneSource:
    """A `TrajectorySource` of given trajectories; counts how often each was loaded."""

    name = "given"
    digest = "0" * 64

    def __init__(self, *trajectories: Trajectory) -> None:
        self._trajectories = {trajectory.id: trajectory for trajectory in trajectories}
        self.loads: list[str] = []

    def ids(self) -> Sequence[str]:
        return sorted(self._trajectories)

    def load(self, trajectory_id: str) -> Trajectory:
        self.loads.append(trajectory_id)
        return self._trajectories[trajectory_id]


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
    """Reads whole requests and lets `respond` write any bytes; `respond` returns True to close the connection."""

    def __init__(self, respond: Callable[[Received, asyncio.StreamWriter], Awaitable[bool | None]]) -> None:
        self._respond = respond
        self.requests: list[Received] = []
        self.connections = 0
        self.port = 0
        self.tls = False
        self.open: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted_ns = monotonic_ns()
        connection, self.connections = self.connections, self.connections + 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            while True:
                first = await reader.readuntil(b"\r\n\r\n")
                length = int(first.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                received = Received(len(self.requests), connection, accepted_ns, first, body)
                self.requests.append(received)
                if await self._respond(received, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(task)
            writer.close()

    async def all_closed(self) -> None:
        """Wait until no connection is open any more."""
        if self.open:
            _, pending = await asyncio.wait(set(self.open), timeout=WAIT_S)
            assert not pending, "the client left a connection open"


@asynccontextmanager
async def raw_server(
    respond: Callable[[Received, asyncio.StreamWriter], Awaitable[bool | None]],
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """Serve on a free port; at the end no connection may be open."""
    raw = RawServer(respond)
    server = await asyncio.start_server(raw.serve, host, 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    raw.tls = tls is not None
    try:
        yield raw
        await raw.all_closed()
    finally:
        for task in list(raw.open):
            task.cancel()
        server.close()
        await server.wait_closed()


def answering(response: bytes, *, close: bool = False) -> Any:
    """Return a `respond` that always gives the same bytes."""

    async def respond(received: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(response)
        return close

    return respond


async def silence(received: Received, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""


# Event loops


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return loops
    return {**loops, "uvloop": uvloop.new_event_loop}


def on_every_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on asyncio's loop and on uvloop; what a callback raised fails it."""

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        problems: list[Mapping[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
            await test(**arguments)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert problems == []

    loops = _loops()
    extra = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([extra, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    run.__name__ = test.__name__
    run.__module__ = test.__module__
    parametrized: Callable[..., None] = pytest.mark.parametrize("loop_factory", loops.values(), ids=loops)(
        run
    )
    return parametrized


# Virtual time


class Sent(NamedTuple):
    """A request that a scripted client was given."""

    t_ns: int
    key: RequestKey


class ScriptedRequest:
    """In flight until its answer is due or it is called off."""

    def __init__(self, client: ScriptedClient) -> None:
        self._client = client
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        self._client.cancelled += 1


class ScriptedClient:
    """Answers each request after the duration, and with the fields, that `script` gives for its key."""

    def __init__(self, clock: Clock, script: Callable[[RequestKey], tuple[int, Mapping[str, Any]]]) -> None:
        self._clock = clock
        self._script = script
        self.sent: list[Sent] = []
        self.cancelled = 0

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> ScriptedRequest:
        t_sent_ns = self._clock.now_ns()
        self.sent.append(Sent(t_sent_ns, key))
        duration_ns, fields = self._script(key)
        request = ScriptedRequest(self)

        def answer() -> None:
            if not request.cancelled:
                on_answer(Answer(t_sent_ns, self._clock.now_ns(), **fields))

        self._clock.call_at(t_sent_ns + duration_ns, answer)
        return request

    def close(self) -> None:
        """Nothing is open."""
