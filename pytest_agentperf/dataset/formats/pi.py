"""Sessions of the pi coding agent: JSONL, one entry a line, which later versions make a tree by parent ids.

Every answered request is a turn, those of abandoned branches too, in the order they were sent. A request's history is
the path from the root to it, as pi builds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.dataset.formats.conversation import Conversation
from pytest_agentperf.dataset.formats.pi_messages import (
    answered_call_ids,
    chat_message,
    compaction_summary,
    without_unanswered,
)
from pytest_agentperf.dataset.formats.times import elapsed_ns, moment_ns
from pytest_agentperf.dataset.formats.values import count, mapping, required_object, text, token_count
from pytest_agentperf.dataset.reading import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Message, Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek
    from pytest_agentperf.dataset.histories import RecordedRequest

NAME = "pi"
TITLE = "pi coding agent session (JSONL)"

_CUT = ("aborted", "error")
_NOT_CARRIED = ("context_transform", "ephemeral")


def recognises(peek: Peek) -> bool:
    """Say whether the first line is a session's header."""
    first = peek.objects[0] if peek.objects else {}
    return (
        first.get("type") == "session"
        and isinstance(first.get("id"), str)
        and not {"cwd", "version", "modelId"}.isdisjoint(first)
    )


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the session's trajectory, if any request of it was answered."""
    rows = [
        (where, required_object(value, where, what="line of a pi session"))
        for where, value in read_json_lines(path)
    ]
    session = _Session(context, answered_call_ids(line for _, line in rows))
    for where, line in rows:
        session.take(line, where)
    if not session.conversation.turns:
        context.notes.add("sessions without an answered request", str(path))
        return
    context.notes.add("no system prompt recorded", str(path))
    yield context.trajectory(session.id or path.stem, session.requests(), model=session.model)


class _Entry(NamedTuple):
    id: str
    line: dict[str, Any]
    message: Message | None
    """What later requests send of it."""


class _Session:
    def __init__(self, context: ImportContext, answered: frozenset[str]) -> None:
        self.conversation = Conversation()
        self.id: str | None = None
        self.model: str | None = None
        self._notes = context.notes
        self._answered = answered
        self._ids: list[str] = []
        self._entries: dict[str, tuple[str | None, _Entry]] = {}
        self._path: list[_Entry] = []
        self._place: dict[str, int] = {}
        self._tools_from_ns: int | None = None

    def take(self, line: dict[str, Any], where: str) -> None:
        if line.get("type") == "session":
            self.id = self.id or text(line.get("id"))
            self._ids.append("")
            return
        if line.get("type") in _NOT_CARRIED:
            self._notes.add("context that an extension changed for single requests", where)
        # The first version has no ids: every entry follows the one before.
        id_ = text(line.get("id")) or f"#{len(self._ids)}"
        parent = line.get("parentId") if "parentId" in line else (self._path[-1].id if self._path else None)
        self._ids.append(id_)
        self._stand_at(parent if isinstance(parent, str) else None, where)
        note = lambda what: self._notes.add(what, where)  # noqa: E731
        message = chat_message(line, note)
        inner = mapping(line.get("message"))
        at_ns = moment_ns(line.get("timestamp"))
        kept = message
        if message is not None and inner.get("role") == "assistant":
            self._answer(message, inner, where)
            self._tools_from_ns = at_ns
            kept = without_unanswered(message, self._answered)
        elif message is not None and inner.get("role") == "toolResult":
            self.conversation.took(message["tool_call_id"], elapsed_ns(self._tools_from_ns, at_ns))
            self._tools_from_ns = at_ns
        entry = _Entry(id_, line, kept)
        self._entries[id_] = (self._path[-1].id if self._path else None, entry)
        self._place[id_] = len(self._path)
        self._path.append(entry)

    def _stand_at(self, parent: str | None, where: str) -> None:
        """Make the path end at an entry."""
        if parent is not None and parent not in self._entries:
            self._notes.add("entries whose parent is not recorded: taken to follow the one before", where)
            return
        if parent is not None and parent not in self._place:
            path: list[_Entry] = []
            at: str | None = parent
            while at is not None:
                at, entry = self._entries[at]
                path.append(entry)
            self._path = path[::-1]
            self._place = {entry.id: i for i, entry in enumerate(self._path)}
            return
        for entry in self._path[0 if parent is None else self._place[parent] + 1 :]:
            del self._place[entry.id]
        del self._path[len(self._place) :]

    def _answer(self, message: Message, inner: dict[str, Any], where: str) -> None:
        if not message.get("content") and not message.get("tool_calls"):
            self._notes.add("requests without an answer", where)
            return
        history = self._history()
        if not history:
            self._notes.add("answers to nothing that is recorded", where)
            return
        self.conversation.history = history
        self.model = self.model or text(inner.get("model"))
        usage = mapping(inner.get("usage"))
        prompt_tokens = sum(count(usage.get(name)) or 0 for name in ("input", "cacheRead", "cacheWrite"))
        # A stream that was cut has the count of its beginning.
        output_tokens = None if inner.get("stopReason") in _CUT else token_count(usage.get("output"))
        self.conversation.answer(message, prompt_tokens=prompt_tokens or None, output_tokens=output_tokens)

    def _history(self) -> list[Message]:
        last = next(
            (i for i in range(len(self._path) - 1, -1, -1) if self._path[i].line.get("type") == "compaction"),
            None,
        )
        if last is None:
            return _messages(self._path)
        compaction = self._path[last].line
        first = self._place.get(self._first_kept(compaction), last)
        return [
            compaction_summary(text(compaction.get("summary")) or ""),
            *_messages(self._path[first:last]),
            *_messages(self._path[last + 1 :]),
        ]

    def _first_kept(self, compaction: dict[str, Any]) -> str:
        if (kept := text(compaction.get("firstKeptEntryId"))) is not None:
            return kept
        index = count(compaction.get("firstKeptEntryIndex"))
        return self._ids[index] if index is not None and index < len(self._ids) else ""

    def requests(self) -> Iterator[RecordedRequest]:
        """Yield the requests; a call without a result never ran."""
        for request in self.conversation.requests():
            calls = tuple(call for call in request.tool_calls if call.id in self._answered)
            yield request._replace(tool_calls=calls)


def _messages(path: Sequence[_Entry]) -> list[Message]:
    return [entry.message for entry in path if entry.message is not None]
