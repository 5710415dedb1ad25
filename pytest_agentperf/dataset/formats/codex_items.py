"""Items of the Responses API, as Codex logs them, turned into chat messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.chat import assistant, joined_text
from pytest_agentperf.dataset.formats.times import duration_ns
from pytest_agentperf.dataset.formats.values import (
    arguments_text,
    inner,
    json_text,
    mapping,
    objects,
    parsed,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import Note

# Tuples: what is looked for in them may be anything, a list for example.
_CALLS = ("function_call", "custom_tool_call", "local_shell_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
_ROLES = {"user": "user", "system": "system", "developer": "system"}
"""Developer messages become system messages, as in `chat`."""
ENCRYPTED_SUMMARIES = ("compaction", "compaction_summary")
_WALL_TIME = re.compile(r"^Wall time: ([0-9]{1,6}(?:\.[0-9]{1,9})?) seconds$", re.MULTILINE)
_WALL_TIME_WITHIN = 400
"""Characters; later in an output it is the tool's own text."""


def is_item(item: dict[str, Any]) -> bool:
    """Return whether an object is a Responses item of a kind that a chat has too."""
    kind = item.get("type")
    return kind in ("message", "reasoning") or kind in _CALLS or kind in _OUTPUTS


def is_output(item: dict[str, Any]) -> bool:
    """Return whether an item is what a tool call gave."""
    return item.get("type") in _OUTPUTS


def is_answer(item: dict[str, Any]) -> bool:
    """Return whether the model wrote an item."""
    kind = item.get("type")
    return kind == "reasoning" or kind in _CALLS or (kind == "message" and item.get("role") == "assistant")


def said(item: dict[str, Any], note: Note) -> Message | None:
    """Return the chat message of a message item that the model did not write."""
    role = _ROLES.get(text(item.get("role")) or "")
    if item.get("type") != "message" or role is None:
        return None
    return {"role": role, "content": joined_text(item.get("content"), note)}


def output(item: dict[str, Any], note: Note) -> tuple[str | None, str]:
    """Return an output's call id and the text that the model was shown."""
    value = item.get("output")
    if isinstance(value, dict):
        value = value.get("content")
    return text(item.get("call_id")) or text(item.get("id")), joined_text(value, note)


def stated_duration_ns(shown: str) -> int | None:
    """Return the duration that an output states itself: in its metadata, or as a line of its own."""
    if shown.startswith("{") and '"duration_seconds"' in shown:
        return duration_ns(inner(parsed(shown), "metadata", "duration_seconds"))
    found = _WALL_TIME.search(shown, 0, _WALL_TIME_WITHIN)
    return None if found is None else duration_ns(float(found[1]))


class Answer:
    """One response of the model, gathered from its items."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[str | None, str, str]] = []

    @property
    def call_ids(self) -> list[str]:
        """Return the ids of its calls."""
        return [id_ for id_, _, _ in self._calls if id_ is not None]

    def add(self, item: dict[str, Any], note: Note) -> str | None:
        """Take one item; returns its call id if it is a call."""
        kind = item.get("type")
        if kind == "message":
            self._texts.append(joined_text(item.get("content"), note))
            return None
        if kind == "reasoning":
            # A summary is another text than the reasoning, and shorter: it is not put in its place.
            if found := [t for part in objects(item.get("content")) if (t := text(part.get("text")))]:
                self._reasoning += found
            else:
                note("reasoning whose text is encrypted or not recorded")
            return None
        call_id = text(item.get("call_id")) or text(item.get("id"))
        if kind == "function_call":
            arguments = arguments_text(item.get("arguments"))
        elif kind == "custom_tool_call":
            arguments = json_text({"input": item.get("input")})
        else:
            arguments = json_text(mapping(item.get("action")))
        name = text(item.get("name")) or ("local_shell" if kind == "local_shell_call" else "unknown")
        self._calls.append((call_id, name, arguments))
        return call_id

    def message(self) -> dict[str, Any] | None:
        """Return the assistant message, None where nothing was said and nothing called."""
        content = "\n".join(part for part in self._texts if part)
        if not content and not self._calls:
            return None
        return assistant(content or None, reasoning="\n".join(self._reasoning), calls=self._calls)


def chat_history(items: Iterable[dict[str, Any]], note: Note) -> list[Message]:
    """Return the messages of items that stand as a history."""
    history: list[Message] = []
    answer: Answer | None = None
    for item in items:
        if is_answer(item):
            answer = answer or Answer()
            answer.add(item, note)
            continue
        if answer is not None and (message := answer.message()) is not None:
            history.append(message)
        answer = None
        if is_output(item):
            call_id, shown = output(item, note)
            history.append({"role": "tool", "tool_call_id": call_id, "content": shown})
        elif (message_said := said(item, note)) is not None:
            history.append(message_said)
    if answer is not None and (message := answer.message()) is not None:
        history.append(message)
    return history
