"""Messages of OpenTelemetry's `gen_ai` attributes as chat messages.

The conventions have `parts`; many instrumentations write the provider's own form instead, OpenAI's or Anthropic's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.chat import NO_TEXT, assistant
from pytest_agentperf.dataset.formats.values import arguments_text, json_text, mapping, objects, parsed, text

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import Note

_CALLS = ("tool_call", "tool_use", "function_call")
_RESULTS = ("tool_call_response", "tool_result", "function_call_output")
_REASONING = ("reasoning", "thinking")
_ROLES = {
    **{role: role for role in ("system", "user", "assistant", "tool")},
    "developer": "system",
    "model": "assistant",
    "function": "tool",
}


def chat_messages(value: Any, note: Note) -> list[Message]:
    """Return the chat messages of an attribute that holds some."""
    found = parsed(value)
    return [message for item in objects(found) for message in _messages(item, note)]


def system_text(value: Any, note: Note) -> str:
    """Return the text of system instructions, which stand in an attribute of their own."""
    found = parsed(value)
    if found is None and isinstance(value, str):
        return value
    return found if isinstance(found, str) else "\n".join(_texts(found, note))


def chat_tools(value: Any) -> list[dict[str, Any]] | None:
    """Return tool definitions in OpenAI's form, None where there are none."""
    tools = []
    for tool in objects(parsed(value)):
        if isinstance(tool.get("function"), dict):
            tools.append(tool)
        elif isinstance(tool.get("name"), str):
            function = {"name": tool["name"], "description": tool.get("description") or ""}
            if (schema := tool.get("parameters") or tool.get("input_schema")) is not None:
                function["parameters"] = schema
            tools.append({"type": "function", "function": function})
    return tools or None


def _messages(item: dict[str, Any], note: Note) -> list[Message]:
    role = _ROLES.get(text(item.get("role")) or "")
    if role is None:
        note("messages of an unknown role")
        return []
    parts = item.get("parts") if isinstance(item.get("parts"), list) else item.get("content")
    results = [part for part in objects(parts) if part.get("type") in _RESULTS]
    messages = [_result(part, note) for part in results]
    if role == "tool" and not results:
        call_id = text(item.get("tool_call_id")) or text(item.get("id"))
        return [{"role": "tool", "tool_call_id": call_id, "content": "\n".join(_texts(parts, note))}]
    if role == "assistant":
        return [_assistant(item, parts, note)]
    content = _texts(parts, note)
    # Results come first in a message that has more: they answer the message before.
    if content or not results:
        messages.append({"role": role, "content": "\n".join(content)})
    return messages


def _assistant(item: dict[str, Any], parts: Any, note: Note) -> Message:
    reasoning = [text(item.get("reasoning_content")) or ""]
    calls = [_openai_call(call) for call in objects(item.get("tool_calls"))]
    for part in objects(parts):
        kind = part.get("type")
        if kind in _CALLS:
            arguments = part.get("arguments", part.get("input"))
            name = text(part.get("name")) or "unknown"
            calls.append((text(part.get("id")), name, arguments_text(arguments)))
        elif kind in _REASONING:
            reasoning.append(text(part.get("content")) or text(part.get("thinking")) or "")
    content = "\n".join(_texts(parts, note))
    return assistant(content or None, reasoning="\n".join(filter(None, reasoning)), calls=calls)


def _openai_call(call: dict[str, Any]) -> tuple[str | None, str, str]:
    function = mapping(call.get("function"))
    arguments = arguments_text(function.get("arguments"))
    return text(call.get("id")), text(function.get("name")) or "unknown", arguments


def _result(part: dict[str, Any], note: Note) -> Message:
    call_id = text(part.get("id")) or text(part.get("tool_use_id")) or text(part.get("call_id"))
    value = next((part[name] for name in ("response", "result", "content", "output") if name in part), None)
    if isinstance(value, list) and all("text" in mapping(one) for one in value):
        value = "\n".join(_texts(value, note))
    shown = value if isinstance(value, str) else "" if value is None else json_text(value)
    return {"role": "tool", "tool_call_id": call_id, "content": shown}


def _texts(parts: Any, note: Note) -> list[str]:
    if isinstance(parts, str):
        return [parts]
    found = []
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, str):
            found.append(part)
            continue
        kind = mapping(part).get("type")
        said = mapping(part).get("text", mapping(part).get("content"))
        if kind in ("text", "input_text", "output_text", None) and isinstance(said, str):
            found.append(said)
        elif kind not in (*_CALLS, *_RESULTS, *_REASONING):
            note(NO_TEXT)
    return [one for one in found if one]
