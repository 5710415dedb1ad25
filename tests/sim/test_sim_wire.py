"""What the server does with bytes that no well-behaved client sends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from sim_support import engine_config

from pytest_agentperf.sim.server import ServerOptions, SimApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio

BODY = json.dumps(
    {
        "model": "agentperf-sim",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 2,
        "stream": True,
    }
).encode()


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    app = SimApp(engine_config(), ServerOptions(max_body_bytes=10_000))
    yield await app.listen("127.0.0.1", 0)
    await app.close()


async def exchange(port: int, *sent: bytes) -> bytes:
    """Send pieces one after the other and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in sent:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def post(body: bytes, *headers: bytes) -> bytes:
    lines = (b"POST /v1/chat/completions HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers)
    return b"\r\n".join((*lines, b"", body))


async def test_a_response_arrives_chunked_and_the_connection_stays(port: int) -> None:
    answer = await exchange(port, post(BODY), b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
    stream, _, health = answer.partition(b"0\r\n\r\n")
    assert b"transfer-encoding: chunked" in stream
    assert stream.endswith(b"data: [DONE]\n\n\r\n")
    assert health.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in health


async def test_requests_sent_ahead_are_answered_in_order(port: int) -> None:
    closing = b"GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n"
    answer = await exchange(port, post(BODY) + post(BODY) + closing)
    assert answer.count(b"[DONE]") == 2
    assert answer.index(b"404 Not Found") > answer.rindex(b"[DONE]")


async def test_a_body_in_pieces_and_in_chunks(port: int) -> None:
    request = post(BODY, b"connection: close")
    assert b"[DONE]" in await exchange(port, *(request[i : i + 7] for i in range(0, len(request), 7)))
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    chunked = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert b"[DONE]" in await exchange(port, chunked)


async def test_a_client_that_waits_for_100_gets_it(port: int) -> None:
    request = post(BODY, b"expect: 100-continue", b"connection: close")
    assert (await exchange(port, request)).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n"])
async def test_malformed_http_is_a_400(port: int, garbage: bytes) -> None:
    answer = await exchange(port, garbage)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == 400


async def test_an_upgrade_is_refused(port: int) -> None:
    request = b"GET /health HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert (await exchange(port, request)).startswith(b"HTTP/1.1 400")


async def test_an_announced_long_body_is_a_413(port: int) -> None:
    answer = await exchange(port, post(b"x" * 400_000))
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_long_chunked_body_is_a_413(port: int) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = await exchange(port, head, *(b"%x\r\n%b\r\n" % (3_000, b"x" * 3_000) for _ in range(5)))
    assert answer.startswith(b"HTTP/1.1 413")


async def test_long_headers_are_a_431(port: int) -> None:
    answer = await exchange(port, b"GET /health HTTP/1.1\r\nx: " + b"x" * 100_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431")


async def test_an_old_client_is_closed_after_its_response(port: int) -> None:
    answer = await exchange(port, b"GET /health HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
