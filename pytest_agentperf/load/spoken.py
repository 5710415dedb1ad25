"""What a model said, read from the kept body of its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.kept import Spoken, ToolCall
from pytest_agentperf.load.events import EventSplitter
from pytest_agentperf.load.sse import parse_event, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def spoken(body: bytes) -> Spoken:
    """Return what a whole stream says; raises ValueError for a body that is no stream of chat completions."""
    reasoning: list[str] = []
    content: list[str] = []
    calls: dict[int, tuple[str, str]] = {}
    usage: dict[str, Any] = {}
    finish_reason = None
    try:
        for payload in _payloads(body):
            usage = payload.get("usage") or usage
            for choice in payload.get("choices") or ():
                finish_reason = choice.get("finish_reason") or finish_reason
                delta = choice.get("delta") or {}
                content.append(text_of(delta.get("content")))
                # There are servers that send both, one being the other.
                reasoning.append(text_of(delta.get("reasoning")) or text_of(delta.get("reasoning_content")))
                _add_calls(calls, delta.get("tool_calls") or ())
    except (AttributeError, TypeError) as error:
        raise ValueError(f"an event of another shape: {error}") from None
    return Spoken(
        reasoning="".join(reasoning),
        content="".join(content),
        calls=tuple(ToolCall(*call) for _, call in sorted(calls.items())),
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        prompt_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
    )


def _payloads(body: bytes) -> Iterator[dict[str, Any]]:
    events = EventSplitter()
    for _, data, _ in (*events.feed(0, body), *events.finish()):
        if data != b"[DONE]":
            payload = parse_event(data)
            if not isinstance(payload, dict):
                raise ValueError("an event that is no JSON object")
            yield payload


def _add_calls(calls: dict[int, tuple[str, str]], deltas: Any) -> None:
    for place, delta in enumerate(deltas):
        function = delta.get("function") or {}
        index = delta.get("index")
        number = index if isinstance(index, int) else place
        name, arguments = calls.get(number, ("", ""))
        calls[number] = (
            name + (function.get("name") or ""),
            arguments + text_of(function.get("arguments")),
        )
