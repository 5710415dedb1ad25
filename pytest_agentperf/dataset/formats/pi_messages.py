"""Entries of pi sessions as chat messages, worded as pi words them for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.chat import assistant, joined_text
from pytest_agentperf.dataset.formats.values import arguments_text, mapping, objects, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import Note

_COMPACTED = "The conversation history before this point was compacted into the following summary:"
_BRANCH = "The following is a summary of a branch that this conversation came back from:"


def answered_call_ids(lines: Iterable[dict[str, Any]]) -> frozenset[str]:
    """Return the ids of all calls that have a result."""
    messages = (mapping(line.get("message")) for line in lines)
    results = (m.get("toolCallId") for m in messages if m.get("role") == "toolResult")
    return frozenset(id_ for id_ in results if isinstance(id_, str))


def chat_message(line: dict[str, Any], note: Note) -> Message | None:
    """Return what an entry puts into the history, None where nothing."""
    kind = line.get("type")
    if kind == "message":
        return _message(mapping(line.get("message")), note)
    if kind == "custom_message":
        return {"role": "user", "content": joined_text(line.get("content"), note)}
    if kind == "branch_summary" and (summary := text(line.get("summary"))):
        return {"role": "user", "content": f"{_BRANCH}\n\n<summary>\n{summary}</summary>"}
    return None


def compaction_summary(summary: str) -> Message:
    """Return the message that stands for a compacted history."""
    return {"role": "user", "content": f"{_COMPACTED}\n\n<summary>\n{summary}\n</summary>"}


def without_unanswered(message: Message, answered: frozenset[str]) -> Message | None:
    """Return an assistant message without the calls that have no result: pi does not send them again."""
    calls = message.get("tool_calls") or []
    kept = [call for call in calls if call["id"] in answered]
    if len(kept) == len(calls):
        return message if calls or message.get("content") else None
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    if kept:
        rest["tool_calls"] = kept
    return rest if kept or rest.get("content") else None


def _message(message: dict[str, Any], note: Note) -> Message | None:
    role = message.get("role")
    if role in ("user", "custom", "hookMessage"):
        return {"role": "user", "content": joined_text(message.get("content"), note)}
    if role == "assistant":
        return _assistant(message, note)
    if role == "toolResult":
        call_id = text(message.get("toolCallId"))
        if call_id is None:
            note("tool outputs without a call")
            return None
        content = joined_text(message.get("content"), note)
        return {"role": "tool", "tool_call_id": call_id, "content": content}
    if role == "bashExecution" and message.get("excludeFromContext") is not True:
        return {"role": "user", "content": _bash(message)}
    return None


def _assistant(message: dict[str, Any], note: Note) -> Message:
    content = message.get("content")
    texts, reasoning = [content] if isinstance(content, str) else [], []
    calls: list[tuple[str | None, str, str]] = []
    for part in objects(content):
        kind = part.get("type")
        if kind == "text":
            texts.append(text(part.get("text")) or "")
        elif kind == "toolCall":
            arguments = arguments_text(part.get("arguments"))
            calls.append((text(part.get("id")), text(part.get("name")) or "unknown", arguments))
        elif kind == "thinking":
            thinking = text(part.get("thinking"))
            # From the Responses API come summaries, which are another text than the reasoning.
            if thinking and "responses" not in (text(message.get("api")) or ""):
                reasoning.append(thinking)
            else:
                note("reasoning whose text is encrypted or not recorded")
    said = "\n".join(part for part in texts if part)
    return assistant(said or None, reasoning="\n".join(reasoning), calls=calls)


def _bash(message: dict[str, Any]) -> str:
    """Return a command that the user ran, as pi tells the model of it."""
    shown = text(message.get("output"))
    parts = [
        f"Ran `{text(message.get('command')) or ''}`\n" + (f"```\n{shown}\n```" if shown else "(no output)")
    ]
    code = message.get("exitCode")
    if message.get("cancelled") is True:
        parts.append("(command cancelled)")
    elif isinstance(code, int) and code != 0:
        parts.append(f"Command exited with code {code}")
    if message.get("truncated") is True and (full := text(message.get("fullOutputPath"))):
        parts.append(f"[Output truncated. Full output: {full}]")
    return "\n\n".join(parts)
