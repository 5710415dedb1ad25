"""Responses over HTTP: however they are framed and read, they hold what their events say."""

from __future__ import annotations

import json
import socket
import tracemalloc
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, compress, pairwise
from typing import TYPE_CHECKING, Any
from unittest import mock

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_support import SHARED, chunk

from pytest_agentperf.load import reads as reads_module
from pytest_agentperf.load.connection import Connection
from pytest_agentperf.load.loop import READ, Loop
from pytest_agentperf.load.reads import SIZE_LINES
from pytest_agentperf.load.response import Response
from pytest_agentperf.load.shape import Shape, Shapes
from pytest_agentperf.load.sse import StreamContent, decode

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

CAPTURES = sorted((SHARED / "sse").glob("*.sse"))
SMALL_BYTES = 1_000
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


# Streams as vLLM sends them


def sse(payload: Any, end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode() + end


def token(text: str = "a", *, field: str = "content", finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {field: text}, "logprobs": None, "finish_reason": finish}
    return sse(
        {"id": "chatcmpl-01", "object": "chat.completion.chunk", "created": 1, "choices": [choice], **more}
    )


def call(arguments: str, name: str | None = None) -> bytes:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    delta = {"tool_calls": [{"index": 0, "function": function}]}
    return sse({"id": "chatcmpl-01", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


ROLE = sse({"id": "chatcmpl-01", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
FINISH = sse({"id": "chatcmpl-01", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = sse({"id": "chatcmpl-01", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 3}})
DONE = b"data: [DONE]\n\n"
ERROR = sse({"error": {"message": "out of memory"}})
PING = b": ping\n\n"
CLOSING = [FINISH, USAGE, DONE]


# Reading them


@dataclass
class Taken:
    """What came of a response."""

    content: StreamContent
    status: int | None
    complete: bool
    keep_alive: bool
    malformed: bool
    decoded: int
    """Events with output that went through the decoder; the others were recognised."""

    def told(self) -> tuple[Any, ...]:
        return self.content, self.status, self.complete, self.keep_alive, self.malformed


class NoShapes(Shapes):
    """Learns nothing: every event is decoded."""

    def find(self, data: bytes, payload: Mapping[str, Any]) -> Shape | None:
        return None


def feed(reads: Iterable[tuple[int, bytes]], shapes: Shapes) -> Taken:
    """Feed a response read by read."""
    memory = bytearray(1 << 18)
    response = Response(memory, memoryview(memory), shapes)
    malformed = False
    for t_ns, read in reads:
        memory[: len(read)] = read
        try:
            response.feed(len(read), t_ns)
        except httptools.HttpParserError:
            malformed = not response.complete
            response.keep_alive = False
            break
        if response.complete:
            break
    decoded = response._decoder.content.content_chunks
    content = response.content()
    return Taken(content, response.status, response.complete, response.keep_alive, malformed, decoded)


class Owner:
    """Stands where a connection has its exchange."""

    ended = False

    def connected(self) -> None:
        """It was from the start."""

    def connect_failed(self, error: OSError) -> None:
        raise error

    def sent(self) -> None:
        """Nothing is kept."""

    def responded(self) -> None:
        self.ended = True


@contextmanager
def established(owner: Owner, shapes: Shapes) -> Iterator[tuple[Connection, Response, socket.socket, Loop]]:
    """Let a connection wait for its response; yields the other end too."""
    loop = Loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection = Connection(loop, "", mock.Mock(), None)
        connection._sock, connection._fd, connection._owner = ours, ours.fileno(), owner
        connection._stand(ours)
        response = Response(loop.memory, loop.view, shapes)
        connection.carry(b"POST", response, owner)
        yield connection, response, theirs, loop
        connection.abort()
    loop.close()


def receive(reads: Iterable[tuple[int, bytes]], shapes: Shapes) -> Taken:
    """Let a connection read them from its socket, as the loop does."""
    owner = Owner()
    with (
        established(owner, shapes) as (connection, response, theirs, loop),
        mock.patch.object(reads_module, "monotonic_ns") as clock,
    ):
        for clock.return_value, read in reads:
            theirs.sendall(read)
            loop.reads.serve([(connection._fd, READ)])
            if owner.ended:
                break
        else:
            # As `Exchange` sees them where it gives up on a response.
            connection._take_counted(response)
    decoded = response._decoder.content.content_chunks
    malformed = connection.not_http
    content = response.content()
    return Taken(content, response.status, response.complete, response.keep_alive, malformed, decoded)


TAKERS = pytest.mark.parametrize("take", [feed, receive])
Take = Any


class Framed:
    """A response's bytes, and which of them belong to the body."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_body = bytearray()

    def add(self, framing: bytes, body: bytes = b"") -> Framed:
        self.data += framing + body
        self.is_body += bytes(len(framing)) + b"\1" * len(body)
        return self

    def chunk(self, body: bytes, size: bytes | None = None, extension: bytes = b"") -> Framed:
        line = b"%x" % len(body) if size is None else size
        return self.add(line + extension + b"\r\n", body).add(b"\r\n")

    def cut(self, places: Iterable[int]) -> tuple[list[bytes], list[bytes]]:
        """Return the reads, and what each of them brought of the body."""
        inner = {min(place, len(self.data)) for place in places}
        spans = list(pairwise(sorted(inner | {0, len(self.data)})))
        reads = [bytes(self.data[a:b]) for a, b in spans]
        bodies = [bytes(compress(self.data[a:b], self.is_body[a:b])) for a, b in spans]
        return reads, bodies


def framed(chunks: Iterable[bytes]) -> Framed:
    whole = Framed().add(HEAD)
    for part in chunks:
        whole.chunk(part)
    return whole.add(END)


def stamped(reads: Sequence[bytes], stamps: Iterable[int] | None = None) -> list[tuple[int, bytes]]:
    return list(zip(stamps or range(1, len(reads) + 1), reads, strict=False))


def check(whole: Framed, places: Iterable[int], take: Take = receive, shapes: Shapes | None = None) -> Taken:
    """Take a response read by read, and compare with the decoding of its body alone."""
    reads, bodies = whole.cut(places)
    taken: Taken = take(stamped(reads), shapes or Shapes())
    assert taken.content == decode(stamped(bodies))
    return taken


def ends(chunks: Iterable[bytes]) -> list[int]:
    """Return where the chunks of `framed` end."""
    return list(accumulate((len(chunk(part)) for part in chunks), initial=len(HEAD)))


# What is recognised


@TAKERS
def test_plain_events_are_recognised(take: Take) -> None:
    parts = [ROLE, *(token(f"{number} ") for number in range(50)), *CLOSING]
    shapes = Shapes()
    for _ in range(3):
        taken = check(framed(parts), ends(parts), take, shapes)
        assert (taken.content.failure, taken.content.content_chunks) == (None, 50)
        # The first token is decoded, for its text and its stamp; no other is.
        assert taken.decoded == 1
        assert (taken.content.t_first_ns, taken.content.t_last_ns) == (3, 52)
        assert (taken.complete, taken.keep_alive) == (True, True)


@TAKERS
def test_many_plain_events_in_one_read_are_recognised(take: Take) -> None:
    parts = [ROLE, *(token(f"{number} ") for number in range(50)), *CLOSING]
    taken = check(framed(parts), ends(parts)[::10], take)
    assert taken.content.content_chunks == 50
    # Those of the first read are all decoded: together they are the first chunk.
    assert (taken.decoded, taken.content.first_chunks) == (9, 9)


@TAKERS
def test_without_the_shapes_everything_is_decoded(take: Take) -> None:
    parts = [ROLE, *(token() for _ in range(50)), *CLOSING]
    taken = check(framed(parts), ends(parts), take, NoShapes())
    assert taken.decoded == taken.content.content_chunks == 50


@TAKERS
def test_from_reasoning_to_content_to_a_call(take: Take) -> None:
    reasoning = [token("hm ", field="reasoning_content") for _ in range(20)]
    content = [token("so ") for _ in range(20)]
    arguments = [call('{"') for _ in range(20)]
    parts = [ROLE, *reasoning, *content, call("", "bash"), *arguments, *CLOSING]
    shapes = Shapes()
    for _ in range(2):
        taken = check(framed(parts), ends(parts), take, shapes)
        assert (taken.content.failure, taken.content.content_chunks) == (None, 61)
        # The first of each kind, and the name of the tool.
        assert taken.decoded == 4


@TAKERS
@pytest.mark.parametrize(
    ("between", "failure"),
    [
        (PING, None),
        (b"event: message\n\n", None),
        (b"\n", None),
        (USAGE, None),
        (token("b", usage={"prompt_tokens": 1, "completion_tokens": 7}), None),
        (token("b", finish="length"), None),
        (sse({"choices": []}), None),
        (token(""), None),
        (ERROR, "error_in_stream"),
        (sse({"object": "error", "message": "no"}), "error_in_stream"),
        (b"data: {broken}\n\n", "malformed"),
        (b"data: [1]\n\n", "malformed"),
        (DONE, None),
        (sse({"choices": [{"delta": {"content": "x"}}, {"delta": {"content": "y"}}]}), None),
        (token('\n"\\\u2028é漢🚀'), None),
        (b"data:" + token()[6:], None),
        (token()[:-2] + b"\r\n\r\n", None),
        (token()[:-2] + b"\r\r", None),
        (token() + token(), None),
        (PING + token() + PING, None),
        (b"id: 4\n" + token(), None),
    ],
)
def test_what_comes_between_plain_events(between: bytes, failure: str | None, take: Take) -> None:
    plain = [token() for _ in range(10)]
    parts = [ROLE, *plain, between, *plain, between, *plain, *CLOSING]
    shapes = Shapes()
    for group in (1, 3, 10):
        taken = check(framed(parts), ends(parts)[::group], take, shapes)
        assert taken.content.failure == failure
        assert taken.complete
        if group == 1 and failure is None:
            assert taken.decoded < 10


@TAKERS
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_line_ends(end: bytes, take: Take) -> None:
    parts = [part.replace(b"\n", end) for part in (ROLE, *(token() for _ in range(20)), *CLOSING)]
    taken = check(framed(parts), ends(parts), take)
    assert taken.content.failure is None
    # A lone CR may be half of a CRLF: such events are decoded.
    assert taken.decoded == (20 if end == b"\r" else 1)


@TAKERS
def test_events_that_are_split_over_chunks_and_reads(take: Take) -> None:
    stream = b"".join([ROLE, *(token("é漢🚀") for _ in range(12)), *CLOSING])
    for size in (1, 2, 7, 100, 150, 1_000):
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert check(framed(parts), ends(parts), take).content.failure is None
        assert check(framed(parts), range(0, 100_000, 61), take).content.failure is None


@TAKERS
def test_the_framing_of_the_chunks(take: Take) -> None:
    plain = [token("x" * number) for number in range(1, 40)]

    def taken(**framing: Callable[[int], bytes]) -> Taken:
        whole = Framed().add(HEAD)
        places = [len(whole.data)]
        for part in (ROLE, *plain, *CLOSING):
            whole.chunk(part, **{name: make(len(part)) for name, make in framing.items()})
            places.append(len(whole.data))
        found = check(whole.add(END), places, take)
        assert (found.content.failure, found.content.content_chunks) == (None, 39)
        assert found.complete
        return found

    assert taken().decoded == 1
    # Whatever servers seldom write is decoded, and is right.
    assert taken(size=lambda size: b"%X" % size).decoded > 1
    assert taken(size=lambda size: b"%04x" % size).decoded == 39
    assert taken(extension=lambda _: b";a=1").decoded == 39


@TAKERS
def test_trailers_and_what_follows_them(take: Take) -> None:
    parts = [ROLE, *(token() for _ in range(5)), *CLOSING]
    whole = Framed().add(HEAD)
    for part in parts:
        whole.chunk(part)
    whole.add(b"0\r\nX-Time: 5\r\nServer: y\r\n\r\n")
    assert check(whole, ends(parts), take).complete
    for place in range(ends(parts)[-1], len(whole.data)):
        assert check(whole, [*ends(parts), place], take).complete


@TAKERS
@pytest.mark.parametrize("headers", [b"Content-Length: %d\r\n", b""])
def test_a_body_without_chunks_is_decoded(headers: bytes, take: Take) -> None:
    parts = [ROLE, *(token() for _ in range(20)), *CLOSING]
    stream = b"".join(parts)
    head = b"HTTP/1.1 200 OK\r\n" + (headers and headers % len(stream)) + b"\r\n"
    places = accumulate(map(len, parts), initial=len(head))
    taken = check(Framed().add(head, stream), places, take)
    assert (taken.content.failure, taken.decoded) == (None, 20)


def wrong_sizes() -> Iterable[bytes]:
    part = token()
    size = len(part)
    for wrong in (size - 1, size + 1, size + 2, size - 2, 1, size * 2, 0x1000, size + 0x100):
        yield b"%x\r\n%b\r\n" % (wrong, part)
    yield b"-%b\r\n" % part
    yield b"\r\n%b\r\n" % part
    yield part
    yield b"%x\n%b\r\n" % (size, part)
    yield b"%x\r\n%b\n" % (size, part)
    yield b"%x\r\n%b" % (size, part)
    yield b" %x\r\n%b\r\n" % (size, part)
    yield b"%x \r\n%b\r\n" % (size, part)
    yield b"0%x\r\n%b\r\n" % (size, part)
    yield b"g%x\r\n%b\r\n" % (size, part)
    # Of a size that no whole chunk has; the mark that stands in its place must match no bytes either.
    for target in (262, 261, 263):
        yield b"-" + token("x" * (target - 3 - len(token("")))) + b"\r\n"


@TAKERS
@pytest.mark.parametrize("wrong", list(wrong_sizes()))
def test_chunks_that_are_none(wrong: bytes, take: Take) -> None:
    """Whether events are recognised or decoded: what comes of broken framing is the same."""
    plain = [chunk(token()) for _ in range(5)]
    reads = [HEAD, chunk(ROLE), *plain, wrong, *plain, *map(chunk, CLOSING), END]
    for group in (1, 2, 4, len(reads)):
        grouped = [b"".join(reads[start : start + group]) for start in range(0, len(reads), group)]
        recognised, decoded = (take(stamped(grouped), shapes) for shapes in (Shapes(), NoShapes()))
        assert recognised.told() == decoded.told()


@TAKERS
def test_a_read_that_ends_inside_a_size(take: Take) -> None:
    """What follows looks like a whole chunk, but is the rest of a larger one."""
    event = token("a" * 60)
    assert len(event) < 0x100
    body = event + b"\r\n" + b": " + b"x" * (0x100 - 6) + b"\n\n"
    line = b"%x\r\n" % len(body)
    assert line == b"1%x\r\n" % len(event)
    whole = framed([ROLE, event, event, body, event, *CLOSING])
    start = ends([ROLE, event, event])[-1]
    rest = start + 1 + len(b"%x\r\n" % len(event)) + len(event) + 2
    taken = check(whole, [*ends([ROLE, event, event]), start + 1, rest], take)
    assert (taken.content.failure, taken.content.content_chunks) == (None, 4)
    assert taken.complete


def test_the_first_line_of_a_chunk_that_fills_a_read() -> None:
    found = 0
    for size in range(1, 5_000):
        whole = chunk(bytes(size))
        if len(whole) < len(SIZE_LINES):
            assert SIZE_LINES[len(whole)] == whole[: whole.index(b"\n") + 1]
            found += 1
    assert found > 4_000
    assert sum(not line.endswith(b"\n") for line in SIZE_LINES) == len(SIZE_LINES) - found


def test_a_wake_up_for_nothing_is_nothing() -> None:
    owner = Owner()
    with established(owner, Shapes()) as (connection, _, _, loop):
        assert loop.reads.serve([(connection._fd, READ)]) == 0
        assert connection.open
        assert not owner.ended


# Stamps


def test_what_came_at_the_moment_of_the_first_token_is_part_of_it() -> None:
    """As records of TLS that one wake-up brought."""
    parts = [ROLE, *(token(f"{number},") for number in range(6)), *CLOSING]
    reads, bodies = framed(parts).cut(ends(parts))
    stamps = [1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6]
    shapes = Shapes()
    for _ in range(2):
        taken = feed(stamped(reads, stamps), shapes)
        assert taken.content == decode(stamped(bodies, stamps))
        assert (taken.content.first_text, taken.content.first_chunks) == ("0,1,2,", 3)
        assert (taken.content.t_first_ns, taken.content.t_last_ns, taken.decoded) == (2, 4, 3)


def test_the_time_of_progress_is_that_of_events_of_any_kind() -> None:
    memory = bytearray(1 << 18)
    response = Response(memory, memoryview(memory), Shapes())
    t_ns = 0

    def take(part: bytes) -> int:
        nonlocal t_ns
        t_ns += 1
        memory[: len(part)] = part
        response.feed(len(part), t_ns)
        return response.t_progress_ns

    assert take(HEAD) == 0
    assert take(chunk(PING)) == 0
    assert take(chunk(ROLE)) == 3
    assert response.t_first_token_ns is None
    assert take(chunk(token())) == 4
    assert response.t_first_token_ns == 4
    assert take(chunk(token())) == 5
    assert take(chunk(PING)) == 5
    assert take(chunk(token())) == 7
    assert take(chunk(FINISH)) == 8
    assert take(chunk(b"event: ping\n\n")) == 8
    assert take(chunk(b"data: {broken}\n\n")) == 10
    # It is lost, but it goes on.
    assert take(chunk(token())) == 11
    assert response.t_first_token_ns == 4


# Real streams


def events_of(raw: bytes) -> list[bytes]:
    end = b"\r\n\r\n" if b"\r\n\r\n" in raw else b"\n\n"
    return [part + end for part in raw.split(end) if part]


# Events that are decoded where each is a chunk and a read; of as many with output.
DECODED = {
    "azure-grok-text": (2, 8),
    "deepseek-chat-text": (1, 8),
    "deepseek-chat-toolcall": (2, 25),
    "deepseek-reasoner-reasoning-first150-last20": (2, 168),
    "gpustack-llamabox-qwen3-no-DONE": (2, 168),
    "llamacpp-b10349-reasoning-timings": (2, 66),
    "llamacpp-history-turn-1": (2, 123),
    "nim-llama-3.1-8b-chat": (2, 64),
    "ollama-cloud-gpt-oss-120b-toolcall": (3, 16),
    "ollama-qwen3-toolcall": (2, 100),
    "openrouter-reasoning_details-toolcall": (3, 18),
    "openrouter-text-after-tool": (1, 15),
}

captures = pytest.mark.parametrize(
    "path",
    CAPTURES
    or [pytest.param(None, marks=pytest.mark.skip(reason=f"the captures are not at {SHARED / 'sse'}"))],
    ids=lambda path: path.stem if path else "none",
)


@captures
@TAKERS
def test_a_capture_is_read_as_it_is_decoded(path: Any, take: Take) -> None:
    parts = events_of(path.read_bytes())
    shapes = Shapes()
    for _ in range(2):
        taken = check(framed(parts), ends(parts), take, shapes)
        assert taken.complete
        if path.stem in DECODED:
            assert (taken.decoded, taken.content.content_chunks) == DECODED[path.stem]
    for group in (2, 3, 16):
        check(framed(parts), ends(parts)[::group], take, shapes)
    check(framed([b"".join(parts)]), [], take, shapes)


@captures
def test_a_capture_may_be_cut_anywhere(path: Any) -> None:
    parts = events_of(path.read_bytes())
    whole = framed(parts)
    shapes = Shapes()
    check(whole, range(len(whole.data)), shapes=shapes)
    places = ends(parts)
    small = len(whole.data) <= SMALL_BYTES
    # Of a small one each byte, several far from each other at once.
    apart = max(1, len(whole.data) // 4) if small else len(whole.data)
    for number, first in enumerate(range(0, apart, 1 if small else apart // 17)):
        cuts = [*range(first, len(whole.data), apart)]
        # These alone, or beside those between events.
        check(whole, cuts if number % 3 else sorted([*places, *cuts]), shapes=shapes)


# Any stream


plain_texts = st.one_of(
    st.sampled_from(["a", " the", "\n", "漢字", "🚀", '"', "\\", "\u2028", "{", "x" * 300]),
    st.text(min_size=1),
)
plain_events = st.one_of(
    st.builds(token, plain_texts),
    st.builds(token, plain_texts, field=st.sampled_from(["reasoning", "reasoning_content"])),
    st.builds(call, plain_texts),
)
other_events = st.sampled_from(
    [
        ROLE, PING, FINISH, USAGE, DONE, ERROR, token(""), call("", "bash"), token("b", finish="length"),
        token("b", usage={"completion_tokens": 4}), b"event: x\n", b"\n", b"data: 5\n\n", b"data: {", b"\r",
        token().replace(b"\n", b"\r\n"), token().replace(b"\n", b"\r"), b"\xef\xbb\xbf",
    ]
)  # fmt: skip
streams = st.lists(st.one_of(plain_events, plain_events, plain_events, other_events), max_size=14).map(
    lambda parts: [ROLE, *parts, *CLOSING]
)


@given(
    streams,
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([1, 1, 2, 5]),
)
def test_any_stream_in_any_reads(
    parts: list[bytes], chance: random.Random, disorder: float, group: int
) -> None:
    """Mostly one event to a chunk and one chunk to a read, as servers do it; and now and then not."""
    whole = Framed().add(HEAD)
    places = [len(whole.data)]
    rest = b""
    for number, part in enumerate(parts):
        body, rest = rest + part, b""
        if chance.random() < disorder:
            place = chance.randrange(len(body) + 1)
            body, rest = body[:place], body[place:]
        if not body:
            continue
        odd = chance.random() < disorder
        size = chance.choice([b"%x", b"%X", b"%05x"]) % len(body) if odd else None
        whole.chunk(body, size, chance.choice([b"", b";a=1"]) if odd else b"")
        if number % group == 0:
            places.append(len(whole.data))
        if chance.random() < disorder:
            places.append(len(whole.data) - chance.randrange(len(body)))
    if rest:
        whole.chunk(rest)
    whole.add(END)
    shapes = Shapes()
    for take in (receive, receive, feed):
        assert check(whole, places, take, shapes).complete
    # Several reads at one moment, too.
    reads, bodies = whole.cut(places)
    stamps = list(accumulate(chance.randrange(2) for _ in reads))
    assert feed(stamped(reads, stamps), shapes).content == decode(stamped(bodies, stamps))


EDITS = [
    b"", b"\r\n", b"\n", b"\r", b"0", b"1", b"f", b"F", b"-", b";", b" ", b"\0", b"\xff", b'"', b"\\", b"}", b"{",
    b"data: ", b"\n\n", b'"finish_reason":"stop"', b"x", b"5\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
]  # fmt: skip


@given(
    st.lists(plain_events, min_size=3, max_size=8),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from(EDITS)), min_size=1, max_size=2),
    st.lists(st.floats(0, 1), max_size=2),
    st.sampled_from([1, 1, 1, 3]),
)
def test_what_was_tampered_with_is_decoded_or_recognised_alike(
    tokens: list[bytes], edits: list[tuple[float, int, bytes]], cuts: list[float], group: int
) -> None:
    parts = [part.replace(b'"id":"chatcmpl-01",', b"") for part in (ROLE, tokens[0], *tokens, *CLOSING)]
    data = bytes(framed(parts).data)
    places = ends(parts)[::group]
    for place, length, put in edits:
        start = places[0] + round(place * (len(data) - places[0]))
        data = data[:start] + put + data[start + length :]
        places = [old if old <= start else old + len(put) - length for old in places]
    spans = sorted({*places, *(round(cut * len(data)) for cut in cuts), 0, len(data)})
    reads = [data[a:b] for a, b in pairwise(spans) if 0 <= a < b]
    for take in (receive, feed):
        recognised, decoded = (take(stamped(reads), shapes) for shapes in (Shapes(), NoShapes()))
        assert recognised.told() == decoded.told()


# Memory


@pytest.mark.parametrize("usage_each", [False, True], ids=["recognised", "decoded"])
def test_a_long_stream_leaves_nothing_behind(usage_each: bool) -> None:
    counts = {"prompt_tokens": 1, "completion_tokens": 1}
    part = chunk(token("a", usage=counts) if usage_each else token("a"))
    memory = bytearray(1 << 18)
    response = Response(memory, memoryview(memory), Shapes())
    memory[: len(HEAD)] = HEAD
    response.feed(len(HEAD), 1)
    memory[: 10 * len(part)] = part * 10
    tracemalloc.start()
    try:
        kept = []
        for rounds in (200, 2_000):
            for t_ns in range(rounds):
                response.feed(10 * len(part), 10_000 * rounds + t_ns)
            # Of the package's work alone: others run in this process, too.
            ours = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.Filter(True, "*/pytest_agentperf/*")]
            )
            kept.append(sum(trace.size for trace in ours.traces))
    finally:
        tracemalloc.stop()
    assert kept[1] - kept[0] < 2_000
    assert response.content().content_chunks == 22_000
