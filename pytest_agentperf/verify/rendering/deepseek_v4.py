"""The chat encoding of DeepSeek V4 in thinking mode, whose repository has code instead of a chat template.

There is no tool role: results are part of a user message, in the order of their calls. Reasoning of all turns stays
in the prompt if the request has tools, else that from the last user message on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.verify.rendering.dsml import (
    ASSISTANT,
    BEGIN,
    DSML,
    END,
    END_THINK,
    THINK,
    USER,
    calls,
    schemas,
    text_of,
    with_tools,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pytest_agentperf.core.trajectory import Message

NAME = "deepseek-v4"
_BLOCK = "tool_calls"
_REMINDER = "<｜latest_reminder｜>"
_TOOLS = f"""## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<{DSML}tool_calls>" block like the following:

<{DSML}tool_calls>
<{DSML}invoke name="$TOOL_NAME">
<{DSML}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{DSML}parameter>
...
</{DSML}invoke>
<{DSML}invoke name="$TOOL_NAME2">
...
</{DSML}invoke>
</{DSML}tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by {THINK}), you MUST output your complete reasoning inside {THINK}...{END_THINK} BEFORE any tool calls or final response.

Otherwise, output directly after {END_THINK} with tool calls or final response.

### Available Tool Schemas

%s

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
"""  # noqa: E501 - the model was trained on these lines


class _Said(NamedTuple):
    """One message of the encoding: its text, and for assistants the message itself."""

    role: str
    text: str
    message: Message


def render(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Return the prompt of a request; raises DatasetError for roles and content that the encoding does not have."""
    found = with_tools(messages, tools)
    keep_all = any(message.get("tools") for message in found)
    said = _merged(found)
    last = max((i for i, one in enumerate(said) if one.role in ("user", "developer")), default=-1)
    if not keep_all:
        # What developers said before the last question is dropped like old reasoning.
        kept = [one for i, one in enumerate(said) if one.role != "developer" or i >= last]
        last -= len(said) - len(kept)
        said = kept
    parts = [BEGIN]
    for i, one in enumerate(said):
        if one.role == "assistant":
            parts.append(_answer(one.message, thinking=keep_all or i > last))
            continue
        parts.append(one.text)
        following = said[i + 1].role if i + 1 < len(said) else "assistant"
        if one.role in ("user", "developer") and following in ("assistant", "latest_reminder"):
            parts.append(ASSISTANT + (THINK if keep_all or i >= last else END_THINK))
    return "".join(parts)


def _merged(messages: Sequence[Message]) -> list[_Said]:
    said: list[_Said] = []
    block: list[Message] = []
    order: dict[str, int] = {}
    for message in messages:
        role = message.get("role")
        if role in ("user", "tool"):
            block.append(message)
            continue
        if block:
            said.append(_user(block, order))
            block = []
        text = text_of(message.get("content"))
        match role:
            case "system":
                said.append(_Said("system", text + _tools(message), message))
            case "developer":
                said.append(_Said("developer", f"{USER}{text}{_tools(message)}", message))
            case "latest_reminder":
                said.append(_Said("latest_reminder", _REMINDER + text, message))
            case "assistant":
                said.append(_Said("assistant", "", message))
                order = _call_order(message) or order
            case _:
                raise DatasetError(f"a message of role {role!r}", remedy=f"{NAME} has no such role")
    if block:
        said.append(_user(block, order))
    return said


def _user(block: Sequence[Message], order: Mapping[str, int]) -> _Said:
    results = [message for message in block if message.get("role") == "tool"]
    if order:
        results.sort(key=lambda message: order.get(str(message.get("tool_call_id") or ""), 0))
    following = iter(results)
    texts = [
        f"<tool_result>{text_of(next(following).get('content'))}</tool_result>"
        if message.get("role") == "tool"
        else text_of(message.get("content"))
        for message in block
    ]
    return _Said("user", USER + "\n\n".join(texts), block[0])


def _call_order(message: Message) -> dict[str, int]:
    found = message.get("tool_calls") or ()
    return {str(call["id"]): i for i, call in enumerate(found) if isinstance(call, dict) and call.get("id")}


def _tools(message: Message) -> str:
    return "\n\n" + _TOOLS % schemas(message["tools"]) if message.get("tools") else ""


def _answer(message: Message, *, thinking: bool) -> str:
    reasoning = f"{message.get('reasoning_content') or ''}{END_THINK}" if thinking else ""
    return f"{reasoning}{text_of(message.get('content'))}{calls(message, _BLOCK)}{END}"
