"""Chat messages in OpenAI form: checked where a recording has such, made where it has another form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.values import (
    MALFORMED,
    arguments_text,
    inner,
    mapping,
    objects,
    text,
    token_count,
)
from pytest_agentperf.dataset.reading import brief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.dataset.formats.base import Note


NO_TOOLS = "tool definitions are not in the recording, so requests have none"
NO_TEXT = "images and other content that is no text"
NO_ANSWER = "a recording in which the model never answered, left out"

_ROLES = {
    "system": "system",
    # OpenAI's own name for it: many chat templates drop or refuse such messages.
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "tool": "tool",
}


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
    if (name := text(value.get("name"))) is not None:
        message["name"] = name
    if message["role"] == "assistant":
        if reasoning := reasoning_text(value):
            message["reasoning_content"] = reasoning
        if calls := _calls(value.get("tool_calls"), where=where):
            message["tool_calls"] = calls
    if (call_id := text(value.get("tool_call_id"))) is not None:
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


def _calls(value: Any, *, where: str) -> list[dict[str, Any]]:
    """Return tool calls in OpenAI form, their arguments as JSON text."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong("tool calls that are no list", value, where)
    return [_call(call, where=where) for call in value]


def _call(value: Any, *, where: str) -> dict[str, Any]:
    name = text(inner(value, "function", "name"))
    if name is None:
        raise _wrong("a tool call without a function's name", value, where)
    return tool_call(text(value.get("id")), name, arguments_text(value["function"].get("arguments"), where))


def tool_call(call_id: str | None, name: str, arguments: str) -> dict[str, Any]:
    """Return a tool call in OpenAI form; `arguments` are JSON text."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def reasoning_text(value: dict[str, Any]) -> str | None:
    """Return an answer's reasoning, which recordings keep in one of several places."""
    for holder in (value, mapping(value.get("provider_specific_fields"))):
        for name in ("reasoning_content", "reasoning"):
            if found := text(holder.get(name)):
                return found
    thoughts = (text(block.get("thinking")) for block in objects(value.get("thinking_blocks")))
    return "\n".join(one for one in thoughts if one is not None) or None


def chat_tools(value: Any, *, where: str) -> list[dict[str, Any]] | None:
    """Return tool definitions, None where there are none: endpoints refuse an empty list."""
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise _wrong("tool definitions that are no list of objects", value, where)
    return value


def usage_counts(usage: Any) -> tuple[int | None, int | None]:
    """Return (prompt, output) tokens of an OpenAI usage object; cached and reasoning tokens are in them."""
    return token_count(inner(usage, "prompt_tokens")), token_count(inner(usage, "completion_tokens"))


def joined_text(content: Any, note: Note) -> str:
    """Return content as one text, a line for each part; what is no text is noted and left out."""
    if isinstance(content, str):
        return content
    texts = []
    for part in objects(content):
        if (found := text(part.get("text"))) is not None:
            texts.append(found)
        else:
            note(NO_TEXT)
    return "\n".join(texts)


def text_content(texts: list[str]) -> str | list[dict[str, str]]:
    """Return a message's content: one text as it is, several as text parts."""
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": one} for one in texts]


def attachment_text(mime: str | None, name: str | None = None) -> str:
    """Return the line that stands for an image or a document, as OpenCode writes it for models without media."""
    return f"[Attached {mime or 'file'}: {name or 'file'}]"


def _wrong(what: str, value: Any, where: str) -> DatasetError:
    return DatasetError(f"{what}: {brief(value)}", where=where, remedy=MALFORMED)


def assistant(
    content: str | None,
    *,
    reasoning: str | None = None,
    calls: Sequence[tuple[str | None, str, str]] = (),
) -> dict[str, Any]:
    """Return an assistant message; `calls` are (id, tool, arguments as JSON text)."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [tool_call(*call) for call in calls]
    return message
