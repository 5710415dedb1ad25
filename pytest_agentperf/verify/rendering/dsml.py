"""What the chat encodings of DeepSeek V3.2 and V4 share: special tokens, and tool calls in DSML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_agentperf.core.trajectory import Message

BEGIN = "<｜begin▁of▁sentence｜>"
END = "<｜end▁of▁sentence｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
THINK = "<think>"
END_THINK = "</think>"
DSML = "｜DSML｜"


def to_json(value: Any) -> str:
    """Return JSON as Python writes it by default, which is how the models were trained."""
    return json.dumps(value, ensure_ascii=False)


def text_of(content: Any) -> str:
    """Return a message's text; text parts are joined by a newline, as servers join them."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "\n".join(str(part["text"]) for part in content)
    raise DatasetError("a message with content that is not text", remedy="this encoding has text alone")


def schemas(tools: Iterable[Mapping[str, Any]]) -> str:
    """Return the function definitions, one a line."""
    return "\n".join(to_json(tool.get("function", tool)) for tool in tools)


def calls(message: Message, block: str) -> str:
    """Return a message's tool calls as the model wrote them, an empty text if there are none."""
    found = [
        call["function"]
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
    ]
    if not found:
        return ""
    invoked = "\n".join(
        f'<{DSML}invoke name="{function.get("name")}">\n{_parameters(function.get("arguments"))}\n</{DSML}invoke>'
        for function in found
    )
    return f"\n\n<{DSML}{block}>\n{invoked}\n</{DSML}{block}>"


def _parameters(arguments: Any) -> str:
    return "\n".join(
        f'<{DSML}parameter name="{name}" string="true">{value}</{DSML}parameter>'
        if isinstance(value, str)
        else f'<{DSML}parameter name="{name}" string="false">{to_json(value)}</{DSML}parameter>'
        for name, value in _object(arguments).items()
    )


def _object(arguments: Any) -> dict[str, Any]:
    # Models do write arguments that are no JSON; servers then show them as one parameter.
    value = arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            value = None
    return value if isinstance(value, dict) else {"arguments": arguments}


def with_tools(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> list[Message]:
    """Return the messages with the request's tools at the leading system message, made if there is none."""
    found = list(messages)
    if not found:
        raise DatasetError("a request without messages", remedy="a prompt needs one")
    if tools:
        if found[0].get("role") != "system":
            found.insert(0, {"role": "system", "content": ""})
        found[0] = {**found[0], "tools": tools}
    return found


def last_user(messages: Sequence[Message]) -> int:
    """Return the place of the last message that a user wrote, -1 if there is none."""
    users = (i for i in range(len(messages) - 1, -1, -1) if messages[i].get("role") in ("user", "developer"))
    return next(users, -1)
