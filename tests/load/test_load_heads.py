"""Servers that send headers without end: a named failure, after a bounded number of bytes, kept nowhere."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from load_support import EVENTS, STREAM, answering, chunked, connected, raw_server

if TYPE_CHECKING:
    import asyncio

    from load_support import Received

MB = 1 << 20
BEGUN = b"HTTP/1.1 200 OK\r\n"
LINE = b"X-Pad: 0123456789abcdef\r\n"
STREAMED = chunked(EVENTS)[: -len(b"0\r\n\r\n")]
# Far more than any buffer between the two holds: a client that took it all would show.
ENDLESS = 64 * MB


class Talker:
    """Writes as much as is taken from it, but no more than it was told."""

    def __init__(self, begin: bytes, again: bytes, times: int) -> None:
        self.taken = 0
        self._begin, self._again, self._times = begin, again, times

    async def __call__(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        writer.write(self._begin)
        for _ in range(self._times):
            writer.write(self._again)
            await writer.drain()
            self.taken += len(self._again)
        writer.write(b"\r\n\r\n" + STREAM)
        return True


@pytest.mark.parametrize(
    ("begin", "again", "times"),
    [
        (BEGUN + b"X-Pad: ", b"x" * MB, 1),
        (BEGUN, LINE * 10_000, 1),
        (BEGUN + b"X-Pad: ", b"x" * MB, ENDLESS // MB),
        (BEGUN, b"X" * MB, ENDLESS // MB),
        (BEGUN, LINE * 1_000, ENDLESS // (1_000 * len(LINE))),
        (b"HTTP/1.1 200 ", b"x" * MB, ENDLESS // MB),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1_000, ENDLESS // 40_000),
        (STREAMED + b"0\r\nX-Pad: ", b"x" * MB, ENDLESS // MB),
        (STREAMED + b"0\r\n", LINE * 1_000, ENDLESS // (1_000 * len(LINE))),
        (STREAMED + b"5;", b"x" * MB, ENDLESS // MB),
    ],
    ids=["1 MB in one line", "10,000 lines", "endless line", "endless name", "endless lines", "endless reason",
         "endless hints", "endless trailer line", "endless trailers", "endless extension of a chunk"],
)  # fmt: skip
def test_headers_without_end(begin: bytes, again: bytes, times: int) -> None:
    talker = Talker(begin, again, times)
    with raw_server(talker) as server, connected(server.url) as client:
        tracemalloc.start()
        try:
            answer = client.ask()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert answer.failure == "malformed"
        assert "its headers are longer than 65,536 bytes" in (answer.failure_detail or "")
        client.until(lambda: not server.open)
    # Sockets buffer some megabytes on their own.
    assert talker.taken < 16 * MB
    # asyncio's server, in this process too, holds up to two writes.
    assert peak < 6 * MB


@pytest.mark.parametrize("size", [8_000, 60_000])
def test_headers_that_are_merely_long(size: int) -> None:
    """What one answer had is not held against the next one on its connection."""
    whole = chunked(EVENTS, f"X-Pad: {'x' * size}")
    with raw_server(answering(whole)) as server, connected(server.url) as client:
        answers = [client.ask(turn=turn) for turn in range(3)]
    assert [(answer.failure, answer.output_tokens) for answer in answers] == [(None, 3)] * 3
    assert server.connections == 1
