"""Sessions from OpenCode's own storage: its folder of JSON files, or since 1.1 its SQLite database."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.opencode.documents import row_session
from pytest_agentperf.dataset.formats.opencode.session import (
    RecordedPart,
    Session,
    in_order,
    parts_in_order,
    session_message,
)
from pytest_agentperf.dataset.reading import MAX_JSON_BYTES, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.dataset.formats.base import Notes
    from pytest_agentperf.dataset.formats.opencode.session import SessionMessage

FOLDERS = ("session", "message", "part")
DATABASE_HEAD = "SQLite format 3\0"
_TABLES = ("session", "message", "part")


def folder_sessions(storage: Path, notes: Notes) -> Iterator[Session]:
    """Yield the sessions of `message/<session>/<message>.json` and `part/<message>/<part>.json`, one at a time."""
    for folder in _entries(storage / "message"):
        if folder.is_dir():
            found = (_stored_message(file, storage, notes) for file in _entries(folder) if _is_json(file))
            yield Session(folder.name, in_order([message for message in found if message is not None]))


def _stored_message(file: Path, storage: Path, notes: Notes) -> SessionMessage | None:
    folder = storage / "part" / file.stem
    stored = [(one.stem, _json(one)) for one in _entries(folder) if _is_json(one)] if folder.is_dir() else []
    parts = [RecordedPart(key, {**part, "id": key}) for key, part in stored if isinstance(part, dict)]
    info = _json(file)
    if isinstance(info, dict):
        info = {**info, "id": file.stem}
    message = session_message(info, parts_in_order(parts))
    if message is None:
        notes.add("entries that are no messages, left out", str(file))
    return message


def _is_json(path: Path) -> bool:
    return path.suffix == ".json"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(
            f"cannot be read: {error}", where=str(folder), remedy="check path and permissions"
        ) from error


def _json(path: Path) -> Any:
    return read_document(path)


def is_database(path: Path) -> bool:
    """Return whether an SQLite file has OpenCode's tables."""
    try:
        with closing(_connect(path)) as database:
            return _has_tables(database)
    except sqlite3.Error:
        return False


def database_sessions(path: Path, notes: Notes) -> Iterator[Session]:
    """Yield the sessions of a database that is opened for reading only, one at a time."""
    try:
        with closing(_connect(path)) as database:
            if not _has_tables(database):
                raise DatasetError("not OpenCode's database", where=str(path), remedy="give its opencode.db")
            names = [row[0] for row in database.execute("SELECT id FROM session ORDER BY time_created, id")]
            for name in names:
                if isinstance(name, str):
                    yield _session(database, name, notes, str(path))
    except sqlite3.Error as error:
        raise DatasetError(
            f"not a readable SQLite file: {error}", where=str(path), remedy="copy it while OpenCode is closed"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_JSON_BYTES)
    # Expressions that a foreign schema brings along may then do nothing but compute.
    database.execute("PRAGMA trusted_schema=OFF")
    return database


def _has_tables(database: sqlite3.Connection) -> bool:
    # Tables, not views: a view is a program, and reading it may never end.
    rows = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    )
    return set(_TABLES) <= {row[0] for row in rows}


def _session(database: sqlite3.Connection, name: str, notes: Notes, where: str) -> Session:
    messages = [
        {"id": key, "data": data}
        for key, data in database.execute("SELECT id, data FROM message WHERE session_id = ?", (name,))
    ]
    parts: dict[str, list[RecordedPart]] = defaultdict(list)
    for key, owner, data in database.execute(
        "SELECT id, message_id, data FROM part WHERE session_id = ?", (name,)
    ):
        if isinstance(owner, str) and isinstance(key, str):
            parts[owner].append(RecordedPart(key, {"id": key, "data": data}))
    return row_session(name, messages, parts, notes, where)
