"""The chat encoding of DeepSeek V3.2 in thinking mode, whose repository has code instead of a chat template.

Reasoning stays in the prompt from the last user message on, tool calls are DSML, tool results follow in one block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    last_user,
    schemas,
    text_of,
    with_tools,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pytest_agentperf.core.trajectory import Message

NAME = "deepseek-v3.2"
_BLOCK = "function_calls"
_TOOLS = f"""## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<{DSML}function_calls>" block like the following as part of your reply to the user:
<{DSML}function_calls>
<{DSML}invoke name="$FUNCTION_NAME">
<{DSML}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{DSML}parameter>
...
</{DSML}invoke>
<{DSML}invoke name="$FUNCTION_NAME2">
...
</{DSML}invoke>
</{DSML}function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types (numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:

<{DSML}function_calls>
...
</{DSML}function_calls>

<function_results>
...
</function_results>

{THINK}...thinking about results{END_THINK}

Here are the functions available in JSONSchema format:
<functions>
%s
</functions>
"""  # noqa: E501 - the model was trained on these lines


def render(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Return the prompt of a request; raises DatasetError for roles and content that the encoding does not have."""
    found = with_tools(messages, tools)
    last = last_user(found)
    parts = [BEGIN]
    for i, message in enumerate(found):
        match message.get("role"):
            case "system":
                parts.append(text_of(message.get("content")) + _tools(message))
            case "user":
                parts.append(_asked(text_of(message.get("content")), thinking=i == last))
            case "developer":
                # What developers said before the last question is dropped like old reasoning.
                if i == last:
                    text = f"\n\n# The user's message is: {text_of(message.get('content'))}"
                    parts.append(_asked(_tools(message) + text, thinking=True))
            case "assistant":
                parts.append(_answer(message, thinking=i > last))
            case "tool":
                first = i == 0 or found[i - 1].get("role") != "tool"
                final = i + 1 == len(found) or found[i + 1].get("role") != "tool"
                parts.append("\n\n<function_results>" if first else "")
                parts.append(f"\n<result>{text_of(message.get('content'))}</result>")
                if final:
                    parts.append("\n</function_results>\n\n" + (THINK if i >= last else END_THINK))
            case role:
                raise DatasetError(f"a message of role {role!r}", remedy=f"{NAME} has no such role")
    return "".join(parts)


def _tools(message: Message) -> str:
    return "\n\n" + _TOOLS % schemas(message["tools"]) if message.get("tools") else ""


def _asked(text: str, *, thinking: bool) -> str:
    return f"{USER}{text}{ASSISTANT}{THINK if thinking else END_THINK}"


def _answer(message: Message, *, thinking: bool) -> str:
    reasoning = f"{message.get('reasoning_content') or ''}{END_THINK}" if thinking else ""
    return f"{reasoning}{text_of(message.get('content'))}{calls(message, _BLOCK)}{END}"
