"""One HTTP response, decoded as its reads arrive: status, framing, and the stream inside.

A read that holds nothing but plain output events, one to an HTTP chunk, is recognised by its bytes and only counted:
no parse, no object, nothing kept. Every other read goes through httptools, the event splitter and JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from pytest_agentperf.load.sse import StreamDecoder

if TYPE_CHECKING:
    from pytest_agentperf.load.shape import Match, Shapes
    from pytest_agentperf.load.sse import StreamContent

_ERROR_BYTES_MAX = 8_192
_HEAD_BYTES_MAX = 64 * 1024
"""Of headers, trailers and interim responses together; real ones have a few hundred bytes."""
_CHUNK_LINE_ENDS = 4
"""Bytes of an HTTP chunk besides its size and its data: two line ends."""
_LF = 0x0A
_SIZES = {b"%x" % size: size for size in range(1 << 13)}


class _OutOfStep(Exception):
    """Ends the parse of what follows a whole response."""


class _EndlessHead(Exception):
    """Ends the parse of headers that no server needs."""

    def __init__(self) -> None:
        super().__init__(f"its headers are longer than {_HEAD_BYTES_MAX:,} bytes")


class Response:
    """Fed by one connection until `complete`; then, or when it broke off, `content` says what came."""

    __slots__ = (
        "_between_chunks",
        "_decoder",
        "_error",
        "_head_bytes",
        "_match_chunk",
        "_memory",
        "_parser",
        "_plain_chunks",
        "_t_plain_ns",
        "_unparsed_bytes",
        "_view",
        "_whole_when_closed",
        "complete",
        "keep_alive",
        "keep_alive_s",
        "plain",
        "started",
        "status",
        "t_read_ns",
    )

    def __init__(self, memory: bytearray, view: memoryview, shapes: Shapes) -> None:
        """`feed` reads from `memory`; `view` is a view of it."""
        self.status: int | None = None
        self.started = False
        """Whether any byte has come: the server has begun to answer."""
        self.complete = False
        self.keep_alive = False
        self.keep_alive_s: float | None = None
        """How long the server says that it keeps an idle connection."""
        self.t_read_ns = 0
        self.plain: Match | None = None
        """Recognises a plain event that is an HTTP chunk, behind its size; None where none may come next.

        Whoever reads may count what it recognises instead of feeding it, if it tells `count_plain`.
        """
        self._head_bytes = 0
        self._unparsed_bytes = 0
        """What came since the body last grew: the parser keeps it until a header's line ends."""
        self._plain_chunks = 0
        self._t_plain_ns = 0
        self._memory = memory
        self._view = view
        self._decoder = StreamDecoder(shapes)
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._match_chunk: Match | None = None
        self._error = bytearray()
        self._between_chunks = False
        self._whole_when_closed = True

    def feed(self, size: int, t_ns: int) -> None:
        """Take the read in the first `size` bytes of the memory; raises HttpParserError if it is no HTTP."""
        self.t_read_ns = t_ns
        place = 0
        match = self._match_chunk
        # What came at the moment of the first token counts as a part of it: its text is needed.
        if match is not None and t_ns != self._decoder.content.t_first_ns:
            memory = self._memory
            count = 0
            while (found := match(memory, place, size)) is not None:
                end = found.end()
                if _SIZES.get(found[1]) != end - found.end(1) - _CHUNK_LINE_ENDS:
                    break
                count += 1
                place = end
            if count:
                self.count_plain(count, t_ns)
                if place == size:
                    return
        self.started = True
        self._feed_parser(self._view[place:size])

    def count_plain(self, count: int, t_ns: int) -> None:
        """Take plain events that were recognised elsewhere, and when the last of them came."""
        self._plain_chunks += count
        self._t_plain_ns = t_ns

    def _feed_parser(self, data: memoryview) -> None:
        assert self._parser is not None
        self._unparsed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            self.status = self._parser.get_status_code()
            raise httptools.HttpParserError(str(error)) from None
        except httptools.HttpParserCallbackError as error:
            # The parser wraps what its callbacks raise.
            if isinstance(error.__context__, _EndlessHead):
                raise httptools.HttpParserError(str(error.__context__)) from None
            raise
        if self._unparsed_bytes > _HEAD_BYTES_MAX:
            raise httptools.HttpParserError(str(_EndlessHead()))
        decoder = self._decoder
        shape = decoder.shape
        # Without the line's end, a part of the next chunk's size was read already.
        if shape is not None and self._between_chunks and data[-1] == _LF and decoder.at_boundary:
            self.plain, self._match_chunk = shape.one_chunk, shape.chunk
        else:
            self.plain = self._match_chunk = None

    def closed(self) -> None:
        """The server closed the connection in good order: a body without a length is complete then."""
        if self.status is not None and self._whole_when_closed:
            self.complete = True

    def release(self) -> None:
        """Let go of the parser: it and this object hold each other, and the collector is off while a phase runs."""
        self._parser = None

    @property
    def t_first_token_ns(self) -> int | None:
        """Return when output began, None as long as none came."""
        return self._decoder.content.t_first_ns

    @property
    def t_progress_ns(self) -> int:
        """Return when the stream last moved: its last event, comments not counted."""
        return max(self._decoder.t_event_ns or 0, self._t_plain_ns)

    def content(self) -> StreamContent:
        """Return what the stream held, once it has ended."""
        content = self._decoder.content
        content.content_chunks += self._plain_chunks
        if self._plain_chunks:
            content.t_last_ns = max(content.t_last_ns or 0, self._t_plain_ns)
        self._plain_chunks = 0
        return self._decoder.finish()

    def error_text(self) -> str:
        """Return the beginning of the body of an answer that is no stream."""
        return bytes(self._error).decode(errors="replace")

    # httptools callbacks
    def on_message_begin(self) -> None:
        """A second message: more came than was asked for, and the connection is out of step."""
        if self.complete:
            self.keep_alive = False
            raise _OutOfStep

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how the body's end is told, and how long the connection may idle."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _HEAD_BYTES_MAX:
            raise _EndlessHead
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._whole_when_closed = False
        elif name == b"keep-alive":
            self.keep_alive_s = _timeout_s(value)

    def on_headers_complete(self) -> None:
        """Note the status."""
        assert self._parser is not None
        self.status = self._parser.get_status_code()

    def on_chunk_header(self) -> None:
        """An HTTP chunk begins."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """An HTTP chunk has ended."""
        self._between_chunks = True

    def on_body(self, body: bytes) -> None:
        """Decode what an answer streams; of a refusal keep the beginning."""
        self._unparsed_bytes = 0
        if self.status == 200:
            self._decoder.feed(self.t_read_ns, body)
        elif len(self._error) < _ERROR_BYTES_MAX:
            self._error += body[:_ERROR_BYTES_MAX]

    def on_message_complete(self) -> None:
        """The response is whole, unless it was an interim one (RFC 9110 §15.2): then the final one follows."""
        assert self._parser is not None
        if self._parser.get_status_code() < 200:
            self.status = None
            self._whole_when_closed = True
            return
        self.complete = True
        self.keep_alive = bool(self._parser.should_keep_alive())


def _timeout_s(keep_alive: bytes) -> float | None:
    """Return the timeout of a `Keep-Alive: timeout=5, max=100` header."""
    for part in keep_alive.split(b","):
        name, _, value = part.partition(b"=")
        if name.strip().lower() == b"timeout":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None
