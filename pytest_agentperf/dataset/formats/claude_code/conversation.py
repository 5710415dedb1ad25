"""From a branch's lines to what the model was sent and answered."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.chat import assistant, attachment_text, text_content
from pytest_agentperf.dataset.formats.claude_code.rows import SYNTHETIC_MODEL
from pytest_agentperf.dataset.formats.conversation import Conversation
from pytest_agentperf.dataset.formats.times import Interval, interval, tools_delay_ns
from pytest_agentperf.dataset.formats.values import (
    arguments_text,
    mapping,
    objects,
    text,
)

if TYPE_CHECKING:
    from pytest_agentperf.dataset.formats.base import Notes
    from pytest_agentperf.dataset.formats.claude_code.branches import Branch
    from pytest_agentperf.dataset.formats.claude_code.rows import Block, Row

NO_PROMPT = "(The prompt was not recorded.)"
_REFUSED = "The user doesn't want to"


def build(branch: Branch, notes: Notes) -> Conversation:
    """Return the conversation of a branch."""
    return _Builder(branch, notes).build()


class _Builder:
    def __init__(self, branch: Branch, notes: Notes) -> None:
        self._rows = branch.rows
        self._notes = notes
        self._conversation = Conversation()
        self._answers: dict[str, list[Row]] = defaultdict(list)
        self._result_of: dict[str, tuple[Row, Block]] = {}
        self._called: set[str] = set()
        for row in branch.rows:
            if row.kind == "assistant":
                self._answers[_key(row)].append(row)
            for block in row.blocks:
                call_id = text(block.get("tool_use_id"))
                if block.get("type") == "tool_result" and call_id is not None:
                    self._result_of.setdefault(call_id, (row, block))

    def build(self) -> Conversation:
        for row in self._rows:
            if row.kind == "boundary":
                # The summary that follows is all that the next request sends.
                self._notes.add("compactions", row.where)
                self._conversation.history = []
            elif row.kind == "user":
                self._say(row)
            elif (lines := self._answers.pop(_key(row), None)) is not None:
                self._answer(lines)
        return self._conversation

    def _say(self, row: Row) -> None:
        texts: list[str] = []
        for block in row.blocks:
            if block.get("type") == "tool_result":
                self._result(row, block)
            else:
                texts += _texts(block, self._notes, row.where)
        if texts:
            self._conversation.say({"role": "user", "content": text_content(texts)})

    def _result(self, row: Row, block: Block) -> None:
        call_id = text(block.get("tool_use_id"))
        if call_id is None or call_id not in self._called:
            self._notes.add("tool results without their call, left out", row.where)
            return
        # A second result of a call was never sent.
        self._called.discard(call_id)
        content = _result_text(block, self._notes, row.where)
        self._conversation.tool_result(call_id, content)

    def _answer(self, lines: list[Row]) -> None:
        first = lines[0]
        message, times = self._message(lines)
        if message is None:
            return
        if first.model == SYNTHETIC_MODEL:
            # Claude Code's own words: sent again unless they tell of a failed request, answered by no model.
            if not first.is_api_error:
                self._conversation.say(message)
            return
        if not self._conversation.history:
            self._notes.add("prompts not recorded, for which a line stands in", first.where)
            self._conversation.say({"role": "user", "content": NO_PROMPT})
        counts = [row.prompt_tokens for row in lines if row.prompt_tokens is not None]
        names = [call["function"]["name"] for call in message.get("tool_calls", ())]
        ids = [call["id"] for call in message.get("tool_calls", ())]
        self._conversation.answer(
            message,
            prompt_tokens=counts[-1] if counts else None,
            tool_delay_ns=tools_delay_ns((name, times[id_]) for name, id_ in zip(names, ids, strict=True)),
        )
        for id_ in ids:
            self._called.add(id_)
            when = times[id_]
            self._conversation.took(id_, None if when is None else when.duration_ns)

    def _message(self, lines: list[Row]) -> tuple[dict[str, Any] | None, dict[str, Interval | None]]:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[tuple[str | None, str, str]] = []
        times: dict[str, Interval | None] = {}
        for row in lines:
            for block in row.blocks:
                kind = block.get("type")
                if kind == "text":
                    texts.append(text(block.get("text")) or "")
                elif kind == "thinking":
                    thoughts.append(text(block.get("thinking")) or "")
                elif kind == "tool_use":
                    id_, name = text(block.get("id")), text(block.get("name"))
                    if id_ and name and id_ not in times:
                        calls.append((id_, name, arguments_text(block.get("input"), row.where)))
                        times[id_] = self._when(row, id_)
                else:
                    self._notes.add(f"{_name(kind)} blocks of answers, left out", row.where)
        content = "\n".join(one for one in texts if one)
        reasoning = "\n".join(one for one in thoughts if one)
        if not content and not reasoning and not calls:
            return None, times
        return assistant(content if content or not calls else None, reasoning=reasoning, calls=calls), times

    def _when(self, row: Row, call_id: str) -> Interval | None:
        result, block = self._result_of.get(call_id, (None, None))
        if result is None or block is None:
            return None
        if (text(block.get("content")) or "").startswith(_REFUSED):
            return None
        return interval(row.time_ns, result.time_ns)


def _key(row: Row) -> str:
    return row.message_id or f"line {row.number}"


def _name(kind: Any) -> str:
    return kind[:40] if isinstance(kind, str) else "unnamed"


def _texts(block: Block, notes: Notes, where: str) -> list[str]:
    kind = block.get("type")
    if kind == "text":
        found = text(block.get("text"))
        return [found] if found else []
    if kind in ("image", "document"):
        notes.add("images and documents, sent as a line of text that names them", where)
        return [attachment_text(text(mapping(block.get("source")).get("media_type")))]
    notes.add(f"{_name(kind)} blocks, left out", where)
    return []


def _result_text(block: Block, notes: Notes, where: str) -> str:
    content = block.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(one for part in objects(content) for one in _texts(part, notes, where))
