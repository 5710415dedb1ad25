"""The requests of one session.

One request is one span from `step-start` to `step-finish`, normally all of an assistant message; older versions put
several into one. A span that never finished (aborted, failed, retried) got no whole answer and is no turn. Tools begin
while the model still writes and run at once, so the delay of a turn is the union of their times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.opencode.conversion import (
    answer_message,
    call_id,
    is_call,
    is_sent_again,
    pruned_ms,
    step_messages,
    uncompacted,
    user_message,
)
from pytest_agentperf.dataset.formats.times import interval, tools_delay_ns
from pytest_agentperf.dataset.formats.values import count, mapping, number, sequence, text
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.dataset.formats.base import Notes
    from pytest_agentperf.dataset.formats.opencode.conversion import Part
    from pytest_agentperf.dataset.formats.opencode.session import Session, SessionMessage
    from pytest_agentperf.dataset.formats.times import Interval

# What a tool's error says when it was a human who ended it.
_ENDED_BY_HUMAN = ("Tool execution aborted", "The user rejected permission", "The user dismissed")


class Step(NamedTuple):
    """The parts between two step starts, and the `step-finish` that ended them."""

    parts: tuple[Part, ...]
    finish: Part | None


class Usage(NamedTuple):
    """A request's token counts."""

    prompt_tokens: int | None
    output_tokens: int | None


def steps(message: SessionMessage) -> list[Step]:
    """Return an answer's steps, those that never finished included."""
    found: list[Step] = []
    parts: list[Part] = []
    for part in message.parts:
        kind = part.get("type")
        if kind == "step-start":
            if parts:
                found.append(Step(tuple(parts), None))
            parts = []
        elif kind == "step-finish":
            found.append(Step(tuple(parts), part))
            parts = []
        elif kind in ("text", "reasoning", "tool"):
            parts.append(part)
    if parts:
        found.append(Step(tuple(parts), None))
    return found


def usage(finish: Part) -> Usage:
    """Return the counts of a `step-finish`; all zeros mean that the provider told none.

    `total`, where recorded, tells whether `output` already includes the reasoning. Without it, versions of 2025 count
    what some providers read from their cache twice, as input too: such counts are left out.
    """
    tokens = mapping(finish.get("tokens"))
    cache = mapping(tokens.get("cache"))
    new = count(tokens.get("input"))
    output = count(tokens.get("output"))
    if new is None or output is None:
        return Usage(None, None)
    read, written = count(cache.get("read")) or 0, count(cache.get("write")) or 0
    reasoning = count(tokens.get("reasoning")) or 0
    prompt: int | None = new + read + written
    total = count(tokens.get("total"))
    if total and total == new + read + written + output:
        reasoning = 0
    if not total and not written and 0 < read <= new:
        prompt = None
    return Usage(prompt or None, (output + reasoning) or None)


class SessionRequests:
    """Turns a session into its requests; each history is made when its request is, from what was sent by then."""

    def __init__(self, session: Session, *, notes: Notes, where: str) -> None:
        self._session = session
        self._notes = notes
        self._where = where
        self._sent: dict[tuple[int, ...], list[Message]] = {}

    def __iter__(self) -> Iterator[RecordedRequest]:
        """Yield the requests in order."""
        messages = self._session.messages
        for i, message in enumerate(messages):
            if message.role == "assistant":
                yield from self._requests(message, messages[:i])

    def _requests(
        self, message: SessionMessage, before: Sequence[SessionMessage]
    ) -> Iterator[RecordedRequest]:
        found = steps(message)
        finished = sum(step.finish is not None for step in found)
        # Neither start nor error: a tool that the user ran, which is no request.
        was_request = message.has("step-start") or message.info.get("error")
        if was_request and (finished == 0 or finished < len(found)):
            self._notes.add("requests without a whole answer, no turns", self._where)
        if finished == 0:
            return
        history = self._history(message, before)
        if message.is_summary:
            self._notes.add("compaction requests, whose instruction is not stored", self._where)
        for step in found:
            if step.finish is None:
                continue
            answer = answer_message(step.parts, where=self._where)
            counts = usage(step.finish)
            if not history or (answer is None and counts.output_tokens is None):
                self._notes.add("requests without history or answer, no turns", self._where)
            else:
                yield self._request(step, history, answer, counts)
            history = [
                *history,
                *step_messages(step.parts, at_ms=None, notes=self._notes, where=self._where),
            ]

    def _request(
        self, step: Step, history: list[Message], answer: Message | None, counts: Usage
    ) -> RecordedRequest:
        calls = [part for part in step.parts if is_call(part)]
        times = [self._when(part) for part in calls]
        names = [text(part.get("tool")) or "" for part in calls]
        return RecordedRequest(
            messages=history,
            tools=None,
            tool_delay_ns=tools_delay_ns(zip(names, times, strict=True)),
            prompt_tokens=counts.prompt_tokens,
            output_tokens=counts.output_tokens,
            tool_calls=tuple(
                ToolCall(call_id(part), name, when.duration_ns if when else None)
                for part, name, when in zip(calls, names, times, strict=True)
            ),
            answer=answer,
        )

    def _when(self, part: Part) -> Interval | None:
        state = mapping(part.get("state"))
        if call_id(part) in self._session.asked:
            self._notes.add(
                "tool calls that waited for a human's permission, durations not used", self._where
            )
            return None
        if (text(state.get("error")) or "").startswith(_ENDED_BY_HUMAN):
            return None
        time = mapping(state.get("time"))
        return interval(_ns(time.get("start")), _ns(time.get("end")))

    def _history(self, message: SessionMessage, before: Sequence[SessionMessage]) -> list[Message]:
        history = [] if message.is_summary else _system_messages(message, before)
        for earlier in uncompacted(before):
            history += self._as_sent(earlier, message.created_ms)
        return history

    def _as_sent(self, message: SessionMessage, at_ms: float | None) -> list[Message]:
        # Its results may have been pruned between two requests, so there is more than one form of a message.
        pruned = (pruned_ms(part) for part in message.parts)
        key = (id(message), *(at_ms is not None and one <= at_ms for one in pruned if one is not None))
        if (known := self._sent.get(key)) is not None:
            return known
        sent: list[Message] = []
        if message.role == "user":
            if (said := user_message(message, notes=self._notes, where=self._where)) is not None:
                sent = [said]
        elif is_sent_again(message):
            for step in steps(message):
                sent += step_messages(step.parts, at_ms=at_ms, notes=self._notes, where=self._where)
        self._sent[key] = sent
        return sent


def _system_messages(message: SessionMessage, before: Sequence[SessionMessage]) -> list[Message]:
    """Return what is stored of the system prompt: all of it by versions before 1.0, else what a client added."""
    texts: list[Any] = sequence(message.info.get("system"))
    if not texts:
        asked = next((one for one in reversed(before) if one.role == "user"), None)
        texts = [asked.info.get("system")] if asked else []
    return [{"role": "system", "content": one} for one in texts if isinstance(one, str) and one]


def _ns(time_ms: Any) -> int | None:
    value = number(time_ms)
    return None if value is None else to_ns(value)
