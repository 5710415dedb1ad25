"""From stored messages to what the model was sent, as OpenCode's own conversion does it (session/message-v2.ts).

- A user message is its texts: `ignored` ones left out, `synthetic` ones sent like any other (they are how files and
  agents that the user mentions reach the model), empty ones left out. A compaction and a subtask have fixed texts.
- A file that is text or a folder is not sent: a synthetic text has it. Any other file becomes the line that OpenCode
  writes for models that take no media, and attachments of tool results are left out; both are noted.
- An answer is cut at every `step-start`: one assistant message with its calls, then their results. The result of a
  failed call is its error text, of one that never ended a fixed text, of one pruned by then another.
- An answer that ended in an error is not sent again, unless the user aborted it when there was more than reasoning.
- `retry`, `patch`, `snapshot`, `agent` and `step-finish` parts are not sent.
- After a compaction the history is its question, its summary, the messages it kept, and what came since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.chat import assistant, attachment_text, text_content
from pytest_agentperf.dataset.formats.values import arguments_text, mapping, number, sequence, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import Notes
    from pytest_agentperf.dataset.formats.opencode.session import SessionMessage

_FIXED_TEXTS = {
    "compaction": "What did we do so far?",
    "subtask": "The following tool was executed by the user",
}
_SENT_AS_TEXT = ("text/plain", "application/x-directory")
_INTERRUPTED = "[Tool execution was interrupted]"
_CLEARED = "[Old tool result content cleared]"

Part = dict[str, Any]


def call_id(part: Part) -> str | None:
    """Return the id of a tool part's call."""
    return text(part.get("callID")) or text(part.get("id"))


def is_call(part: Part) -> bool:
    """Return whether a part is a tool call that can be sent."""
    return part.get("type") == "tool" and call_id(part) is not None and bool(text(part.get("tool")))


def user_message(message: SessionMessage, *, notes: Notes, where: str) -> Message | None:
    """Return what was sent of a user message, None if nothing."""
    texts: list[str] = []
    for part in message.parts:
        kind = text(part.get("type")) or ""
        if kind == "text" and not part.get("ignored"):
            texts.append(text(part.get("text")) or "")
        elif kind == "file" and part.get("mime") not in _SENT_AS_TEXT:
            notes.add("images and documents, sent as a line of text that names them", where)
            texts.append(attachment_text(text(part.get("mime")), text(part.get("filename"))))
        elif kind in _FIXED_TEXTS:
            texts.append(_FIXED_TEXTS[kind])
    texts = [one for one in texts if one]
    return {"role": "user", "content": text_content(texts)} if texts else None


def answer_message(parts: Sequence[Part], *, where: str) -> Message | None:
    """Return what the model answered in one step, None if nothing."""
    content = "".join(text(part.get("text")) or "" for part in parts if part.get("type") == "text")
    reasoning = "".join(text(part.get("text")) or "" for part in parts if part.get("type") == "reasoning")
    calls = [
        (
            call_id(part),
            text(part.get("tool")) or "",
            arguments_text(mapping(part.get("state")).get("input"), where),
        )
        for part in parts
        if is_call(part)
    ]
    if not content and not reasoning and not calls:
        return None
    return assistant(content if content or not calls else None, reasoning=reasoning, calls=calls)


def step_messages(parts: Sequence[Part], *, at_ms: float | None, notes: Notes, where: str) -> list[Message]:
    """Return what later requests are sent of one step, at a time: tool results may have been pruned by then."""
    answer = answer_message(parts, where=where)
    if answer is None:
        return []
    results: list[Message] = [
        {"role": "tool", "tool_call_id": call_id(part), "content": _result(part, at_ms, notes, where)}
        for part in parts
        if is_call(part)
    ]
    return [answer, *results]


def pruned_ms(part: Part) -> float | None:
    """Return when a tool's result was pruned from the history."""
    return number(mapping(mapping(part.get("state")).get("time")).get("compacted"))


def _result(part: Part, at_ms: float | None, notes: Notes, where: str) -> str:
    state = mapping(part.get("state"))
    if state.get("status") == "completed":
        cleared_ms = pruned_ms(part)
        if cleared_ms and at_ms is not None and cleared_ms <= at_ms:
            return _CLEARED
        if sequence(state.get("attachments")):
            notes.add("attachments of tool results, left out", where)
        return text(state.get("output")) or ""
    if state.get("status") == "error":
        metadata = mapping(state.get("metadata"))
        partial = text(metadata.get("output")) if metadata.get("interrupted") is True else None
        return partial if partial is not None else text(state.get("error")) or ""
    return _INTERRUPTED


def is_sent_again(message: SessionMessage) -> bool:
    """Return whether later requests send this answer."""
    error = message.info.get("error")
    if not error:
        return True
    return mapping(error).get("name") == "MessageAbortedError" and any(
        part.get("type") not in ("step-start", "reasoning") for part in message.parts
    )


def uncompacted(messages: Sequence[SessionMessage]) -> list[SessionMessage]:
    """Return the messages that a request sends after the last compaction that succeeded."""
    for i in range(len(messages) - 1, -1, -1):
        summary = messages[i]
        finished = summary.info.get("finish") or summary.has("step-finish")
        if summary.is_summary and finished and not summary.info.get("error"):
            return _since(messages, i)
    return list(messages)


def _since(messages: Sequence[SessionMessage], summary: int) -> list[SessionMessage]:
    parent = messages[summary].info.get("parentID")
    question = next((i for i in range(summary) if messages[i].id == parent), None)
    if question is None or not messages[question].has("compaction"):
        # Versions before 1.0 ask no question: their history begins with the summary.
        return list(messages[summary:])
    kept = next(
        (part.get("tail_start_id") for part in messages[question].parts if part.get("type") == "compaction"),
        None,
    )
    tail = next((i for i in range(question) if kept and messages[i].id == kept), question)
    return [
        *messages[question : summary + 1],
        *messages[tail:question],
        *messages[summary + 1 :],
    ]
