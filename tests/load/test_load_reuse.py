"""Servers that keep connections, and those that only promise to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from load_support import EVENTS, answering, chunked, connected, raw_server

from pytest_agentperf.load import reuse

if TYPE_CHECKING:
    import pytest
    from load_support import Received, Respond

PROMISE = "Keep-Alive: timeout=5, max=100"


def closing_later(seconds: float) -> Respond:
    """Promise to keep the connection, and close it a moment after the stream, as llama.cpp's server does."""

    async def respond(request: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(chunked(EVENTS, PROMISE))
        await writer.drain()
        await asyncio.sleep(seconds)
        return True

    return respond


def test_no_request_meets_the_closing_of_a_connection() -> None:
    with raw_server(closing_later(0.02)) as server, connected(server.url, keeps_connections=False) as client:
        for turn in range(40):
            # At once after the answer, where the server has not closed yet.
            assert client.ask(agent=turn % 3, turn=turn).failure is None
        client.until(lambda: client.http._reuse._decided)
        assert not client.http._reuse.trusted
        assert client.ask(turn=40).failure is None
    assert server.connections == 41


def test_a_server_that_keeps_them_is_trusted_once_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "PROOF_NS", 50_000_000)
    with (
        raw_server(answering(chunked(EVENTS))) as server,
        connected(server.url, keeps_connections=False) as client,
    ):
        before = [client.ask(turn=turn) for turn in range(2)]
        client.until(lambda: client.http._reuse.trusted)
        after = [client.ask(turn=turn) for turn in range(2, 5)]
    assert not any(answer.failure for answer in (*before, *after))
    assert before[0].connect_ns is not None
    assert [answer.connect_ns is None for answer in after[1:]] == [True, True]


def test_what_is_on_trial_is_closed_with_the_client() -> None:
    with raw_server(answering(chunked(EVENTS))) as server:
        with connected(server.url, keeps_connections=False) as client:
            assert client.ask().failure is None
        server.wait_closed()
