"""OpenHands v0 trajectories: one JSON array of events (actions and observations).

An action keeps the model's whole answer (`tool_call_metadata.model_response`); the actions of one answer share its id.
What the agent recalled into a user message is not recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.chat import NO_ANSWER, chat_message, chat_tools, usage_counts
from pytest_agentperf.dataset.formats.openhands.thread import Thread, command_output
from pytest_agentperf.dataset.formats.times import moment_ns
from pytest_agentperf.dataset.formats.values import MALFORMED, inner, required_object, sequence, text
from pytest_agentperf.dataset.reading import brief, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

_RECALLED = "what OpenHands recalled into a prompt is not recorded"
_NO_RESPONSE = "an action without the model's answer, left out"
_IMAGES = "images, left out"


def recognises(peek: Peek) -> bool:
    """Say whether a document is an array of events."""
    document = peek.document
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and "source" in document[0]
        and ("action" in document[0] or "observation" in document[0])
    )


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the run, unless the model never answered."""
    document = read_document(path)
    if not isinstance(document, list):
        raise DatasetError(
            f"no array of OpenHands events: {brief(document)}", where=str(path), remedy=MALFORMED
        )
    run = _Run(context)
    for i, event in enumerate(document):
        where = f"{path}: [{i}]"
        run.add(required_object(event, where, what="event of OpenHands"), where)
    if not run.thread.turns:
        context.notes.add(NO_ANSWER, str(path))
        return
    yield context.trajectory(path.stem, run.thread.requests(), model=run.model)


class _Run:
    def __init__(self, context: ImportContext) -> None:
        self.thread = Thread()
        self.model: str | None = None
        self._context = context
        self._answered: set[str] = set()
        self._ids: set[str] = set()

    def add(self, event: dict[str, Any], where: str) -> None:
        self._ids.add(str(event.get("id")))
        if event.get("observation") is not None:
            self._observation(event, where)
        elif event.get("source") == "user":
            self._user(event, where)
        else:
            self._action(event, where)
        self.thread.came_from(str(event.get("id")))

    def _user(self, event: dict[str, Any], where: str) -> None:
        if event.get("action") != "message":
            return
        if inner(event, "args", "image_urls"):
            self._context.notes.add(_IMAGES, where)
        self._say("user", event, where)

    def _say(self, role: str, event: dict[str, Any], where: str) -> None:
        content = inner(event, "args", "content")
        self.thread.say(
            chat_message(
                {"role": role, "content": event.get("message") if content is None else content}, where=where
            )
        )

    def _action(self, event: dict[str, Any], where: str) -> None:
        kind = event.get("action")
        if kind == "system":
            self._say("system", event, where)
            self.thread.tools = chat_tools(inner(event, "args", "tools"), where=where)
        elif kind == "condensation":
            self._condensation(event)
        elif inner(event, "tool_call_metadata") is not None:
            self._call(event, where)
        elif kind == "message" and event.get("source") == "agent":
            self._answer({"role": "assistant", "content": inner(event, "args", "content")}, None, where)
        elif inner(event, "args", "thought") is not None:
            self._context.notes.add(_NO_RESPONSE, where)

    def _call(self, event: dict[str, Any], where: str) -> None:
        response = inner(event, "tool_call_metadata", "model_response")
        message = next((inner(choice, "message") for choice in sequence(inner(response, "choices"))), None)
        if not isinstance(message, dict):
            self._context.notes.add(_NO_RESPONSE, where)
            return
        self.thread.called(
            str(inner(event, "tool_call_metadata", "tool_call_id")), moment_ns(event.get("timestamp"))
        )
        response_id = inner(response, "id")
        if isinstance(response_id, str):
            if response_id in self._answered:
                return
            self._answered.add(response_id)
        self.model = self.model or text(inner(response, "model")) or None
        self._answer({**message, "role": "assistant"}, inner(response, "usage"), where)

    def _answer(self, message: dict[str, Any], usage: Any, where: str) -> None:
        if not self.thread.history:
            raise DatasetError("a history that opens with an answer", where=where, remedy=MALFORMED)
        prompt_tokens, output_tokens = usage_counts(usage)
        self.thread.answer(
            chat_message(message, where=where), prompt_tokens=prompt_tokens, output_tokens=output_tokens
        )

    def _observation(self, event: dict[str, Any], where: str) -> None:
        if event.get("observation") == "recall":
            self._context.notes.add(_RECALLED, where)
        call_id = inner(event, "tool_call_metadata", "tool_call_id")
        if not isinstance(call_id, str):
            return
        shown = text(event.get("content"))
        shown = str(event.get("message") or "") if shown is None else shown
        took_ns = self.thread.since_call_ns(call_id, moment_ns(event.get("timestamp")))
        output = command_output(shown, inner(event, "extras", "metadata"))
        self.thread.tool_result(call_id, output, duration_ns=took_ns)

    def _condensation(self, event: dict[str, Any]) -> None:
        forgotten = inner(event, "args", "forgotten_event_ids")
        first = inner(event, "args", "forgotten_events_start_id")
        last = inner(event, "args", "forgotten_events_end_id")
        if isinstance(first, int) and isinstance(last, int):
            known = {id_ for id_ in self._ids if id_.isdecimal() and first <= int(id_) <= last}
        else:
            known = {str(id_) for id_ in sequence(forgotten)}
        offset = inner(event, "args", "summary_offset")
        self.thread.condense(
            known,
            text(inner(event, "args", "summary")) or None,
            offset if isinstance(offset, int) else None,
        )
