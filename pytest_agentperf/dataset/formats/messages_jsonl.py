"""JSONL whose rows are finished conversations: `{"messages": [...], "tools": [...]}` and its relatives.

SWE-smith and SWE-Gym rows are of that form; nebius rows have `trajectory` with `text` and the role `ai`. Tool calls
that a model wrote into its text stay text, but the turn knows which tool ran, so that its delay can be drawn. Content
parts stay parts. Nothing was timed or counted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.counting import message_text
from pytest_agentperf.dataset.formats.chat import NO_ANSWER, NO_TOOLS, chat_message, chat_tools
from pytest_agentperf.dataset.formats.conversation import Conversation
from pytest_agentperf.dataset.formats.values import MALFORMED, parsed, text
from pytest_agentperf.dataset.reading import brief, read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Message, Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek
    from pytest_agentperf.dataset.histories import RecordedRequest

NAME = "messages-jsonl"
TITLE = "Conversations as messages (JSONL: SWE-smith, SWE-Gym, nebius, OpenAI)"

_IDS = ("traj_id", "instance_id", "id", "conversation_id")
_FUNCTION = re.compile(r"<function=([\w.-]{1,100})>")
_SNAPSHOT = "conversation_idx"
"""A row with this is one request of a conversation that other rows repeat."""


def recognises(peek: Peek) -> bool:
    """Say whether the first row is a conversation."""
    if not peek.objects or _SNAPSHOT in peek.objects[0]:
        return False
    messages = _listed(peek.objects[0])
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(one, dict) and "role" in one for one in messages)
    )


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield one trajectory per row; every assistant message is an answer."""
    for number, (where, row) in enumerate(read_json_lines(path), start=1):
        messages = _listed(row) if isinstance(row, dict) else None
        if not isinstance(messages, list):
            raise DatasetError(
                f"a row without a list of messages: {brief(row)}", where=where, remedy=MALFORMED
            )
        conversation = Conversation(tools=chat_tools(parsed(row.get("tools")), where=where))
        cleaned = [chat_message(_plain(message), where=where) for message in messages]
        _tell(conversation, cleaned, context, where)
        if not conversation.turns:
            context.notes.add(NO_ANSWER, where)
            continue
        name = next((row[key] for key in _IDS if text(row.get(key))), f"{path.stem}-{number}")
        model = text(row.get("model")) or text(row.get("model_name")) or None
        fenced = row.get("messages") is None
        requests = [_with_written_call(request, fenced=fenced) for request in conversation.requests()]
        yield context.trajectory(name, requests, model=model)


def _tell(
    conversation: Conversation, messages: Sequence[Message], context: ImportContext, where: str
) -> None:
    """Tell a finished history: every assistant message is an answer."""
    for message in messages:
        if message["role"] == "assistant" and conversation.history:
            conversation.answer(message)
            continue
        if message["role"] == "assistant":
            context.notes.add("an assistant message that opens a history is no answer", where)
        conversation.say(message)
    if conversation.tools is None and any(message.get("tool_calls") for message in messages):
        context.notes.add(NO_TOOLS, where)


def _with_written_call(request: RecordedRequest, *, fenced: bool) -> RecordedRequest:
    """Name the tool that an answer calls in its text: SWE-smith's `<function=name>`, or nebius' last code block."""
    if request.tool_calls or request.answer is None:
        return request
    text = message_text({"content": request.answer.get("content")})
    name = _fenced_command(text) if fenced else next(iter(_FUNCTION.findall(text)), None)
    return request._replace(tool_calls=(ToolCall(None, name, None),)) if name else request


def _fenced_command(text: str) -> str | None:
    blocks = text.split("```")
    words = blocks[-2].partition("\n")[2].split(maxsplit=1) if len(blocks) > 2 else []
    return words[0][:100] if words else None


def _listed(row: dict[str, Any]) -> Any:
    value = row.get("messages")
    return parsed(row.get("trajectory") if value is None else value)


def _plain(message: Any) -> Any:
    """Give a nebius message its `content`: `text`, or the `system_prompt` of a system message."""
    if not isinstance(message, dict) or "content" in message:
        return message
    text = message.get("text")
    return {**message, "content": message.get("system_prompt") if text is None else text}
