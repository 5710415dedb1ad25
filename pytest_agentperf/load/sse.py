"""Decodes a finished stream of server-sent events: what came, when, and how it ended.

Runs after the response has closed, on raw reads and their timestamps. Handles CR, LF and CRLF in any split,
comments, multi-line data, a missing `[DONE]`, usage in any chunk, reasoning under two names and errors in-stream.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")
_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"
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


class Event(NamedTuple):
    """One event's data, and the time of the read that completed its last line."""

    t_ns: int
    data: bytes
    whole: bool
    """False where the stream ended inside the event's last line."""


def events(reads: Iterable[tuple[int, bytes]]) -> Iterator[Event]:
    """Yield the events of a stream; one that the stream's end left without its empty line counts too."""
    rest = b""
    first_line = True
    after_cr = False
    data: list[bytes] = []
    t_data = 0
    t_ns = 0
    for t_ns, read in reads:
        if not read:
            continue
        # A CRLF split across two reads is one line end, not two.
        chunk = read[1:] if after_cr and read[:1] == b"\n" else read
        after_cr = read[-1:] == b"\r"
        lines = _LINE_END.split(rest + chunk)
        rest = lines.pop()
        if first_line and lines:
            lines[0] = lines[0].removeprefix(_BOM)
            first_line = False
        for line in lines:
            if line.startswith(b"data"):
                if (value := _field_value(line)) is not None:
                    data.append(value)
                    t_data = t_ns
            elif not line and data:
                yield Event(t_data, b"\n".join(data), whole=True)
                data = []
    if first_line:
        rest = rest.removeprefix(_BOM)
    if (value := _field_value(rest)) is not None:
        data.append(value)
        t_data = t_ns
    if data:
        yield Event(t_data, b"\n".join(data), whole=value is None)


def _field_value(line: bytes) -> bytes | None:
    if line == b"data":
        return b""
    if not line.startswith(b"data:"):
        return None
    value = line[5:]
    return value[1:] if value.startswith(b" ") else value


def decode(reads: Iterable[tuple[int, bytes]]) -> StreamContent:
    """Decode the reads of one response body (monotonic ns, bytes) into its content."""
    content = StreamContent()
    done = False
    for t_ns, data, whole in events(reads):
        if data == _DONE:
            done = True
            continue
        try:
            payload = json.loads(data)
        except (ValueError, RecursionError):
            if not whole:
                return _failed(content, "cut", "the stream ended inside an event")
            return _failed(content, "malformed", f"not JSON: {data[:120].decode(errors='replace')!r}")
        if not isinstance(payload, dict):
            return _failed(content, "malformed", "an event that is no JSON object")
        if payload.get("error"):
            return _failed(content, "error_in_stream", _as_text(payload["error"])[:_DETAIL_CHARS])
        if payload.get("object") == "error":
            return _failed(content, "error_in_stream", _as_text(payload)[:_DETAIL_CHARS])
        try:
            _take(content, payload, t_ns)
        except (AttributeError, TypeError, ValueError) as error:
            return _failed(content, "malformed", f"an event of another shape: {error}")
    if content.finish_reason in _GIVEN_UP:
        return _failed(content, "error_in_stream", f"finish_reason {content.finish_reason!r}")
    if content.finish_reason is None and not done:
        return _failed(content, "cut", "the stream ended without finish_reason and [DONE]")
    if content.output_tokens is None:
        return _failed(content, "no_usage", "the stream ended without usage")
    if content.t_first_ns is None:
        return _failed(content, "no_output", "the stream finished without any output")
    return content


def _failed(content: StreamContent, failure: str, detail: str) -> StreamContent:
    content.failure, content.failure_detail = failure, detail
    return content


def _take(content: StreamContent, payload: dict[str, Any], t_ns: int) -> None:
    if content.response_id is None:
        content.response_id = _label(payload.get("id"))
    text = ""
    for choice in payload.get("choices") or ():
        if choice.get("finish_reason"):
            content.finish_reason = _label(choice["finish_reason"])
        text += _output_text(choice.get("delta") or {})
    usage = payload.get("usage")
    if usage:
        _take_usage(content, usage)
    if not text:
        return
    if content.t_first_ns is None:
        content.t_first_ns = t_ns
    if t_ns == content.t_first_ns:
        # Events that one read brought came at one moment: all their tokens are n₁, or a buffer would flatter.
        content.first_text += text
        content.first_chunks += 1
        content.first_tokens = ((usage or {}).get("completion_tokens") or None) if usage else None
    content.t_last_ns = t_ns
    content.content_chunks += 1


def _output_text(delta: dict[str, Any]) -> str:
    """Return all that counts as output: content, reasoning, tool-call names and arguments."""
    parts = [
        _text(delta.get("content")),
        _text(delta.get("reasoning")),
        _text(delta.get("reasoning_content")),
    ]
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        parts += [function.get("name") or "", _text(function.get("arguments"))]
    return "".join(parts)


def _text(value: Any) -> str:
    if not value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(part.get("text") or part.get("thinking")) for part in value)
    return json.dumps(value)


def _label(value: Any) -> str | None:
    """Return a value for a text column: None for nothing, whatever the server sends in its place as text."""
    return _as_text(value) if value else None


def _as_text(value: Any) -> str:
    """Return text that can be written: JSON for what is no text, and no half of a surrogate pair."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
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
