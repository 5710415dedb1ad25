"""Foreign chat messages, checked and brought to OpenAI form, and the small values that come with them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.reading import MAX_DURATION_MS, brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import Conversation, ImportContext

NO_TOOLS = "tool definitions are not in the recording, so requests have none"
NO_ANSWER = "a recording in which the model never answered, left out"
MALFORMED = "the recording is damaged or not in this format: check it, or name its format by --format"

_ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "tool": "tool",
}
_TOKENS_MAX = 10**9
_EPOCH_MAX_S = 10**11


def chat_message(value: Any, *, where: str) -> dict[str, Any]:
    """Return a message as chat endpoints take it; what the agent noted beside is dropped. Raises DatasetError."""
    if not isinstance(value, dict):
        raise _wrong("a message that is no object", value, where)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise _wrong("a message with the role", role, where)
    message: dict[str, Any] = {
        "role": _ROLES[role],
        "content": chat_content(value.get("content"), where=where),
    }
    if isinstance(name := value.get("name"), str):
        message["name"] = name
    if message["role"] == "assistant":
        if reasoning := reasoning_text(value):
            message["reasoning_content"] = reasoning
        if calls := chat_calls(value.get("tool_calls"), where=where):
            message["tool_calls"] = calls
    if isinstance(call_id := value.get("tool_call_id"), str):
        message["tool_call_id"] = call_id
    return message


def chat_content(value: Any, *, where: str) -> Any:
    """Return text or a list of parts as recorded, without the marks of a provider's prompt cache."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _wrong("message content that is neither text nor parts", value, where)
    parts = []
    for part in value:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise _wrong("a content part without a type", part, where)
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise _wrong("a text part without text", part, where)
        parts.append({key: item for key, item in part.items() if key != "cache_control"})
    return parts


def chat_calls(value: Any, *, where: str) -> list[dict[str, Any]]:
    """Return tool calls in OpenAI form, their arguments as JSON text."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong("tool calls that are no list", value, where)
    return [_call(call, where=where) for call in value]


def _call(value: Any, *, where: str) -> dict[str, Any]:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _wrong("a tool call without a function's name", value, where)
    call_id = value.get("id")
    return {
        "id": call_id if isinstance(call_id, str) else None,
        "type": "function",
        "function": {
            "name": function["name"],
            "arguments": arguments_text(function.get("arguments"), where=where),
        },
    }


def arguments_text(value: Any, *, where: str) -> str:
    """Return a call's arguments as the JSON text that the model wrote, or that an agent parsed."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps({} if value is None else value, ensure_ascii=False)
    except (RecursionError, ValueError) as error:
        raise _wrong("a tool call's arguments that are no JSON", value, where) from error


def reasoning_text(value: dict[str, Any]) -> str | None:
    """Return an answer's reasoning, which recordings keep in one of several places."""
    beside = value.get("provider_specific_fields")
    for holder in (value, beside if isinstance(beside, dict) else {}):
        for field in ("reasoning_content", "reasoning"):
            if isinstance(text := holder.get(field), str) and text:
                return text
    blocks = value.get("thinking_blocks")
    texts = [
        block["thinking"]
        for block in (blocks if isinstance(blocks, list) else ())
        if isinstance(block, dict) and isinstance(block.get("thinking"), str)
    ]
    return "\n".join(texts) or None


def chat_tools(value: Any, *, where: str) -> list[dict[str, Any]] | None:
    """Return tool definitions, None where there are none: endpoints refuse an empty list."""
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise _wrong("tool definitions that are no list of objects", value, where)
    return value


def replay_messages(
    conversation: Conversation, messages: Sequence[Message], context: ImportContext, *, where: str
) -> None:
    """Tell a finished history to a conversation: every assistant message is an answer."""
    for message in messages:
        if message["role"] == "assistant" and conversation.history:
            conversation.answer(message)
            continue
        if message["role"] == "assistant":
            context.notes.add("an assistant message that opens a history is no answer", where)
        conversation.say(message)
    if conversation.tools is None and any(message.get("tool_calls") for message in messages):
        context.notes.add(NO_TOOLS, where)


def token_count(value: Any) -> int | None:
    """Return a plausible positive count, None for anything else: recorders write 0 for what they do not know."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value <= _TOKENS_MAX else None


def usage_counts(usage: Any) -> tuple[int | None, int | None]:
    """Return (prompt, output) tokens of an OpenAI usage object; cached and reasoning tokens are in them."""
    if not isinstance(usage, dict):
        return None, None
    return token_count(usage.get("prompt_tokens")), token_count(usage.get("completion_tokens"))


def duration_ns(seconds: Any) -> int | None:
    """Return a duration given in seconds, None if it is none that a tool could have."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    # Compared first: an integer may be too large to be a float.
    if not 0 <= seconds <= MAX_DURATION_MS / 1_000 or not math.isfinite(seconds):
        return None
    return round(seconds * 1_000_000_000)


def moment_ns(value: Any) -> int | None:
    """Return the time of an epoch in seconds or of an ISO text, to the microsecond; without a zone, as UTC."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(
                1970, 1, 1, tzinfo=UTC
            )
        except (ValueError, OverflowError):
            return None
        return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(value * 1_000_000) * 1_000 if 0 < value <= _EPOCH_MAX_S else None


def elapsed_ns(start_ns: int | None, end_ns: int | None) -> int | None:
    """Return the time between two moments, None where one is unknown or they are not in order."""
    if start_ns is None or end_ns is None:
        return None
    elapsed = end_ns - start_ns
    return elapsed if 0 <= elapsed <= MAX_DURATION_MS * 1_000_000 else None


def inner(value: Any, *fields: str) -> Any:
    """Return a field of a field, None where there is none."""
    for field in fields:
        value = value.get(field) if isinstance(value, dict) else None
    return value


def text_or_none(value: Any) -> str | None:
    """Return a non-empty text."""
    return value if isinstance(value, str) and value else None


def _wrong(what: str, value: Any, where: str) -> DatasetError:
    return DatasetError(f"{what}: {brief(value)}", where=where, remedy=MALFORMED)
