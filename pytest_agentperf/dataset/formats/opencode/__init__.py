"""OpenCode sessions: exported, captured from its event bus, or in its storage (JSON files, SQLite, a dump of that).

OpenCode stores no tool definitions and (since 1.0) of the system prompt only what a client added: requests are shorter
than recorded prompt counts by these. Nor does it store the reminders that some versions put around a user message for
one request only. Sub-agents are sessions, so trajectories, of their own. Where it moved its storage folder into its
database, both hold the same sessions: read one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.formats.base import Peek
from pytest_agentperf.dataset.formats.opencode.documents import (
    DUMP_FILES,
    document_sessions,
    dump_sessions,
    is_event,
    is_export,
    is_message,
)
from pytest_agentperf.dataset.formats.opencode.storage import (
    DATABASE_HEAD,
    FOLDERS,
    database_sessions,
    folder_sessions,
    is_database,
)
from pytest_agentperf.dataset.formats.opencode.turns import SessionRequests
from pytest_agentperf.dataset.formats.values import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Notes
    from pytest_agentperf.dataset.formats.opencode.session import Session

NAME = "opencode"
TITLE = "OpenCode session (export, event capture, storage folder, opencode.db or its dump)"

_EVENTS_LOOKED_AT = 1_000


def recognises(peek: Peek) -> bool:
    """Say whether a path holds OpenCode sessions."""
    if peek.is_dir:
        return peek.names.issuperset(DUMP_FILES) or peek.names.issuperset(FOLDERS)
    if peek.head.startswith(DATABASE_HEAD):
        return is_database(peek.path)
    document = peek.document
    if isinstance(document, list):
        looked_at = document[:_EVENTS_LOOKED_AT]
        return any(is_event(one) for one in looked_at) or (
            bool(document) and is_message(document[0]) and "sessionID" in document[0]["info"]
        )
    return is_export(document)


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield a trajectory for each session that has a request with an answer."""
    for session in _sessions(path, context.notes):
        where = f"{path}: {session.id}"
        if not any(message.role == "assistant" for message in session.messages):
            context.notes.add("sessions without an answer, left out", where)
            continue
        if session.messages[0].role == "assistant":
            context.notes.add("sessions whose beginning is not recorded, left out", where)
            continue
        requests = SessionRequests(session, notes=context.notes, where=where)
        trajectory = context.trajectory(session.id, requests, model=_model(session))
        if not trajectory.turns:
            context.notes.add("sessions without an answer, left out", where)
            continue
        context.notes.add(
            "sessions without tool definitions and all of their system prompt: not stored", where
        )
        yield trajectory


def _sessions(path: Path, notes: Notes) -> Iterator[Session]:
    peek = Peek(path)
    if peek.is_dir:
        dumped = peek.names.issuperset(DUMP_FILES)
        return dump_sessions(path, notes) if dumped else folder_sessions(path, notes)
    if peek.head.startswith(DATABASE_HEAD):
        return database_sessions(path, notes)
    return document_sessions(path, notes)


def _model(session: Session) -> str | None:
    models = (text(message.info.get("modelID")) for message in session.messages)
    return next((model for model in models if model), None)
