"""A Codex session as it grows: from its logged items and events to requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.dataset.formats.codex_items import (
    ENCRYPTED_SUMMARIES,
    Answer,
    chat_history,
    is_answer,
    is_item,
    is_output,
    output,
    said,
    stated_duration_ns,
)
from pytest_agentperf.dataset.formats.conversation import Conversation
from pytest_agentperf.dataset.formats.times import Interval, elapsed_ns, moment_ns, tools_delay_ns
from pytest_agentperf.dataset.formats.values import count, mapping, objects, text, token_count

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import ImportContext
    from pytest_agentperf.dataset.histories import RecordedRequest

_STATED_TO_NS = 50_000_000
"""Old versions round the durations they state to tenths of a second."""
_ABORTED = "aborted"
"""What Codex itself sends for a call that never got an output."""


class _Usage(NamedTuple):
    prompt_tokens: int | None
    output_tokens: int | None


def usage_total(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the total that an event counts, which tells one request's usage from the next's."""
    if payload.get("type") != "token_count":
        return {}
    return mapping(mapping(payload.get("info")).get("total_token_usage"))


class Session:
    """What a session's lines tell, taken one after another."""

    def __init__(self, path: Path, context: ImportContext, usage_place: str | None) -> None:
        self.conversation = Conversation()
        self.id: str | None = None
        self.model: str | None = None
        self.over = False
        self._path = path
        self._notes = context.notes
        self._usage_place = usage_place
        self._where = str(path)
        self._has_meta = False
        self._system: Message | None = None
        self._instructions: str | None = None
        self._open: Answer | None = None
        self._outputs: list[tuple[dict[str, Any], int | None]] = []
        self._usage: _Usage | None = None
        self._totals: dict[str, Any] | None = None
        self._awaited: list[str] = []
        self._started_ns: dict[str, int | None] = {}
        self._times: list[dict[str, Interval | None]] = []

    def _note(self, what: str) -> None:
        self._notes.add(what, self._where)

    def take(self, line: dict[str, Any], where: str) -> None:
        """Take the next line."""
        self._where = where
        kind = line.get("type")
        payload = mapping(line.get("payload"))
        if kind == "response_item":
            self._item(payload, moment_ns(line.get("timestamp")))
        elif kind == "event_msg":
            self._event(payload)
        elif kind == "turn_context":
            self.model = self.model or text(payload.get("model"))
        elif kind == "compacted":
            self._compact(payload)
        elif kind == "session_meta":
            self._meta(payload)
        elif "payload" not in line:
            if is_item(line):
                self._item(line, None)
            elif kind is None and "id" in line:
                self._meta(line)

    def _meta(self, meta: dict[str, Any]) -> None:
        # A forked session repeats its parent's after its own.
        if self._has_meta:
            return
        self._has_meta = True
        self.id = text(meta.get("id"))
        self._instructions = text(meta.get("instructions"))
        if base := text(mapping(meta.get("base_instructions")).get("text")):
            self._system = {"role": "system", "content": base}
            self.conversation.say(self._system)

    def _item(self, item: dict[str, Any], at_ns: int | None) -> None:
        if is_answer(item):
            if self._usage_place is None and self._outputs:
                self.close()
            self._open = self._open or Answer()
            call_id = self._open.add(item, self._note)
            if call_id is not None:
                self._started_ns[call_id] = at_ns
        elif is_output(item):
            if self._open is not None:
                self._outputs.append((item, at_ns))
            else:
                self._output(item, at_ns)
        elif (message := said(item, self._note)) is not None:
            self.close()
            self._settle()
            self.conversation.say(message)
        elif item.get("type") != "ghost_snapshot":
            self._note("items that a chat has no message for")

    def _event(self, event: dict[str, Any]) -> None:
        if event.get("type") == "thread_rolled_back":
            self.close()
            self._roll_back(count(event.get("num_turns")) or 0)
            return
        total = usage_total(event)
        if not total or total == self._totals:
            return
        self._totals = total
        last = mapping(mapping(event.get("info")).get("last_token_usage"))
        usage = _Usage(token_count(last.get("input_tokens")), token_count(last.get("output_tokens")))
        if self._usage_place == "before":
            self.close()
        unanswered = self._usage is not None if self._usage_place == "before" else self._open is None
        if unanswered:
            self._note("requests whose answer is not recorded")
        self._usage = usage
        if self._usage_place == "behind":
            self.close()
            self._usage = None

    def close(self) -> None:
        """End the answer whose items came last."""
        answer, outputs = self._open, self._outputs
        if answer is None:
            return
        self._open, self._outputs = None, []
        usage, self._usage = self._usage or _Usage(None, None), None
        message = answer.message()
        if message is None:
            self._note("requests without an answer")
            return
        self._settle()
        self._open_history()
        if not self.conversation.history:
            self._note("answers to nothing that is recorded")
            self.conversation.say(message)
            return
        self.conversation.answer(
            message, prompt_tokens=usage.prompt_tokens, output_tokens=usage.output_tokens
        )
        self._times.append({})
        self._awaited = answer.call_ids
        for item, at_ns in outputs:
            self._output(item, at_ns)

    def _open_history(self) -> None:
        if self.conversation.turns:
            return
        # Old versions log the user's instructions here and, as a message, in the history.
        given = self._instructions
        if given and not any(given.strip() in str(m.get("content")) for m in self.conversation.history):
            self._system = self._system or {"role": "system", "content": given}
            self.conversation.history.insert(0, {"role": "system", "content": given})
        if self._system is None:
            self._notes.add("no system prompt recorded", str(self._path))

    def _output(self, item: dict[str, Any], at_ns: int | None) -> None:
        call_id, shown = output(item, self._note)
        if call_id is None or call_id not in self._awaited:
            self._note("tool outputs without a call")
            return
        self._awaited.remove(call_id)
        # Where usage comes first, items are written when all is done: their times say nothing.
        between_ns = None
        if self._usage_place != "before":
            between_ns = elapsed_ns(self._started_ns.get(call_id), at_ns) or None
        stated_ns = stated_duration_ns(shown)
        duration_ns = stated_ns
        if between_ns is not None and (stated_ns is None or abs(between_ns - stated_ns) <= _STATED_TO_NS):
            duration_ns = between_ns
        self.conversation.tool_result(call_id, shown, duration_ns=duration_ns)
        when = None
        if between_ns is not None and duration_ns is not None and at_ns is not None:
            when = Interval(at_ns - duration_ns, at_ns)
        self._times[-1][call_id] = when

    def _settle(self) -> None:
        for call_id in self._awaited:
            self.conversation.tool_result(call_id, _ABORTED)
        self._awaited = []

    def _compact(self, payload: dict[str, Any]) -> None:
        self.close()
        self._awaited = []
        system = [] if self._system is None else [self._system]
        replacement = payload.get("replacement_history")
        if isinstance(replacement, list):
            if any(item.get("type") in ENCRYPTED_SUMMARIES for item in objects(replacement)):
                self._note("sessions cut at a compaction whose summary is encrypted")
                self.over = True
                return
            self.conversation.history = [*system, *chat_history(objects(replacement), self._note)]
            return
        self._note("histories after a compaction rebuilt from the user's messages and the summary")
        kept = [message for message in self.conversation.history if message["role"] in ("system", "user")]
        summary = {"role": "user", "content": text(payload.get("message")) or ""}
        self.conversation.history = [*kept, summary]

    def _roll_back(self, turns: int) -> None:
        self._awaited = []
        starts = [i for i, message in enumerate(self.conversation.history) if _is_typed(message)]
        if 0 < turns <= len(starts):
            del self.conversation.history[starts[-turns] :]

    def requests(self) -> Iterator[RecordedRequest]:
        """Yield the requests; calls that never got an output did not run to an end."""
        for request, times in zip(self.conversation.requests(), self._times, strict=True):
            calls = tuple(call for call in request.tool_calls if call.id in times)
            delay_ns = tools_delay_ns((call.name, times.get(call.id or "")) for call in calls)
            yield request._replace(tool_calls=calls, tool_delay_ns=delay_ns)


def _is_typed(message: Message) -> bool:
    """Return whether a person wrote a message: what Codex adds opens with a tag or its own heading."""
    content = str(message.get("content")).lstrip()
    return message["role"] == "user" and not content.startswith(("<", "# AGENTS.md instructions"))
