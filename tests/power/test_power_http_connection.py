"""The HTTP client of exporters and meters, against a server that says exactly what a test wants, byte by byte."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.power.http_connection import HttpConnection, NotAnswered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Scripted:
    """Each connection gets the next list of answers, one per request; then it is closed."""

    def __init__(self, *connections: Sequence[bytes | Sequence[bytes]]) -> None:
        self.requests: list[bytes] = []
        self.accepted = 0
        self._connections = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        for answers in self._connections:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                connection.settimeout(10)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for answer in answers:
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        if not (data := connection.recv(65_536)):
                            return
                        request += data
                    self.requests.append(request)
                    try:
                        for part in (answer,) if isinstance(answer, bytes) else answer:
                            connection.sendall(part)
                    except OSError:
                        break

    def close(self) -> None:
        self._listener.close()


@contextmanager
def asking(
    *connections: Sequence[bytes | Sequence[bytes]], path: str = "/metrics", request_s: float = 5.0
) -> Iterator[tuple[Scripted, HttpConnection]]:
    server = Scripted(*connections)
    client = HttpConnection(
        server.url + path,
        headers={"Accept": "text/plain", "Accept-Encoding": "identity"},
        request_s=request_s,
        body_bytes_max=1 << 20,
        context=None,
    )
    try:
        yield server, client
    finally:
        client.close()
        server.close()


def test_one_connection_for_all_requests() -> None:
    with asking([OK] * 3) as (server, client):
        assert [client.get() for _ in range(3)] == [b"hello"] * 3
        assert server.accepted == 1
        head, *fields = server.requests[0].decode().split("\r\n")
        assert head == "GET /metrics HTTP/1.1"
        assert f"Host: {server.url.removeprefix('http://')}" in fields
        assert "Accept-Encoding: identity" in fields


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/m?names[]=a&b=%20", "/m?names%5B%5D=a&b=%20"),
        ("/ä%C3", "/%C3%A4%C3"),
        ("/a#part", "/a"),
    ],
)
def test_what_is_asked_for(path: str, asked: str) -> None:
    with asking([OK], path=path) as (server, client):
        client.get()
        assert server.requests[0].split()[1].decode() == asked


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        [OK[:7], OK[7:20], OK[20:40], OK[40:]],
    ],
)
def test_answers_that_are_whole(answer: bytes | list[bytes]) -> None:
    with asking([answer, OK]) as (server, client):
        assert client.get() == b"hello"
        assert client.get() == b"hello"
        assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_kept(answer: bytes) -> None:
    with asking([answer], [answer]) as (server, client):
        assert [client.get(), client.get()] == [b"hello", b"hello"]
        assert server.accepted == 2


def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    with asking([OK], [OK]) as (server, client):
        assert client.get() == b"hello"
        # The server has closed it by now, or closes it while it is asked: both are no answer, and no error.
        assert client.get() == b"hello"
        assert server.accepted == 2


def test_what_follows_an_answer_is_no_answer_to_the_next() -> None:
    stale = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    with asking([OK + stale], [OK]) as (server, client):
        assert [client.get(), client.get()] == [b"hello", b"hello"]
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, "endless HTTP header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000, "more than 1 MiB"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answers HTTP 204"),
        (b"HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "not followed"),
    ],
)
def test_answers_that_are_none(answer: bytes, said: str) -> None:
    with asking([answer], [OK]) as (server, client):
        with pytest.raises(NotAnswered, match=said):
            client.get()
        assert client.get() == b"hello", "the next request finds a new connection"
        assert server.accepted == 2


def test_a_body_that_trickles_ends_at_the_deadline() -> None:
    gate = threading.Event()

    class Trickle(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
            while not gate.wait(0.02):
                yield b"x"

    with asking([Trickle()], request_s=0.3) as (_, client):
        with pytest.raises(NotAnswered, match=r"did not answer within 0\.3 s"):
            client.get()
        gate.set()


def test_a_port_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = HttpConnection(
        f"http://127.0.0.1:{port}/", headers={}, request_s=5, body_bytes_max=1, context=None
    )
    with pytest.raises(NotAnswered, match=r"cannot be reached .*refused"):
        client.get()
