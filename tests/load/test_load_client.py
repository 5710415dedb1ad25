from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import random
import select
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from load_support import (
    DONE,
    EVENTS,
    LONG_NS,
    MS,
    ROLE,
    STREAM,
    WAIT_S,
    answering,
    body,
    chunk,
    chunked,
    connected,
    delta,
    fixed,
    head,
    key,
    raw_server,
    reset,
    run_for,
    silence,
    usage,
    wait_for,
)

from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.client import Target, Timeouts
from pytest_agentperf.load.connection import REUSE_MAX_IDLE_NS, Connection
from pytest_agentperf.load.reads import ignore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from load_support import Client, RawServer, Received, Respond

    from pytest_agentperf.core.records import Answer
    from pytest_agentperf.load.client import Exchange

API_KEY = "sk-0123456789abcdef-é"
CHUNKED = head("200 OK", "Transfer-Encoding: chunked")
END = b"0\r\n\r\n"


def limits(**changes: int) -> Timeouts:
    """Return limits that are far away, but for the given ones."""
    return Timeouts(
        **{f"{name}_ns": LONG_NS for name in ("connect", "first_token", "stall", "request")} | changes
    )


def turns(server: RawServer) -> list[int]:
    return [json.loads(request.body)["turn"] for request in server.requests]


def times(answer: Answer) -> list[int]:
    assert answer.t_first_ns is not None
    assert answer.t_last_ns is not None
    return [answer.t_sent_ns, answer.t_first_ns, answer.t_last_ns, answer.t_end_ns]


def assert_ok(answer: Answer) -> None:
    assert (answer.failure, answer.failure_detail, answer.status) == (None, None, 200)
    assert (answer.prompt_tokens, answer.output_tokens, answer.finish_reason) == (10, 3, "stop")
    assert times(answer) == sorted(times(answer))


# Requests and connections


def test_a_stream_and_the_request_that_asked_for_it() -> None:
    with raw_server(answering(chunked(EVENTS))) as server:
        headers = {"Authorization": f"Bearer {API_KEY}", "X-Trace": "1"}
        with connected(server.url + "/", headers=headers) as client:
            answer = client.ask(agent=5, turn=2)
            assert client.http.host == "127.0.0.1"
    assert_ok(answer)
    assert (answer.response_id, answer.content_chunks, answer.reconnects) == ("r1", 2, 0)
    # Both chunks in one read, or not: that is TCP's to decide.
    assert answer.first_chunk_tokens in (1, 2)
    assert answer.first_chunk_source == "assumed"
    (request,) = server.requests
    assert request.body == body(key(5, 2))
    assert answer.body_bytes == len(request.body)
    first, *lines = request.head.decode("latin-1").split("\r\n")
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert f"Authorization: Bearer {API_KEY}" in lines
    assert "X-Trace: 1" in lines
    assert "Content-Type: application/json" in lines


def test_the_set_up_of_a_connection_counts() -> None:
    with raw_server(answering(chunked(EVENTS))) as server, connected(server.url) as client:
        answer = client.ask()
    assert answer.connect_ns is not None
    assert answer.connect_ns > 0
    assert answer.t_sent_ns < server.requests[0].accepted_ns
    assert answer.t_first_ns is not None
    assert answer.t_sent_ns + answer.connect_ns <= answer.t_first_ns


def test_an_agent_keeps_its_connection_between_turns() -> None:
    with raw_server(answering(chunked(EVENTS))) as server, connected(server.url) as client:
        answers = [client.ask(agent, turn) for turn in range(3) for agent in range(2)]
    for answer in answers:
        assert_ok(answer)
    assert [answer.connect_ns is None for answer in answers] == [False, False, True, True, True, True]
    assert [request.connection for request in server.requests] == [0, 1, 0, 1, 0, 1]


def test_many_agents_at_once_each_ask_once() -> None:
    with raw_server(answering(chunked(EVENTS))) as server, connected(server.url) as client:
        for turn in range(3):
            for answer in client.ask_all(key(agent, turn) for agent in range(40)):
                assert_ok(answer)
    asked = [json.loads(request.body) for request in server.requests]
    assert sorted((found["agent"], found["turn"]) for found in asked) == [
        (agent, turn) for agent in range(40) for turn in range(3)
    ]
    assert server.connections == 40


@pytest.mark.parametrize(
    ("header", "idle_ns", "reused"),
    [
        ("X: y", REUSE_MAX_IDLE_NS, False),
        ("X: y", REUSE_MAX_IDLE_NS // 2, True),
        ("Keep-Alive: timeout=1", NS_PER_S // 2, False),
        ("Keep-Alive: timeout=20, max=100", NS_PER_S // 2, True),
        ("keep-alive: max=5, TIMEOUT=0", 0, False),
        # It never makes ours longer.
        ("Keep-Alive: timeout=1000", REUSE_MAX_IDLE_NS, False),
        ("Keep-Alive: timeout=1e999", REUSE_MAX_IDLE_NS, False),
        ("Keep-Alive: timeout=1e999", NS_PER_S // 2, True),
        ("Keep-Alive: timeout=soon", NS_PER_S // 2, True),
        ("Keep-Alive: 5", NS_PER_S // 2, True),
    ],
)
def test_how_long_a_connection_may_idle(header: str, idle_ns: int, reused: bool) -> None:
    with raw_server(answering(chunked(EVENTS, header))) as server, connected(server.url) as client:
        client.ask()
        # As if the tool had run that long.
        client.kept().t_idle_ns -= idle_ns
        answer = client.ask(turn=1)
    assert_ok(answer)
    assert (answer.connect_ns is None) == reused
    assert answer.reconnects == 0
    assert [request.connection for request in server.requests] == [0, 0 if reused else 1]


@contextmanager
def one_kept_connection() -> Iterator[tuple[RawServer, Client]]:
    with raw_server(answering(chunked(EVENTS))) as server, connected(server.url) as client:
        assert_ok(client.ask())
        yield server, client


@pytest.mark.parametrize("end", [asyncio.StreamWriter.close, reset])
def test_a_kept_connection_that_the_server_closed_is_found_out_before_a_request_is_lost(end: Any) -> None:
    with one_kept_connection() as (server, client):
        server.call(end, server.writers[0])
        client.wait_for_bytes(client.kept())
        answer = client.ask(turn=1)
        assert_ok(answer)
        assert answer.connect_ns is not None
        assert answer.reconnects == 1
        assert (turns(server), server.connections) == ([0, 1], 2)
        assert client.ask(turn=2).reconnects == 0


def test_a_close_that_the_loop_saw_is_no_reconnect() -> None:
    with one_kept_connection() as (server, client):
        kept = client.kept()
        server.call(server.writers[0].transport.close)
        client.until(lambda: not kept.open)
        answer = client.ask(turn=1)
        assert_ok(answer)
        assert answer.connect_ns is not None
        assert answer.reconnects == 0
        assert (turns(server), server.connections) == ([0, 1], 2)


def test_a_kept_connection_that_takes_no_byte_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reset comes between the look at the connection and the sending."""
    with one_kept_connection() as (server, client):
        server.call(reset, server.writers[0])
        client.wait_for_bytes(client.kept())
        monkeypatch.setattr(Connection, "closed_by_server", lambda _: False)
        exchange = client.send(key(turn=1))
        # What is to come is the connecting, with its own time limit.
        assert exchange.response is None
        client.until(lambda: bool(client.answers))
        assert_ok(client.answers[0])
        assert client.answers[0].reconnects == 1
        assert (turns(server), server.connections) == ([0, 1], 2)


def test_bytes_that_nobody_asked_for_end_a_kept_connection() -> None:
    with one_kept_connection() as (server, client):
        server.call(server.writers[0].transport.write, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        client.wait_for_bytes(client.kept())
        answer = client.ask(turn=1)
        assert_ok(answer)
        assert answer.reconnects == 1
        assert (turns(server), server.connections) == ([0, 1], 2)


def test_bytes_that_nobody_asked_for_end_an_idle_connection_in_the_loop() -> None:
    with one_kept_connection() as (server, client):
        kept = client.kept()
        server.call(server.writers[0].transport.write, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        client.until(lambda: not kept.open)
        assert_ok(client.ask(turn=1))
        assert server.connections == 2


@pytest.mark.parametrize(
    ("response", "closes"),
    [
        (chunked(EVENTS), True),
        (chunked(EVENTS, "Connection: close"), False),
        (chunked(EVENTS, "Connection: close"), True),
        (fixed(STREAM, "200 OK", "Connection: close"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(STREAM) + STREAM, False),
        (head() + STREAM, True),
        (b"HTTP/1.0 200 OK\r\n\r\n" + STREAM, True),
    ],
)
def test_a_connection_is_not_reused_where_the_server_ends_it(response: bytes, closes: bool) -> None:
    with raw_server(answering(response, close=closes)) as server, connected(server.url) as client:
        for turn in range(3):
            answer = client.ask(turn=turn)
            assert_ok(answer)
            assert answer.connect_ns is not None
            client.until(lambda: not server.open)
    assert [request.connection for request in server.requests] == [0, 1, 2]


# Responses


@pytest.mark.parametrize(
    "response",
    [
        chunked(EVENTS),
        chunked([STREAM]),
        chunked([bytes([byte]) for byte in STREAM]),
        fixed(STREAM),
        head("200 OK", "transfer-encoding: CHUNKED")
        + b"1;ext=1\r\n:\r\n"
        + chunk(b"\n\n" + STREAM)
        + b"0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + fixed(STREAM),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + chunked(EVENTS),
    ],
)
def test_framings(response: bytes) -> None:
    with raw_server(answering(response)) as server, connected(server.url) as client:
        answers = [client.ask(turn=turn) for turn in range(2)]
    for answer in answers:
        assert_ok(answer)
    assert server.connections == 1


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_response_in_any_pieces(size: int) -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        response = chunked(EVENTS)
        for start in range(0, len(response), size):
            writer.write(response[start : start + size])
            await asyncio.sleep(0)

    with raw_server(respond) as server, connected(server.url) as client:
        assert_ok(client.ask())


def test_tokens_have_the_time_of_their_read() -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(ROLE + b": wait\n\n"))
        await asyncio.sleep(0.02)
        writer.write(chunk(delta(content="a")))
        await asyncio.sleep(0.05)
        writer.write(chunk(delta(content="b") + delta("stop") + usage() + DONE) + END)

    with raw_server(respond) as server, connected(server.url) as client:
        answer = client.ask()
    assert_ok(answer)
    assert answer.connect_ns is not None
    sent, first, last, _ = times(answer)
    assert sent + answer.connect_ns < first < last
    assert (answer.first_chunk_tokens, answer.content_chunks) == (1, 2)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_what_a_proxy_held_back_until_the_end_is_all_one_first_chunk(
    tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS as well, where each write of the server's is a record, and so a read of its own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    tokens = [delta(content=f"{number} ") for number in range(100)]
    parts = [CHUNKED, *map(chunk, (ROLE, *tokens, delta("stop"), usage(10, 100), DONE)), END]
    released, written = asyncio.Event(), threading.Event()

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        if received.number:
            await released.wait()
        for part in parts if tls else [b"".join(parts)]:
            writer.write(part)
        await writer.drain()
        if received.number:
            written.set()

    with (
        raw_server(respond, tls=server_side(certificate) if tls else None) as server,
        connected(server.url) as client,
    ):
        # The first answer teaches the client how plain events look.
        assert client.ask().failure is None
        client.send(key(turn=1))
        client.until(lambda: len(server.requests) == 2)
        server.call(released.set)
        wait_for(written.is_set)
        client.until(lambda: bool(client.answers))
    (answer,) = client.answers
    assert (answer.failure, answer.content_chunks) == (None, 100)
    assert answer.t_first_ns == answer.t_last_ns
    assert (answer.first_chunk_tokens, answer.first_chunk_source) == (100, "assumed")


@pytest.mark.parametrize("extra", [b"garbage", fixed(STREAM), b"\x00", b"\r\n"])
def test_bytes_after_the_response_are_no_part_of_the_next(extra: bytes) -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(EVENTS) + (extra if received.number == 0 else b""))

    with raw_server(respond) as server, connected(server.url) as client:
        for turn in range(3):
            assert_ok(client.ask(turn=turn))
    assert turns(server) == [0, 1, 2]


def test_plain_events_after_the_response_are_no_part_of_it() -> None:
    token = delta(content="x")
    response = chunked([ROLE, token, token, delta("stop"), usage(), DONE]) + chunk(token)
    with raw_server(answering(response)) as server, connected(server.url) as client:
        for turn in range(3):
            answer = client.ask(turn=turn)
            assert_ok(answer)
            assert answer.content_chunks == 2
    assert turns(server) == [0, 1, 2]


class Characters:
    """A `TokenCounter` of characters."""

    def count(self, text: str) -> int:
        return len(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        return [self.count(text) for text in texts]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (delta(content="abcd"), (4, "tokenizer")),
        (delta(content="abcd")[:-3] + b', "usage": {"completion_tokens": 2}}\n\n', (2, "usage")),
    ],
)
def test_the_tokens_of_the_first_chunk(first: bytes, expected: tuple[int, str]) -> None:
    response = chunked([first, delta("stop"), usage(10, 9), DONE])
    with raw_server(answering(response)) as server, connected(server.url, counter=Characters()) as client:
        answer = client.ask()
    assert (answer.first_chunk_tokens, answer.first_chunk_source) == expected


# Refusals


def tricky(status: str) -> bytes:
    return fixed(f'{{"error": "no, {API_KEY}!", "é": 1}}'.encode(), status)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("400 Bad Request", "http_4xx"),
        ("401 Unauthorized", "http_4xx"),
        ("413 Content Too Large", "http_4xx"),
        ("429 Too Many Requests", "rate_limited"),
        ("500 Internal Server Error", "http_5xx"),
        ("503 Service Unavailable", "http_5xx"),
        ("204 No Content", "http_2xx"),
    ],
)
@pytest.mark.parametrize(
    "secretly",
    [{"headers": {"Authorization": f"Bearer {API_KEY}"}}, {"secrets": (API_KEY,)}],
    ids=["in a header", "in none"],
)
def test_a_refusal_is_a_failure_that_shows_the_servers_words(
    status: str, reason: str, secretly: dict[str, Any]
) -> None:
    response = head(status) if status.startswith("204") else tricky(status)
    with (
        raw_server(answering(response)) as server,
        connected(server.url, **secretly) as client,
    ):
        answer = client.ask()
        assert (answer.failure, answer.status) == (reason, int(status[:3]))
        assert answer.failure_detail is not None
        assert answer.failure_detail.startswith(f"HTTP {status[:3]}:")
        if not status.startswith("204"):
            assert 'error": "no, ***!", "é"' in answer.failure_detail
        assert (answer.t_first_ns, answer.output_tokens, answer.first_chunk_tokens) == (None, None, None)
        # A refusal does not cost the connection.
        assert client.ask(turn=1).connect_ns is None
    assert turns(server) == [0, 1]


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_not_obeyed(status: str) -> None:
    response = fixed(b"later", status, "Retry-After: 3600")
    with raw_server(answering(response)) as server, connected(server.url) as client:
        answers = [client.ask(turn=turn) for turn in range(2)]
    assert {answer.failure for answer in answers} == {"rate_limited" if "429" in status else "http_5xx"}
    assert turns(server) == [0, 1]


def test_of_a_long_refusal_only_the_beginning_is_kept() -> None:
    response = fixed(b"No. " * 500_000, "500 Internal Server Error")
    with raw_server(answering(response)) as server, connected(server.url) as client:
        exchange = client.send(key())
        client.until(lambda: bool(client.answers))
        assert exchange.response is not None
        assert len(exchange.response.error_text()) < 20_000
        assert client.ask(turn=1).connect_ns is None
    (answer,) = client.answers
    assert answer.failure == "http_5xx"
    assert answer.failure_detail is not None
    assert answer.failure_detail.startswith("HTTP 500: No. No.")
    assert len(answer.failure_detail) == 300


@pytest.mark.parametrize("before", [*range(255, 300), 1_170, 4_770])
def test_no_part_of_the_key_gets_into_the_detail(before: int) -> None:
    text = "x" * before + f"Bearer {API_KEY}" + "y" * 3_000
    with (
        raw_server(answering(fixed(text.encode(), "400 Bad Request"))) as server,
        connected(server.url, headers={"Authorization": f"Bearer {API_KEY}"}) as client,
    ):
        detail = client.ask().failure_detail
    assert detail is not None
    assert len(detail) <= 300
    assert "sk-0" not in detail


def test_no_part_of_the_key_gets_into_the_detail_of_a_stream() -> None:
    error = f'data: {{"error": "{"x" * 270} {API_KEY}"}}\n\n'.encode()
    with (
        raw_server(answering(fixed(error))) as server,
        connected(server.url, headers={"x-api-key": API_KEY}) as client,
    ):
        answer = client.ask()
        assert API_KEY not in repr(Target(server.url, {"x-api-key": API_KEY}))
    assert answer.failure == "error_in_stream"
    assert "sk-0" not in (answer.failure_detail or "")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(status: str) -> None:
    with raw_server(answering(chunked(EVENTS))) as other:
        response = fixed(b"", status, f"Location: {other.url}/chat/completions")
        with raw_server(answering(response)) as server, connected(server.url) as client:
            answer = client.ask()
        assert (answer.failure, answer.status) == ("http_3xx", int(status[:3]))
        assert (len(server.requests), len(other.requests)) == (1, 0)


# Failures


@pytest.mark.parametrize(
    ("response", "failure", "status"),
    [
        (b"", "closed_before_response", None),
        (b"HTTP/1.1 200 OK\r\nContent-", "closed_before_response", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed_before_response", None),
        (CHUNKED, "cut", 200),
        (CHUNKED + chunk(STREAM), "cut", 200),
        (CHUNKED + chunk(STREAM)[:-20], "cut", 200),
        (fixed(STREAM)[:-1], "cut", 200),
        (fixed(b"{}", "503 Service Unavailable")[:-1], "http_5xx", 503),
        (fixed(b"{}", "429 Too Many Requests")[:-1], "rate_limited", 429),
        (head() + STREAM[: len(ROLE)], "cut", 200),
        (head() + STREAM[:-200], "cut", 200),
        (head(), "cut", 200),
        (fixed(b""), "cut", 200),
        (fixed(STREAM[: -len(DONE) - len(usage())]), "no_usage", 200),
        (fixed(b'{"choices": []}'), "cut", 200),
        (fixed(b"data: {broken}\n\n" + STREAM), "malformed", 200),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed", None),
        (b"HTTP/1.1 abc\r\n\r\n", "malformed", None),
        (CHUNKED + b"zz\r\n", "malformed", 200),
        (head("101 Switching Protocols", "Upgrade: h2c", "Connection: Upgrade"), "malformed", 101),
        (b"\x15\x03\x01\x00\x02\x02\x16", "malformed", None),
    ],
)
def test_broken_responses(response: bytes, failure: str, status: int | None) -> None:
    with raw_server(answering(response, close=True)) as server, connected(server.url) as client:
        answer = client.ask()
        assert (answer.failure, answer.status) == (failure, status)
        assert answer.failure_detail
        client.until(lambda: not server.open)
        # The agent goes on, on a connection of its own; nothing is sent twice.
        assert client.ask(turn=1).connect_ns is not None
    assert turns(server) == [0, 1]


def test_a_reset_is_a_failure() -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(ROLE))
        await writer.drain()
        await asyncio.sleep(0.02)
        reset(writer)

    with raw_server(respond) as server, connected(server.url) as client:
        answer = client.ask()
    assert (answer.failure, answer.status) == ("cut", 200)
    assert len(server.requests) == 1


@pytest.mark.parametrize("turn", [0, 1], ids=["new", "kept"])
@pytest.mark.parametrize("end", [asyncio.StreamWriter.close, reset])
def test_a_request_that_the_server_took_is_not_sent_again(end: Any, turn: int) -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        if received.number == turn:
            end(writer)
            return
        writer.write(chunked(EVENTS))

    with raw_server(respond) as server, connected(server.url) as client:
        answers = [client.ask(turn=turn) for turn in range(3)]
    expected: list[str | None] = [None, None, None]
    expected[turn] = "closed_before_response"
    assert [answer.failure for answer in answers] == expected
    assert [answer.reconnects for answer in answers] == [0, 0, 0]
    assert turns(server) == [0, 1, 2]


def test_a_connection_closed_as_soon_as_it_is_accepted() -> None:
    """However early the close comes, every request gets an answer."""
    with closing_server() as port, connected(f"http://127.0.0.1:{port}") as client:
        for turn in range(20):
            assert client.ask(turn=turn).failure in ("closed_before_response", "connect")


def test_a_connection_closed_before_the_request_is_written() -> None:
    with closing_server() as port, connected(f"http://127.0.0.1:{port}") as client:
        exchange = client.send(key())
        # The loop stands still until the peer has closed.
        client.wait_for_bytes(exchange._connection)
        client.until(lambda: bool(client.answers))
    assert client.answers[0].failure == "closed_before_response"
    assert client.answers[0].connect_ns is not None


def test_a_new_connection_that_takes_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "carry", lambda *_: False)
    with raw_server(silence) as server, connected(server.url) as client:
        answer = client.ask()
    assert (answer.failure, answer.reconnects) == ("closed_before_response", 0)
    assert server.requests == []


@contextmanager
def closing_server() -> Iterator[int]:
    """Serve a port where every connection is closed at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.01)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    listening.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


# Time limits


async def part(received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED + chunk(ROLE) + chunk(delta(content="a")))


def dripping(*before: bytes) -> Respond:
    """Return a `respond` that goes on and on with comments."""

    async def respond(received: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(CHUNKED + b"".join(map(chunk, before)))
        while not writer.is_closing():
            writer.write(chunk(b": keep-alive\n\n") + chunk(b"event: ping\n\n"))
            await asyncio.sleep(0.01)
        return True

    return respond


@pytest.mark.parametrize(
    ("limit", "limit_ns", "respond", "failure", "status"),
    [
        ("first_token_ns", MS, silence, "timeout_first_token", None),
        ("first_token_ns", 500 * MS, dripping(), "timeout_first_token", 200),
        ("first_token_ns", 500 * MS, dripping(ROLE, delta()), "timeout_first_token", 200),
        ("stall_ns", 500 * MS, part, "stalled", 200),
        ("stall_ns", 500 * MS, dripping(ROLE, delta(content="a")), "stalled", 200),
        ("stall_ns", 500 * MS, dripping(delta(content="a"), delta("stop"), DONE), "stalled", 200),
        ("request_ns", MS, silence, "timeout_request", None),
        ("request_ns", 500 * MS, part, "timeout_request", 200),
        ("request_ns", 500 * MS, dripping(ROLE), "timeout_request", 200),
    ],
)
def test_time_limits(limit: str, limit_ns: int, respond: Any, failure: str, status: int | None) -> None:
    with raw_server(respond) as server, connected(server.url, timeouts=limits(**{limit: limit_ns})) as client:
        answer = client.ask()
        assert (answer.failure, answer.status) == (failure, status)
        assert answer.t_end_ns - answer.t_sent_ns > limit_ns
        server.wait_closed()
    # So early an end may have come before the server had it all.
    assert len(server.requests) in ((1,) if status else (0, 1))


def tokens(exchange: Exchange) -> int:
    """Return how many events with output have come so far."""
    response, connection = exchange.response, exchange._connection
    if response is None or connection is None:
        return 0
    decoded = response._decoder.content.content_chunks
    return decoded + response._plain_chunks + connection._loop.reads._chunks[connection._fd]


def test_a_stream_stalls_from_its_last_event_on_decoded_or_not() -> None:
    released = asyncio.Event()

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(delta(content="a")))
        for _ in range(5):
            await asyncio.sleep(0.01)
            writer.write(chunk(delta(content="a")))
        await released.wait()
        writer.write(chunk(b": ping\n\n"))

    with (
        raw_server(respond) as server,
        connected(server.url, timeouts=limits(stall_ns=30 * NS_PER_S)) as client,
    ):
        exchange = client.send(key())
        connection = exchange._connection
        assert connection is not None
        client.until(lambda: tokens(exchange) == 6)
        response = exchange.response
        assert response is not None
        last_ns = max(connection.t_counted_ns, response.t_progress_ns)
        exchange.check(last_ns + 30 * NS_PER_S)
        assert not exchange.ended
        # Once a read is decoded again, the connection has handed over what it knew.
        server.call(released.set)
        client.until(lambda: response.t_progress_ns >= last_ns)
        exchange.check(last_ns + 30 * NS_PER_S)
        assert not exchange.ended
        exchange.check(last_ns + 30 * NS_PER_S + 1)
        assert exchange.ended
        client.until(lambda: bool(client.answers))
    assert client.answers[0].failure == "stalled"


def test_the_time_limit_of_connecting_includes_tls() -> None:
    with raw_server(silence) as server:
        # The peer accepts, but does not know of TLS and waits for a request's head.
        url = server.url.replace("http:", "https:")
        with connected(url, timeouts=limits(connect_ns=MS)) as client:
            answer = client.ask()
            server.wait_closed()
    assert (answer.failure, answer.connect_ns, server.requests) == ("timeout_connect", None, [])


@contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a port that answers no connection request, for its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(64):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
            if not select.select([], [filler], [], 0.2)[1]:
                break
        else:
            pytest.skip("connections are accepted here without end")
        yield listening.getsockname()[1]


def test_the_time_limit_of_connecting() -> None:
    with (
        deaf_port() as port,
        connected(f"http://127.0.0.1:{port}", timeouts=limits(connect_ns=50 * MS)) as client,
    ):
        answer = client.ask()
    assert (answer.failure, answer.connect_ns, answer.status) == ("timeout_connect", None, None)
    assert answer.t_end_ns - answer.t_sent_ns > 50 * MS


# Addresses


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every host have these addresses."""
    found = [
        (
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (host, port, 0, 0) if ":" in host else (host, port),
        )
        for host, port in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but it does not listen
        yield unused.getsockname()[1]


def test_connect_refused() -> None:
    with closed_port() as port, connected(f"http://127.0.0.1:{port}/v1") as client:
        answer = client.ask()
    assert (answer.failure, answer.status, answer.connect_ns) == ("connect", None, None)
    assert "127.0.0.1" in (answer.failure_detail or "")
    assert answer.t_end_ns >= answer.t_sent_ns


def test_a_host_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with connected("http://no-such-host.invalid/v1") as client:
        answers = [client.ask(turn=turn) for turn in range(2)]
    for answer in answers:
        assert (answer.failure, answer.connect_ns) == ("connect", None)
        assert "not known" in (answer.failure_detail or "")


def test_a_host_whose_name_is_none() -> None:
    with connected("http://a..b/v1") as client:
        answer = client.ask()
    assert answer.failure == "connect"
    assert answer.failure_detail


def test_where_the_first_address_refuses_the_next_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answering(chunked(EVENTS))) as server:
        # As `localhost` is where the server listens on one of its addresses only.
        resolve_to(monkeypatch, ("::1", server.port), ("127.0.0.1", server.port))
        with connected(f"http://localhost:{server.port}/v1") as client:
            answers = client.ask_all(key(agent) for agent in range(3))
            assert client.http.addresses is not None
            # What worked is tried first from then on.
            assert client.http.addresses.for_agent(7)[0].family == socket.AF_INET
    for answer in answers:
        assert_ok(answer)
        assert answer.connect_ns is not None
    assert f"Host: localhost:{server.port}\r\n".encode() in server.requests[0].head


def test_where_all_addresses_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        resolve_to(monkeypatch, ("::1", port), ("127.0.0.1", port), ("127.0.0.1", port))
        with connected(f"http://localhost:{port}/v1") as client:
            answer = client.ask()
    assert answer.failure == "connect"
    assert "127.0.0.1" in (answer.failure_detail or "")


def test_an_address_that_is_out_of_reach_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect` itself fails, as it does without a route: nothing was waited for yet on that descriptor."""
    with raw_server(answering(chunked(EVENTS))) as server, ExitStack() as stack:
        resolve_to(monkeypatch, ("255.255.255.255", server.port), ("127.0.0.1", server.port))
        client = stack.enter_context(connected(server.url))
        for _ in range(200):
            stack.enter_context(socket.socket())
        assert_ok(client.ask())


def test_an_address_that_does_not_answer_gets_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answering(chunked(EVENTS))) as server, deaf_port() as deaf:
        resolve_to(monkeypatch, ("127.0.0.1", deaf), ("127.0.0.1", server.port))
        with connected(server.url, timeouts=limits(connect_ns=2_000 * MS)) as client:
            answer = client.ask()
    assert_ok(answer)
    assert answer.connect_ns is not None
    assert answer.connect_ns >= 1_000 * MS


def test_many_addresses_that_do_not_answer_share_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_port() as deaf:
        resolve_to(monkeypatch, ("127.0.0.1", deaf), ("127.0.0.2", deaf), ("127.0.0.3", deaf))
        with connected("http://localhost/v1", timeouts=limits(connect_ns=6 * NS_PER_S)) as client:
            exchange = client.send(key())
            connection = exchange._connection
            assert connection is not None
            left = []
            for step in range(1, 13):
                exchange.check(exchange.t_sent_ns + step * NS_PER_S // 2)
                left.append(connection.alternatives)
            assert not exchange.ended
            exchange.check(exchange.t_sent_ns + 6 * NS_PER_S + 1)
            assert exchange.ended
            client.until(lambda: bool(client.answers))
    assert client.answers[0].failure == "timeout_connect"
    assert left == sorted(left, reverse=True)
    assert set(left) == {3, 2, 1}


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.EMFILE, "client_resources"),
        (errno.EADDRNOTAVAIL, "client_resources"),
        (errno.ENETUNREACH, "connect"),
    ],
)
def test_what_this_machine_lacks_is_no_failure_of_the_server(
    number: int, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*_: Any) -> Any:
        raise OSError(number, "none left")

    with connected("http://127.0.0.1:9/v1") as client:
        monkeypatch.setattr(socket, "SocketType", no_socket)
        answer = client.ask()
        monkeypatch.undo()
    assert answer.failure == failure
    assert "none left" in (answer.failure_detail or "")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6() -> None:
    with (
        raw_server(answering(chunked(EVENTS)), host="::1") as server,
        connected(f"http://[::1]:{server.port}/v1") as client,
    ):
        assert_ok(client.ask())
    assert f"Host: [::1]:{server.port}\r\n".encode() in server.requests[0].head


# Calling off


@pytest.mark.parametrize("tls", [False, True], ids=["waiting", "connecting"])
@pytest.mark.parametrize("how", ["cancel", "close"])
def test_no_answer_comes_after_a_cancel_or_a_close(how: str, tls: bool) -> None:
    with raw_server(silence) as server:
        url = server.url.replace("http:", "https:") if tls else server.url
        soon = limits(connect_ns=600 * MS, first_token_ns=600 * MS)
        with connected(url, timeouts=soon) as client:
            exchanges = [client.send(key(agent)) for agent in range(3)]
            client.until(lambda: server.connections == 3 and (tls or len(server.requests) == 3))
            if how == "close":
                client.http.close()
            else:
                for exchange in exchanges:
                    exchange.cancel()
                    exchange.cancel()
            server.wait_closed()
            run_for(client.http.loop, 700 * MS)  # longer than the limits
            assert client.answers == []
    assert len(server.requests) == (0 if tls else 3)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_an_answer_that_is_ready_does_not_come_either(how: str) -> None:
    """Two responses end in the same batch of reads; whoever hears of the first calls off the second."""
    released = asyncio.Event()
    delivered = 0

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.write(chunked(EVENTS))

    with raw_server(respond) as server, connected(server.url) as client:
        exchanges: list[Exchange] = []

        def answered() -> None:
            nonlocal delivered
            delivered += 1
            assert all(exchange.ended for exchange in exchanges)
            if how == "close":
                client.http.close()
            for exchange in exchanges:
                exchange.cancel()

        exchanges += [client.http.send(key(agent), lambda _: answered()) for agent in range(2)]
        client.until(lambda: len(server.requests) == 2)
        connections = [exchange._connection for exchange in exchanges]
        server.call(released.set)
        for connection in connections:
            client.wait_for_bytes(connection)
        run_for(client.http.loop, 50 * MS)
    assert delivered == 1


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_closing_ends_every_connection(tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        agent = json.loads(received.body)["agent"]
        writer.write(chunked(EVENTS) if agent < 20 else CHUNKED + chunk(ROLE))

    with (
        raw_server(respond, tls=server_side(certificate) if tls else None) as server,
        connected(server.url) as client,
    ):
        client.ask_all(key(agent) for agent in range(20))
        for agent in range(10, 60):
            client.send(key(agent, 1))
        client.until(lambda: len(server.requests) == 70)
        for agent in range(60, 70):
            client.send(key(agent))  # not yet connected
        assert client.http._in_flight
        client.http.close()
        server.wait_closed()
        run_for(client.http.loop, 20 * MS)
        # What is left is the loop's own.
        watched = [handler for handler in client.http.loop.reads.handlers if handler is not ignore]
        assert watched == [client.http.loop._woken]


# Large requests


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_large_request_arrives_whole(tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    bodies = [random.Random(turn).randbytes(8_000_001) for turn in range(3)]
    reads_again = threading.Event()
    with (
        raw_server(answering(chunked(EVENTS)), tls=server_side(certificate) if tls else None) as server,
        connected(server.url, build_body=lambda request: bodies[request.turn]) as client,
    ):
        assert_ok(client.ask())
        # More than the kernel takes while nobody reads: it is written in parts.
        server.call(reads_again.wait, WAIT_S)
        connection = client.kept()
        # However long a busy machine takes between the requests.
        connection.reuse_ns = LONG_NS
        client.send(key(turn=1))
        assert connection._request is not None
        run_for(client.http.loop, 20 * MS)
        reads_again.set()
        client.until(lambda: bool(client.answers))
        assert connection._request is None
        # And it goes on as before.
        assert_ok(client.ask(turn=2))
    (answer,) = client.answers
    assert_ok(answer)
    assert answer.body_bytes == len(bodies[1])
    assert [request.body == expected for request, expected in zip(server.requests, bodies, strict=True)] == [
        True,
        True,
        True,
    ]
    assert server.connections == 1


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("closes", [False, True], ids=["stays", "closes"])
def test_a_refusal_before_the_request_is_all_sent(
    closes: bool, tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server closes, its reset comes right behind its answer: the answer counts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    response = fixed(b'{"error": "too large"}', "413 Content Too Large")
    released, answered = asyncio.Event(), asyncio.Event()

    async def respond(received: Received, writer: asyncio.StreamWriter) -> bool:
        await released.wait()
        writer.write(response)
        if not closes:
            await answered.wait()
        return closes

    with (
        raw_server(respond, tls=server_side(certificate) if tls else None, early=True) as server,
        connected(server.url, build_body=lambda _: bytes(8_000_000)) as client,
    ):
        exchange = client.send(key())
        connection = exchange._connection
        assert connection is not None
        client.until(lambda: bool(server.requests))
        server.call(released.set)
        if closes and not tls:
            server.wait_closed()
        client.until(lambda: bool(client.answers))
        assert not connection.open
        server.call(answered.set)
    (answer,) = client.answers
    assert (answer.failure, answer.status) == ("http_4xx", 413)
    assert "too large" in (answer.failure_detail or "")
    assert len(server.requests) == 1


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = subprocess.run(
        [*command, "-keyout", str(path), "-out", str(path.with_suffix(".crt"))],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"openssl made no certificate: {made.stderr.strip()}")
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def ask_over_tls(certificate: Path) -> tuple[list[Answer], RawServer]:
    with (
        raw_server(answering(chunked(EVENTS)), tls=server_side(certificate)) as server,
        connected(server.url) as client,
    ):
        answers = [client.ask(turn=turn) for turn in range(2)]
    return answers, server


def test_tls_with_a_certificate_we_trust(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    answers, server = ask_over_tls(certificate)
    for answer in answers:
        assert_ok(answer)
    assert [answer.connect_ns is None for answer in answers] == [False, True]
    assert server.connections == 1


def test_tls_with_a_certificate_that_the_target_names(certificate: Path) -> None:
    with (
        raw_server(answering(chunked(EVENTS)), tls=server_side(certificate)) as server,
        connected(server.url, ca_file=str(certificate.with_suffix(".crt"))) as client,
    ):
        assert_ok(client.ask())


def test_tls_with_an_unknown_certificate_is_a_failure(certificate: Path) -> None:
    answers, server = ask_over_tls(certificate)
    assert [answer.failure for answer in answers] == ["connect", "connect"]
    assert "certificate" in (answers[0].failure_detail or "").lower()
    assert server.requests == []


def test_tls_with_a_peer_that_closes_is_a_failure() -> None:
    with closing_server() as port, connected(f"https://127.0.0.1:{port}") as client:
        answer = client.ask()
    assert (answer.failure, answer.connect_ns) == ("connect", None)


def test_tls_that_cannot_begin_is_a_failure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_tls(*_: Any, **__: Any) -> Any:
        raise ssl.SSLError(1, "no TLS today")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", no_tls)
    with raw_server(silence) as server, connected(server.url.replace("http:", "https:")) as client:
        answer = client.ask()
    assert answer.failure == "connect"
    assert "no TLS today" in (answer.failure_detail or "")


@pytest.mark.parametrize("end", [asyncio.StreamWriter.close, reset])
def test_a_tls_connection_that_breaks_off(
    end: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(ROLE) + chunk(delta(content="a")))
        await asyncio.sleep(0.02)
        end(writer)

    with raw_server(respond, tls=server_side(certificate)) as server, connected(server.url) as client:
        answer = client.ask()
        client.until(lambda: not server.open)
    assert (answer.failure, answer.status) == ("cut", 200)
    assert answer.failure_detail
    assert turns(server) == [0]


def test_a_kept_tls_connection_that_the_server_closed_is_replaced(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    with (
        raw_server(answering(chunked(EVENTS)), tls=server_side(certificate)) as server,
        connected(server.url) as client,
    ):
        assert_ok(client.ask())
        server.call(server.writers[0].transport.close)
        client.wait_for_bytes(client.kept())
        answer = client.ask(turn=1)
    assert_ok(answer)
    assert answer.reconnects == 1
    assert turns(server) == [0, 1]


@pytest.mark.parametrize("size", [1, 50, 5_000])
def test_a_response_over_tls_in_any_records(
    size: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        response = chunked(EVENTS)
        for start in range(0, len(response), size):
            writer.write(response[start : start + size])

    with raw_server(respond, tls=server_side(certificate)) as server, connected(server.url) as client:
        answers = [client.ask(turn=turn) for turn in range(3)]
    for answer in answers:
        assert_ok(answer)
    assert server.connections == 1
