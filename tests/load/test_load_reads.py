from __future__ import annotations

import re
import socket
import struct
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from load_support import run_for, run_until
from test_load_loop import loop_without_epoll

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.load.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MS = 1_000_000
PLAIN = re.compile(rb"plain\r\n\r\n").fullmatch
CHUNK = b"7\r\nplain\r\n\r\n"
"""What comes behind the size is all that is asked of it."""


class Taker:
    """Notes what it is given."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.taken: list[bytes] = []
        self.stamps: list[int] = []
        self.ended: str | None = None
        self.then: Callable[[], None] = lambda: None

    def arrived(self, size: int, t_ns: int) -> None:
        self.taken.append(bytes(self.loop.memory[:size]))
        self.stamps.append(t_ns)
        if not size:
            self.lost("closed")
        self.then()

    def lost(self, why: str) -> None:
        self.ended = why
        self.loop.unwatch(self.fd)

    fd = -1


@pytest.fixture(params=[Loop, loop_without_epoll()], ids=["native", "poll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    made = request.param()
    yield made
    made.close()


class Pair:
    def __init__(self, loop: Loop, stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.theirs = stack.enter_context(socket.create_connection(listener.getsockname()))
            self.ours = stack.enter_context(listener.accept()[0])
        self.ours.setblocking(False)
        self.theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.ours.fileno()
        self.taker = Taker(loop)
        self.taker.fd = self.fd
        loop.read(self.ours, self.taker)


@pytest.fixture
def pair(loop: Loop) -> Iterator[Callable[[], Pair]]:
    with ExitStack() as stack:
        yield lambda: Pair(loop, stack)


Make = Any


def test_what_is_expected_is_counted_and_all_else_handed_on(loop: Loop, pair: Make) -> None:
    one = pair()
    before_ns = monotonic_ns()
    one.theirs.send(CHUNK)
    run_until(loop, lambda: one.taker.taken == [CHUNK])  # nothing is expected yet
    loop.reads.expect(one.fd, PLAIN)
    assert loop.reads.take(one.fd) == (0, 0)
    for number in (1, 2, 3):
        one.theirs.send(CHUNK)
        run_until(loop, lambda number=number: loop.reads._chunks[one.fd] == number)  # type: ignore[misc]
    counted_ns = loop.reads.t_counted_ns(one.fd)
    other = b"8\r\nplain\r\n\r\n"
    one.theirs.send(other)
    run_until(loop, lambda: len(one.taker.taken) == 2)
    assert one.taker.taken == [CHUNK, other]
    assert before_ns < one.taker.stamps[0] < counted_ns < one.taker.stamps[1] < monotonic_ns()
    assert loop.reads.take(one.fd) == (3, counted_ns)
    assert loop.reads.take(one.fd) == (0, 0)
    assert loop.reads.t_counted_ns(one.fd) == 0


def test_each_socket_has_its_own_count(loop: Loop, pair: Make) -> None:
    pairs = [pair() for _ in range(100)]
    for one in pairs:
        loop.reads.expect(one.fd, PLAIN)
    for number, one in enumerate(pairs):
        if number % 3:
            one.theirs.send(CHUNK)
    run_until(loop, lambda: sum(loop.reads._chunks[one.fd] for one in pairs) == 66)
    assert [loop.reads.take(one.fd)[0] for one in pairs] == [int(number % 3 > 0) for number in range(100)]


@pytest.mark.parametrize("expected", [False, True])
@pytest.mark.parametrize("last", [CHUNK, b"other"])
def test_the_end_right_behind_the_last_bytes_is_seen(
    expected: bool, last: bytes, loop: Loop, pair: Make
) -> None:
    one = pair()
    if expected:
        loop.reads.expect(one.fd, PLAIN)
    one.theirs.send(last)
    one.theirs.close()
    run_until(loop, lambda: one.taker.ended is not None)
    counted = expected and last == CHUNK
    assert one.taker.taken == ([b""] if counted else [last, b""])
    assert loop.reads.take(one.fd)[0] == counted


def test_the_end_of_an_idle_stream_is_seen(loop: Loop, pair: Make) -> None:
    one = pair()
    one.theirs.send(b"x")
    run_until(loop, lambda: one.taker.taken == [b"x"])
    run_for(loop, MS)
    one.theirs.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: one.taker.ended == "closed")


def test_a_reset_is_told(loop: Loop, pair: Make) -> None:
    one = pair()
    one.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.theirs.close()
    run_until(loop, lambda: one.taker.ended is not None)
    assert "reset" in one.taker.ended.lower()
    assert one.taker.taken == []


def test_more_than_the_memory_holds_is_read_at_once(loop: Loop, pair: Make) -> None:
    one = pair()
    one.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sent = 0
    one.theirs.setblocking(False)
    data = bytes(range(256)) * 4_096
    while sent < len(data):
        try:
            sent += one.theirs.send(data[sent:])
        except BlockingIOError:
            break
    run_until(loop, lambda: sum(map(len, one.taker.taken)) == sent)
    assert b"".join(one.taker.taken) == data[:sent]


def test_what_waits_when_reading_begins_is_read(loop: Loop, pair: Make) -> None:
    one = pair()
    loop.watch(one.fd, 0, lambda ready: None)
    one.theirs.send(b"early")
    run_for(loop, 2 * MS)
    assert one.taker.taken == []
    loop.read(one.ours, one.taker)
    run_until(loop, lambda: one.taker.taken == [b"early"])


def test_after_the_end_of_reading_nothing_is_read_or_counted(loop: Loop, pair: Make) -> None:
    one = pair()
    loop.reads.expect(one.fd, PLAIN)
    loop.unwatch(one.fd)
    one.theirs.send(CHUNK)
    assert loop.reads.serve([(one.fd, 1)]) == 0
    run_for(loop, 2 * MS)
    assert one.taker.taken == []
    assert loop.reads.take(one.fd) == (0, 0)
    # Whoever has the descriptor next finds nothing of its predecessor's.
    loop.read(one.ours, one.taker)
    run_until(loop, lambda: one.taker.taken == [CHUNK])


def test_a_reader_may_end_the_reading_of_another_of_its_batch(loop: Loop, pair: Make) -> None:
    both = [pair(), pair()]

    def end(pair: Pair) -> None:
        loop.unwatch(pair.fd)
        pair.ours.close()

    for one, other in (both, both[::-1]):
        one.theirs.send(b"x")
        one.taker.then = partial(end, other)
    run_for(loop, 5 * MS)
    assert sorted(one.taker.taken for one in both) == [[], [b"x"]]
