"""Endpoints that say what no endpoint should: it is bounded, escaped, and no key of ours is in it."""

from __future__ import annotations

import gzip
import json
import threading
import tracemalloc
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import Masked
from pytest_agentperf.deploy import probe
from pytest_agentperf.deploy.asking import Asker
from pytest_agentperf.deploy.preflight import Wanted, check_endpoint
from pytest_agentperf.load.sse import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-agentperf-hostile-0123456789"
HEADERS = Masked({"Authorization": f"Bearer {KEY}"})


@cache
def bomb() -> bytes:
    return gzip.compress(b" " * (64 << 20))


class _Hostile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/packed/"):
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(bomb())
            return
        if self.path.startswith("/heads/"):
            self._write_without_end(b"HTTP/1.1 200 OK\r\nX-Pad: ")
        elif self.path.startswith("/endless/"):
            self._begin(200)
            self._write_without_end(b'{"data": [')
        elif self.path.startswith("/names/"):
            names = [f"\x1b[2J<script>{KEY}</script>\n\x00", "n" * 10_000]
            self._answer(200, json.dumps({"data": [{"id": name} for name in names]}).encode())
        else:
            # The key begins where a text of 300 characters ends.
            self._answer(500, b"\x1b]0;owned\x07" + b"x" * 275 + KEY.encode())

    def do_POST(self) -> None:
        if self.path.startswith("/heads/"):
            self._write_without_end(b"HTTP/1.1 200 OK\r\nX-Pad: ")
            return
        if self.path.startswith("/stream/"):
            # The key begins where a text of 300 characters ends.
            error = {"error": {"message": "\x1b[31m" + "x" * 262 + KEY}}
            self._answer(200, f"data: {json.dumps(error)}\n\n".encode())
            return
        self._begin(200)
        self._write_without_end(b"data: no line end")

    def _write_without_end(self, start: bytes) -> None:
        try:
            self.wfile.write(start)
            while True:
                self.wfile.write(b"a" * 65_536)
        except OSError:
            self.close_connection = True

    def _begin(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        self.end_headers()

    def _answer(self, status: int, body: bytes) -> None:
        self._begin(status)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(probe, "_BODY_MAX", 1 << 20)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hostile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def said(text: str) -> str:
    assert KEY[:8] not in text
    assert all(line.isprintable() for line in text.split("\n"))
    return text


def test_an_answer_without_end_is_not_read_to_it(hostile: str) -> None:
    with pytest.raises(EndpointError, match="its answer has no end") as caught:
        probe.get_json(f"{hostile}/endless/v1/models", HEADERS)
    said(str(caught.value))
    assert probe.endpoint_state(f"{hostile}/endless/v1", HEADERS) == "alive"


def test_names_of_models_are_shown_short_and_escaped(hostile: str) -> None:
    wanted = Wanted(f"{hostile}/names/v1", HEADERS, "m", None, {}, (), 16, False, 256, "n")
    _, model = check_endpoint(wanted, decode, lambda seconds: None).checks[:2]
    text = said(f"{model.what} {model.remedy}")
    assert r"it serves \x1b[2J<script>***</script> \x00, nnn" in text
    assert len(text) < 500


def test_half_a_key_is_a_key_too(hostile: str) -> None:
    with pytest.raises(EndpointError) as caught:
        probe.get_json(f"{hostile}/error/v1/models", HEADERS)
    assert r"HTTP 500: \x1b]0;owned\x07xxx" in said(str(caught.value))


def test_an_error_inside_a_stream_is_cleaned_before_it_is_cut(hostile: str) -> None:
    with Asker(f"{hostile}/stream/v1", HEADERS, decode) as asker:
        asked = asker.ask({})
    assert asked.refused
    assert r"\u001b[31m" in said(asked.why)
    assert len(asked.why) < 400


def test_what_is_packed_is_not_unpacked(hostile: str) -> None:
    """64 kB that would be 64 MiB: no answer that was asked for, and no memory spent on it."""
    bomb()
    tracemalloc.start()
    try:
        assert probe.get_json(f"{hostile}/packed/v1/models", HEADERS) is None
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_headers_without_end_are_not_read_to_it(hostile: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(EndpointError, match="no answer: ") as caught:
            probe.get_json(f"{hostile}/heads/v1/models", HEADERS)
        assert probe.endpoint_state(f"{hostile}/heads/v1", HEADERS) == "unreachable"
        with Asker(f"{hostile}/heads/v1", HEADERS, decode) as asker:
            asked = asker.ask({})
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert asked.status is None
    for text in (str(caught.value), asked.why):
        assert len(said(text)) < 300
