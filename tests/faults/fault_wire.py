"""Faults of a server or of the network as bytes on a socket, and what the client makes of one request."""

from __future__ import annotations

import socket
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from load_support import (
    DONE,
    EVENTS,
    MS,
    ROLE,
    answering,
    chunk,
    chunked,
    connected,
    data,
    delta,
    fixed,
    head,
    raw_server,
    reset,
    silence,
    usage,
)

from pytest_agentperf.load.client import Timeouts

if TYPE_CHECKING:
    import asyncio

    from load_support import Received, Respond

_SECOND = 1_000 * MS
PATIENT = Timeouts(20 * _SECOND, 20 * _SECOND, 20 * _SECOND, 20 * _SECOND)
_HASTY = Timeouts(20 * _SECOND, 200 * MS, 200 * MS, 20 * _SECOND)
_STREAMING = head("200 OK", "Transfer-Encoding: chunked")
_BEGINNING = _STREAMING + chunk(ROLE) + chunk(delta(content="a"))


class Wire(NamedTuple):
    """How a server responds, and the client's patience."""

    respond: Respond | None
    """None: nobody listens."""
    timeouts: Timeouts = PATIENT


async def _reset(received: Received, writer: asyncio.StreamWriter) -> bool:
    writer.write(_BEGINNING)
    await writer.drain()
    reset(writer)
    return True


def _refusing(status: str, text: str) -> Respond:
    return answering(fixed(data({"error": {"message": text}}), status))


WIRES: dict[str, Wire] = {
    "429 for requests": Wire(_refusing("429 Too Many Requests", "slow down")),
    "500 for requests": Wire(_refusing("500 Internal Server Error", "oops")),
    "503 for requests": Wire(_refusing("503 Service Unavailable", "overloaded")),
    "a page of HTML with status 200": Wire(answering(fixed(b"<html>Welcome</html>"))),
    "an event that is no JSON": Wire(answering(chunked([ROLE, b"data: {oops\n\n", DONE]))),
    "an error inside the stream": Wire(answering(chunked([ROLE, data({"error": "out of blocks"}), DONE]))),
    "an over-long prompt, told inside the stream": Wire(
        answering(chunked([data({"error": "the prompt is longer than the maximum model length"})]))
    ),
    "a stream without usage": Wire(answering(chunked([ROLE, delta(content="a"), delta("stop"), DONE]))),
    "a stream without output": Wire(answering(chunked([ROLE, delta("stop"), usage(10, 0), DONE]))),
    "a stream cut off": Wire(answering(_BEGINNING, close=True)),
    "a connection closed before the response": Wire(answering(b"", close=True)),
    "a connection closed after every stream, though kept by promise": Wire(
        answering(chunked(EVENTS, "Keep-Alive: timeout=5, max=100"), close=True)
    ),
    "a stall in the middle of a stream": Wire(answering(_BEGINNING), _HASTY),
    "no first token": Wire(silence, _HASTY),
    "bytes that are not HTTP": Wire(answering(b"\x16\x03\x01 hello\r\n\r\n", close=True)),
    "headers without an end": Wire(answering(b"HTTP/1.1 200 OK\r\n" + b"X-Pad: x\r\n" * 20_000, close=True)),
    "a header of a megabyte": Wire(answering(b"HTTP/1.1 200 OK\r\nX-Pad: " + b"x" * (1 << 20), close=True)),
    "a connection that is reset": Wire(_reset),
    "a connection that is refused": Wire(None),
}


@cache
def failure_of(name: str) -> str | None:
    """Return what a request that meets the fault is recorded as, over a real socket; None for an answer."""
    wire = WIRES[name]
    if wire.respond is None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with connected(
                f"http://127.0.0.1:{unused.getsockname()[1]}/v1", timeouts=wire.timeouts
            ) as client:
                return client.ask().failure
    with (
        raw_server(wire.respond) as server,
        connected(server.url, timeouts=wire.timeouts, keeps_connections=False) as client,
    ):
        # Twice: what becomes of a connection is seen by the next request.
        return [client.ask(turn=turn).failure for turn in range(2)][-1]


@cache
def death_of_an_engine() -> tuple[str | None, ...]:
    """Return what becomes of the request that kills an engine behind its front, and of the next ones."""
    dead = _refusing("503 Service Unavailable", "the generation loop has died")
    left = [answering(chunked([data({"error": "No requests can be scheduled"})]))]

    async def respond(received: Received, writer: asyncio.StreamWriter) -> bool:
        return bool(await (left.pop() if left else dead)(received, writer))

    with raw_server(respond) as server, connected(server.url, keeps_connections=False) as client:
        return tuple(client.ask(turn=turn).failure for turn in range(3))
