"""Codex CLI sessions: `rollout-*.jsonl`, the items of the Responses API in the order they were logged.

A request's usage is logged once or twice, before its items (versions around 0.58) or behind them; the items between
two different totals are one answer. Reasoning is mostly encrypted and then not carried; its summary is another text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.formats.codex_items import is_answer
from pytest_agentperf.dataset.formats.codex_session import Session, usage_total
from pytest_agentperf.dataset.formats.values import mapping, required_object
from pytest_agentperf.dataset.reading import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "codex"
TITLE = "Codex CLI session (rollout-*.jsonl)"

_LINES = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")


def recognises(peek: Peek) -> bool:
    """Say whether a file has rollout lines, or the bare items of the first versions."""
    if any(line.get("type") in _LINES and isinstance(line.get("payload"), dict) for line in peek.objects):
        return True
    first = peek.objects[0] if peek.objects else {}
    return {"id", "timestamp", "instructions"} <= first.keys() and "type" not in first


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the session's trajectory, if any request of it was answered."""
    session = Session(path, context, _usage_place(path))
    for where, value in read_json_lines(path):
        session.take(required_object(value, where, what="line of a Codex session"), where)
        if session.over:
            break
    session.close()
    if not session.conversation.turns:
        context.notes.add("sessions without an answered request", str(path))
        return
    yield context.trajectory(session.id or path.stem, session.requests(), model=session.model)


def _usage_place(path: Path) -> str | None:
    """Return whether usage is logged "before" or "behind" the answer it belongs to, None where nowhere."""
    answered = False
    for _, value in read_json_lines(path):
        line = mapping(value)
        payload = mapping(line.get("payload"))
        if line.get("type") == "response_item" and is_answer(payload):
            answered = True
        elif usage_total(payload):
            return "behind" if answered else "before"
    return None
