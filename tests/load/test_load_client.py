from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from load_support import (
    DONE,
    EVENTS,
    NS_PER_S,
    ROLE,
    STREAM,
    WAIT_S,
    answering,
    chunk,
    chunked,
    delta,
    fixed,
    head,
    key,
    on_every_loop,
    raw_server,
    silence,
    usage,
)

from pytest_agentperf.load.client import REUSE_MAX_IDLE_NS, HttpClient, Target, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from load_support import RawServer, Received

    from pytest_agentperf.core.records import Answer, RequestKey

LONG_NS = 60 * NS_PER_S
TINY_NS = 1_000_000
PATIENT = Timeouts(LONG_NS, LONG_NS, LONG_NS, LONG_NS)
API_KEY = "sk-0123456789abcdef-é"


class Client:
    """An `HttpClient` whose answers can be awaited."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http
        self.answers: list[Answer] = []

    def send(self, request: RequestKey) -> tuple[Any, asyncio.Future[Answer]]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Answer) -> None:
            self.answers.append(answer)
            future.set_result(answer)

        return self.http.send(request, on_answer), future

    async def ask(self, agent: int = 0, turn: int = 0) -> Answer:
        async with asyncio.timeout(WAIT_S):
            return await self.send(key(agent, turn))[1]


@contextmanager
def connected(
    url: str, *, timeouts: Timeouts = PATIENT, decoder: Executor | None = None, **target: Any
) -> Iterator[Client]:
    with ThreadPoolExecutor(1) as pool:
        http = HttpClient(Target(url, **target), body, timeouts, decoder=decoder or pool)
        try:
            yield Client(http)
        finally:
            http.close()


def body(request: RequestKey) -> bytes:
    return json.dumps({"agent": request.agent, "turn": request.turn, "text": "é" * 3_000}).encode()


def times(answer: Answer) -> list[int]:
    assert answer.t_first_ns is not None
    assert answer.t_last_ns is not None
    return [answer.t_sent_ns, answer.t_first_ns, answer.t_last_ns, answer.t_end_ns]


def assert_ok(answer: Answer) -> None:
    assert (answer.failure, answer.failure_detail, answer.status) == (None, None, 200)
    assert (answer.prompt_tokens, answer.output_tokens, answer.finish_reason) == (10, 3, "stop")
    assert times(answer) == sorted(times(answer))


@on_every_loop
async def test_a_stream_and_the_request_that_asked_for_it() -> None:
    async with raw_server(answering(chunked(EVENTS))) as server:
        headers = {"Authorization": f"Bearer {API_KEY}", "X-Trace": "1"}
        with connected(server.url + "/", headers=headers) as client:
            answer = await client.ask(agent=5, turn=2)
            assert client.http.host == "127.0.0.1"
    assert_ok(answer)
    assert (answer.response_id, answer.content_chunks) == ("r1", 2)
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


@on_every_loop
async def test_the_set_up_of_a_connection_counts() -> None:
    async with raw_server(answering(chunked(EVENTS))) as server:
        with connected(server.url) as client:
            answer = await client.ask()
    assert answer.connect_ns is not None
    assert answer.connect_ns > 0
    assert answer.t_sent_ns < server.requests[0].accepted_ns
    assert answer.t_first_ns is not None
    assert answer.t_sent_ns + answer.connect_ns <= answer.t_first_ns


@on_every_loop
async def test_an_agent_keeps_its_connection_between_turns() -> None:
    async with raw_server(answering(chunked(EVENTS))) as server:
        with connected(server.url) as client:
            answers = [await client.ask(agent, turn) for turn in range(3) for agent in range(2)]
    for answer in answers:
        assert_ok(answer)
    assert [answer.connect_ns is None for answer in answers] == [False, False, True, True, True, True]
    assert [request.connection for request in server.requests] == [0, 1, 0, 1, 0, 1]


@on_every_loop
async def test_an_old_idle_connection_is_replaced() -> None:
    async with raw_server(answering(chunked(EVENTS))) as server:
        with connected(server.url) as client:
            await client.ask()
            # As if the tool had run that long.
            connection = client.http._idle[0]
            connection._t_read_ns -= REUSE_MAX_IDLE_NS
            answer = await client.ask(turn=1)
    assert_ok(answer)
    assert answer.connect_ns is not None
    assert [request.connection for request in server.requests] == [0, 1]


@on_every_loop
async def test_a_connection_that_the_server_closed_while_idle_is_replaced() -> None:
    writers = []

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(chunked(EVENTS))

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            assert_ok(await client.ask())
            writers[0].close()
            await server.all_closed()
            await asyncio.sleep(0.05)  # until the close has reached the client
            answer = await client.ask(turn=1)
    assert_ok(answer)
    assert answer.connect_ns is not None
    assert (len(server.requests), server.connections) == (2, 2)


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
@on_every_loop
async def test_a_connection_is_not_reused_where_the_server_ends_it(response: bytes, closes: bool) -> None:
    async with raw_server(answering(response, close=closes)) as server:
        with connected(server.url) as client:
            for turn in range(3):
                answer = await client.ask(turn=turn)
                assert_ok(answer)
                assert answer.connect_ns is not None
                await asyncio.sleep(0.02)  # until the close has reached the client
    assert [request.connection for request in server.requests] == [0, 1, 2]


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
@on_every_loop
async def test_framings(response: bytes) -> None:
    async with raw_server(answering(response)) as server:
        with connected(server.url) as client:
            answers = [await client.ask(turn=turn) for turn in range(2)]
    for answer in answers:
        assert_ok(answer)
    assert server.connections == 1


@pytest.mark.parametrize("size", [1, 7, 1_000])
@on_every_loop
async def test_a_response_in_any_pieces(size: int) -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        response = chunked(EVENTS)
        for start in range(0, len(response), size):
            writer.write(response[start : start + size])
            await asyncio.sleep(0)

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            assert_ok(await client.ask())


@on_every_loop
async def test_tokens_have_the_time_of_their_read() -> None:
    released = asyncio.Event()

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", "Transfer-Encoding: chunked") + chunk(ROLE + b": wait\n\n"))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(chunk(delta(content="a")))
        await released.wait()
        writer.write(chunk(delta(content="b") + delta("stop") + usage() + DONE) + b"0\r\n\r\n")

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            asyncio.get_running_loop().call_later(0.05, released.set)
            answer = await client.ask()
    assert_ok(answer)
    assert answer.connect_ns is not None
    sent, first, last, _ = times(answer)
    assert sent + answer.connect_ns < first < last


def tricky(status: str) -> bytes:
    return fixed(f'{{"error": "no, {API_KEY}!", "é": 1}}'.encode(), status)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("400 Bad Request", "http_4xx"),
        ("401 Unauthorized", "http_4xx"),
        ("429 Too Many Requests", "rate_limited"),
        ("500 Internal Server Error", "http_5xx"),
        ("503 Service Unavailable", "http_5xx"),
        ("204 No Content", "http_2xx"),
    ],
)
@on_every_loop
async def test_a_refusal_is_a_failure_that_shows_the_servers_words(status: str, reason: str) -> None:
    response = head(status) if status.startswith("204") else tricky(status)
    async with raw_server(answering(response)) as server:
        with connected(server.url, headers={"Authorization": f"Bearer {API_KEY}"}) as client:
            answer = await client.ask()
            assert (answer.failure, answer.status) == (reason, int(status[:3]))
            assert answer.failure_detail is not None
            assert answer.failure_detail.startswith(f"HTTP {status[:3]}: ")
            if not status.startswith("204"):
                assert 'error": "no, ***!", "é"' in answer.failure_detail
            assert (answer.t_first_ns, answer.output_tokens, answer.first_chunk_tokens) == (None, None, None)
            # A refusal does not cost the connection.
            assert (await client.ask(turn=1)).connect_ns is None
    assert len(server.requests) == 2


@pytest.mark.parametrize("before", [*range(255, 300), 1_170, 4_770])
@on_every_loop
async def test_no_part_of_the_key_gets_into_the_detail(before: int) -> None:
    text = "x" * before + f"Bearer {API_KEY}" + "y" * 3_000
    async with raw_server(answering(fixed(text.encode(), "400 Bad Request"))) as server:
        with connected(server.url, headers={"Authorization": f"Bearer {API_KEY}"}) as client:
            detail = (await client.ask()).failure_detail
    assert detail is not None
    assert len(detail) <= 300
    assert "sk-0" not in detail


@on_every_loop
async def test_no_part_of_the_key_gets_into_the_detail_of_a_stream() -> None:
    error = f'data: {{"error": "{"x" * 270} {API_KEY}"}}\n\n'.encode()
    async with raw_server(answering(fixed(error))) as server:
        with connected(server.url, headers={"x-api-key": API_KEY}) as client:
            answer = await client.ask()
            assert API_KEY not in repr(Target(server.url, {"x-api-key": API_KEY}))
    assert answer.failure == "error_in_stream"
    assert "sk-0" not in (answer.failure_detail or "")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
@on_every_loop
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with raw_server(answering(chunked(EVENTS))) as other:
        response = fixed(b"", status, f"Location: {other.url}/chat/completions")
        async with raw_server(answering(response)) as server:
            with connected(server.url) as client:
                answer = await client.ask()
        assert (answer.failure, answer.status) == ("http_3xx", int(status[:3]))
        assert (len(server.requests), len(other.requests)) == (1, 0)


CHUNKED = head("200 OK", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("response", "failure", "status"),
    [
        (b"", "closed_before_response", None),
        (b"HTTP/1.1 200 OK\r\nContent-", "closed_before_response", None),
        (CHUNKED, "cut", 200),
        (CHUNKED + chunk(STREAM), "cut", 200),
        (CHUNKED + chunk(STREAM)[:-20], "cut", 200),
        (fixed(STREAM)[:-1], "cut", 200),
        (fixed(b"{}", "503 Service Unavailable")[:-1], "cut", 503),
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
@on_every_loop
async def test_broken_responses(response: bytes, failure: str, status: int | None) -> None:
    async with raw_server(answering(response, close=True)) as server:
        with connected(server.url) as client:
            answer = await client.ask()
            assert (answer.failure, answer.status) == (failure, status)
            assert answer.failure_detail
            await server.all_closed()
            # The agent goes on, on a connection of its own; nothing is sent twice.
            assert (await client.ask(turn=1)).connect_ns is not None
    assert [json.loads(request.body)["turn"] for request in server.requests] == [0, 1]


@on_every_loop
async def test_a_reset_is_a_failure() -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(ROLE))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.transport.abort()

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            answer = await client.ask()
    assert (answer.failure, answer.status) == ("cut", 200)


@on_every_loop
async def test_a_reused_connection_that_closes_fails_once_and_is_not_retried() -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> bool:
        if received.number == 1:
            return True
        writer.write(chunked(EVENTS))
        return False

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            answers = [await client.ask(turn=turn) for turn in range(3)]
    assert [answer.failure for answer in answers] == [None, "closed_before_response", None]
    assert [answer.connect_ns is None for answer in answers] == [False, True, False]
    assert len(server.requests) == 3


@on_every_loop
async def test_a_connection_closed_as_soon_as_it_is_accepted() -> None:
    """However early the close comes, every request gets an answer."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with connected(f"http://127.0.0.1:{port}") as client:
            for turn in range(20):
                answer = await client.ask(turn=turn)
                assert answer.failure in ("closed_before_response", "connect")
    finally:
        server.close()
        await server.wait_closed()


class LateLoop:
    """An event loop in which a new connection is handed over only once the peer has closed it."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, *arguments: Any, **more: Any) -> Any:
        transport, protocol = await self._loop.create_connection(*arguments, **more)
        await until(transport.is_closing)
        await asyncio.sleep(0.02)  # until the protocol was told
        return transport, protocol


@on_every_loop
async def test_a_connection_closed_before_the_request_is_written() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    try:
        with connected(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            client.http._loop = LateLoop(client.http._loop)  # type: ignore[assignment]
            answer = await client.ask()
            assert answer.failure == "closed_before_response"
            assert answer.connect_ns is not None
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("extra", [b"garbage", fixed(STREAM), b"\x00"])
@on_every_loop
async def test_bytes_after_the_response_are_no_part_of_the_next(extra: bytes) -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(EVENTS) + (extra if received.number == 0 else b""))

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            for turn in range(3):
                assert_ok(await client.ask(turn=turn))
    assert len(server.requests) == 3


@on_every_loop
async def test_bytes_on_an_idle_connection_end_it() -> None:
    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(EVENTS))
        if received.number == 0:
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

    async with raw_server(respond) as server:
        with connected(server.url) as client:
            assert_ok(await client.ask())
            await server.all_closed()
            assert_ok(await client.ask(turn=1))
    assert server.connections == 2


@on_every_loop
async def test_connect_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but it does not listen
        with connected(f"http://127.0.0.1:{unused.getsockname()[1]}/v1") as client:
            answer = await client.ask()
    assert (answer.failure, answer.status, answer.connect_ns) == ("connect", None, None)
    assert answer.failure_detail
    assert answer.t_end_ns >= answer.t_sent_ns


@on_every_loop
async def test_a_host_without_an_address() -> None:
    with connected("http://no-such-host.invalid/v1") as client:
        assert (await client.ask()).failure == "connect"


def part(received: Received, writer: asyncio.StreamWriter) -> Any:
    async def write() -> None:
        writer.write(CHUNKED + chunk(ROLE))

    return write()


def dripping(received: Received, writer: asyncio.StreamWriter) -> Any:
    async def write() -> bool:
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(chunk(b": keep-alive\n\n"))
            await asyncio.sleep(0.01)
        return True

    return write()


@pytest.mark.parametrize(
    ("limit", "respond", "failure", "status"),
    [
        ("first_token_ns", silence, "timeout_first_token", None),
        ("stall_ns", part, "stalled", 200),
        ("request_ns", silence, "timeout_request", None),
        ("request_ns", part, "timeout_request", 200),
        ("request_ns", dripping, "timeout_request", 200),
    ],
)
@on_every_loop
async def test_time_limits(limit: str, respond: Any, failure: str, status: int | None) -> None:
    limits = {name: LONG_NS for name in Timeouts.__slots__} | {limit: TINY_NS}
    if respond is dripping:
        limits[limit] = 300 * TINY_NS
    elif status is not None:
        limits[limit] = 100 * TINY_NS
    async with raw_server(respond) as server:
        with connected(server.url, timeouts=Timeouts(**limits)) as client:
            answer = await client.ask()
            assert (answer.failure, answer.status) == (failure, status)
            assert answer.t_end_ns - answer.t_sent_ns > limits[limit]
            await server.all_closed()
    assert len(server.requests) == 1


@on_every_loop
async def test_the_time_limit_of_connecting_includes_tls() -> None:
    limits = Timeouts(connect_ns=TINY_NS, first_token_ns=LONG_NS, stall_ns=LONG_NS, request_ns=LONG_NS)
    async with raw_server(silence) as server:
        # The peer accepts, but does not know of TLS and waits for a request's head.
        with connected(server.url.replace("http:", "https:"), timeouts=limits) as client:
            answer = await client.ask()
            await server.all_closed()
    assert (answer.failure, answer.connect_ns, server.requests) == ("timeout_connect", None, [])


async def settle() -> None:
    """Let callbacks run that must not come."""
    await asyncio.sleep(0.25)  # longer than the watchdog's interval


@pytest.mark.parametrize("tls", [False, True], ids=["waiting", "connecting"])
@pytest.mark.parametrize("how", ["cancel", "close"])
@on_every_loop
async def test_no_answer_comes_after_a_cancel_or_a_close(how: str, tls: bool) -> None:
    async with raw_server(silence) as server:
        limits = Timeouts(100 * TINY_NS, 100 * TINY_NS, LONG_NS, LONG_NS)
        with connected(
            server.url.replace("http:", "https:") if tls else server.url, timeouts=limits
        ) as client:
            exchanges = [client.send(key(agent))[0] for agent in range(3)]
            await until(lambda: server.connections == 3 and (tls or len(server.requests) == 3))
            if how == "close":
                client.http.close()
            else:
                for exchange in exchanges:
                    exchange.cancel()
                    exchange.cancel()
            await server.all_closed()
            await settle()
            assert client.answers == []
    assert len(server.requests) == (0 if tls else 3)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


class HeldDecoder(Executor):
    """Decodes nothing until it is told to."""

    def __init__(self) -> None:
        self.held: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, call: Any, /, *arguments: Any, **more: Any) -> Any:
        future: Future[Any] = Future()
        self.held.append((future, lambda: call(*arguments, **more)))
        return future

    def release(self) -> None:
        for future, call in self.held:
            future.set_result(call())


@pytest.mark.parametrize("how", ["cancel", "close"])
@on_every_loop
async def test_an_answer_that_is_being_decoded_does_not_come_either(how: str) -> None:
    decoder = HeldDecoder()
    async with raw_server(answering(chunked(EVENTS))) as server:
        with connected(server.url, decoder=decoder) as client:
            exchange, _ = client.send(key())
            await until(lambda: bool(decoder.held))
            (client.http if how == "close" else exchange).__getattribute__(how)()
            decoder.release()
            await settle()
            assert client.answers == []


@on_every_loop
async def test_many_agents_at_once_each_ask_once() -> None:
    async with raw_server(answering(chunked(EVENTS))) as server:
        with connected(server.url) as client:
            for turn in range(3):
                answers = await asyncio.gather(*(client.ask(agent, turn) for agent in range(40)))
                for answer in answers:
                    assert_ok(answer)
    asked = [
        (body["agent"], body["turn"]) for body in (json.loads(request.body) for request in server.requests)
    ]
    assert sorted(asked) == [(agent, turn) for agent in range(40) for turn in range(3)]
    assert server.connections == 40


class Characters:
    """A `TokenCounter` of characters."""

    def count(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (delta(content="abcd"), (4, "tokenizer")),
        (delta(content="abcd")[:-3] + b', "usage": {"completion_tokens": 2}}\n\n', (2, "usage")),
    ],
)
@on_every_loop
async def test_the_tokens_of_the_first_chunk(first: bytes, expected: tuple[int, str]) -> None:
    response = chunked([first, delta("stop"), usage(10, 9), DONE])
    async with raw_server(answering(response)) as server:
        with ThreadPoolExecutor(1) as pool:
            http = HttpClient(Target(server.url), body, PATIENT, decoder=pool, counter=Characters())
            try:
                answer = await Client(http).ask()
            finally:
                http.close()
    assert (answer.first_chunk_tokens, answer.first_chunk_source) == expected


@on_every_loop
async def test_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    async with raw_server(answering(chunked(EVENTS)), host="::1") as server:
        with connected(f"http://[::1]:{server.port}/v1") as client:
            assert_ok(await client.ask())
    assert f"Host: [::1]:{server.port}\r\n".encode() in server.requests[0].head


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


async def ask_over_tls(certificate: Path, **target: Any) -> tuple[list[Answer], RawServer]:
    async with raw_server(answering(chunked(EVENTS)), tls=server_side(certificate)) as server:
        with connected(server.url, **target) as client:
            answers = [await client.ask(turn=turn) for turn in range(2)]
    return answers, server


@on_every_loop
async def test_tls_with_a_certificate_we_trust(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    answers, server = await ask_over_tls(certificate)
    for answer in answers:
        assert_ok(answer)
    assert [answer.connect_ns is None for answer in answers] == [False, True]
    assert server.connections == 1


@on_every_loop
async def test_tls_with_an_unknown_certificate_is_a_failure(certificate: Path) -> None:
    answers, server = await ask_over_tls(certificate)
    assert [answer.failure for answer in answers] == ["connect", "connect"]
    assert "certificate" in (answers[0].failure_detail or "").lower()
    assert server.requests == []
