"""The prompt text of DeepSeek V4 for a request, as far as synthetic trajectories need it.

Written after the published examples of the format; used to check token estimates against the real tokenizer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DSML = "｜DSML｜"
_TOOLS_HEAD = f"""

## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a \
"<{_DSML}tool_calls>" block like the following:

<{_DSML}tool_calls>
<{_DSML}invoke name="$TOOL_NAME">
<{_DSML}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{_DSML}parameter>
...
</{_DSML}invoke>
<{_DSML}invoke name="$TOOL_NAME2">
...
</{_DSML}invoke>
</{_DSML}tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, \
objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> \
BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

"""
_TOOLS_TAIL = (
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"
)


def answer(message: Mapping[str, Any]) -> str:
    """Return what the model generates for an assistant message."""
    text = f"{message.get('reasoning_content') or ''}</think>{message['content']}"
    calls = message.get("tool_calls") or ()
    if calls:
        text += f"\n\n<{_DSML}tool_calls>\n{''.join(_call(call['function']) for call in calls)}</{_DSML}tool_calls>"
    return text + "<｜end▁of▁sentence｜>"


def _call(function: Mapping[str, Any]) -> str:
    lines = [f'<{_DSML}invoke name="{function["name"]}">']
    for name, value in json.loads(function["arguments"]).items():
        is_text = isinstance(value, str)
        shown = value if is_text else json.dumps(value)
        kind = "true" if is_text else "false"
        lines.append(f'<{_DSML}parameter name="{name}" string="{kind}">{shown}</{_DSML}parameter>')
    return "\n".join([*lines, f"</{_DSML}invoke>", ""])


def prompt(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole prompt, the opening of the answer included."""
    schemas = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    parts = ["<｜begin▁of▁sentence｜>", messages[0]["content"], _TOOLS_HEAD, schemas, _TOOLS_TAIL]
    user_open = False
    for message in messages[1:]:
        if message["role"] == "assistant":
            parts += ["<｜Assistant｜><think>", answer(message)]
            user_open = False
            continue
        text = message["content"]
        if message["role"] == "tool":
            text = f"<tool_result>{text}</tool_result>"
        parts.append(f"\n\n{text}" if user_open else f"<｜User｜>{text}")
        user_open = True
    return "".join([*parts, "<｜Assistant｜><think>"])
