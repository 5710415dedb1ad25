"""Decodes a stream of server-sent events from its raw reads: what came, when, and how it ended.

Copes with a missing `[DONE]`, usage in any chunk, reasoning under two names and errors in-stream.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from pytest_agentperf.load.events import EventSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.load.shape import Shape, Shapes

_DONE = b"[DONE]"
_DETAIL_CHARS = 1_000
# How servers end an answer that they gave up: by no measure an answer.
_GIVEN_UP = frozenset({"abort", "cancelled", "error", "timeout"})


@dataclass(slots=True)
class StreamContent:
    """What a stream held. `failure` is None if it finished properly."""

    failure: str | None = None
    failure_detail: str | None = None
    t_first_ns: int | None = None
    t_last_ns: int | None = None
    first_text: str = ""
    """All text that arrived with the first token, in `first_chunks` chunks."""
    first_chunks: int = 0
    first_tokens: int | None = None
    """The running count of the last of them, where the server sends one."""
    content_chunks: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    response_id: str | None = None


class StreamDecoder:
    """Decodes one response body, read by read."""

    __slots__ = ("_done", "_events", "_shapes", "content", "shape", "t_event_ns")

    def __init__(self, shapes: Shapes | None = None) -> None:
        self.content = StreamContent()
        self.shape: Shape | None = None
        """The shape of the last event that brought output, if it has one."""
        self.t_event_ns: int | None = None
        """When the last event came, of whatever kind: comments are none."""
        self._events = EventSplitter()
        self._shapes = shapes
        self._done = False

    @property
    def at_boundary(self) -> bool:
        """Return whether the last read ended where an event ended, and nothing was wrong so far."""
        return self._events.at_boundary and self.content.failure is None

    def feed(self, t_ns: int, read: bytes) -> None:
        """Take one read and its time (monotonic ns)."""
        if (data := self._events.whole_event(read)) is not None:
            self._event(t_ns, data, whole=True)
            return
        try:
            events = self._events.feed(t_ns, read)
        except ValueError as error:
            self._fail("malformed", str(error))
            return
        for event in events:
            self._event(event.t_ns, event.data, whole=event.whole)

    def finish(self) -> StreamContent:
        """Return the content after the last read; an event that lacks only its empty line counts too."""
        for event in self._events.finish():
            self._event(event.t_ns, event.data, whole=event.whole)
        content = self.content
        if content.failure is not None:
            return content
        if content.finish_reason in _GIVEN_UP:
            self._fail("error_in_stream", f"finish_reason {content.finish_reason!r}")
        elif content.finish_reason is None and not self._done:
            self._fail("cut", "the stream ended without finish_reason and [DONE]")
        elif content.output_tokens is None:
            self._fail("no_usage", "the stream ended without usage")
        elif content.t_first_ns is None:
            self._fail("no_output", "the stream finished without any output")
        return content

    def _event(self, t_ns: int, data: bytes, *, whole: bool) -> None:
        self.t_event_ns = t_ns
        if self.content.failure is not None:
            return
        if data == _DONE:
            self._done = True
            return
        try:
            payload = parse_event(data)
        except (ValueError, RecursionError):
            if not whole:
                self._fail("cut", "the stream ended inside an event")
            else:
                self._fail("malformed", f"not JSON: {data[:120].decode(errors='replace')!r}")
            return
        if not isinstance(payload, dict):
            self._fail("malformed", "an event that is no JSON object")
        elif payload.get("error"):
            self._fail("error_in_stream", _as_text(payload["error"])[:_DETAIL_CHARS])
        elif payload.get("object") == "error":
            self._fail("error_in_stream", _as_text(payload)[:_DETAIL_CHARS])
        else:
            try:
                brought_output = _take(self.content, payload, t_ns)
                if brought_output and self._shapes is not None:
                    self.shape = self._shapes.find(data, payload)
            except (AttributeError, TypeError, ValueError) as error:
                self._fail("malformed", f"an event of another shape: {error}")

    def _fail(self, failure: str, detail: str) -> None:
        content = self.content
        if content.failure is None:
            content.failure, content.failure_detail = failure, detail


def decode(reads: Iterable[tuple[int, bytes]]) -> StreamContent:
    """Decode the reads of one whole response body (monotonic ns, bytes) into its content."""
    decoder = StreamDecoder()
    for t_ns, read in reads:
        decoder.feed(t_ns, read)
    return decoder.finish()


def parse_event(data: bytes) -> Any:
    """Return an event's JSON; raises ValueError."""
    try:
        return orjson.loads(data)
    except ValueError:
        # It refuses halves of surrogate pairs and NaN, which Python servers do send.
        return json.loads(data)


def _take(content: StreamContent, payload: dict[str, Any], t_ns: int) -> bool:
    """Enter one event; returns whether it brought output."""
    if content.response_id is None:
        content.response_id = _label(payload.get("id"))
    text = ""
    for choice in payload.get("choices") or ():
        if reason := choice.get("finish_reason"):
            content.finish_reason = _label(reason)
        if delta := choice.get("delta"):
            text += _output_text(delta)
    if usage := payload.get("usage"):
        _take_usage(content, usage)
    if not text:
        return False
    if content.t_first_ns is None:
        content.t_first_ns = t_ns
    if t_ns == content.t_first_ns:
        # Events that one read brought came at one moment: all their tokens are n₁, or a buffer would flatter.
        content.first_text += text
        content.first_chunks += 1
        content.first_tokens = ((usage or {}).get("completion_tokens") or None) if usage else None
    content.t_last_ns = t_ns
    content.content_chunks += 1
    return True


def _output_text(delta: dict[str, Any]) -> str:
    """Return all that counts as output: content, reasoning, tool-call names and arguments."""
    text = delta.get("content")
    if len(delta) == 1 and isinstance(text, str):
        return text
    parts = [
        text_of(text),
        text_of(delta.get("reasoning")),
        text_of(delta.get("reasoning_content")),
    ]
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        parts += [function.get("name") or "", text_of(function.get("arguments"))]
    return "".join(parts)


def text_of(value: Any) -> str:
    """Return the text of a delta's field, whether it is plain, in parts or JSON."""
    if not value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(text_of(part.get("text") or part.get("thinking")) for part in value)
    return json.dumps(value)


def _label(value: Any) -> str | None:
    """Return a value for a text column: None for nothing, whatever the server sends in its place as text."""
    return _as_text(value) if value else None


def _as_text(value: Any) -> str:
    """Return text that can be written: JSON for what is no text, and no half of a surrogate pair."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _take_usage(content: StreamContent, usage: dict[str, Any]) -> None:
    content.prompt_tokens = _count(usage, "prompt_tokens", content.prompt_tokens)
    content.output_tokens = _count(usage, "completion_tokens", content.output_tokens)
    content.cached_tokens = _count(
        usage.get("prompt_tokens_details") or {},
        "cached_tokens",
        _count(usage, "prompt_cache_hit_tokens", content.cached_tokens),
    )
    content.reasoning_tokens = _count(
        usage.get("completion_tokens_details") or {}, "reasoning_tokens", content.reasoning_tokens
    )


def _count(mapping: dict[str, Any], name: str, otherwise: int | None) -> int | None:
    value = mapping.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value
