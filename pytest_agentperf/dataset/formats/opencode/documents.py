"""Sessions from JSON: what `opencode export` prints, a list of messages, a capture of bus events, a dump of tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.opencode.session import (
    RecordedPart,
    Session,
    SessionMessage,
    in_order,
    parts_in_order,
    session_message,
)
from pytest_agentperf.dataset.formats.values import mapping, objects, text
from pytest_agentperf.dataset.reading import parse_json, read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_agentperf.dataset.formats.base import Notes

DUMP_FILES = ("sessions.json", "messages.json", "parts.json")
_REMEDY = "give what `opencode export` wrote, a list of bus events, or its storage"
_NO_MESSAGE = "entries that are no messages, left out"


def is_export(document: Any) -> bool:
    """Return whether a document is an exported session."""
    messages = mapping(document).get("messages")
    info = mapping(document).get("info")
    return (
        isinstance(info, dict)
        and isinstance(messages, list)
        and (text(info.get("id")) or "").startswith("ses_")
        and all(is_message(one) for one in messages[:1])
    )


def is_message(value: Any) -> bool:
    """Return whether a value is a message with its parts."""
    value = mapping(value)
    return isinstance(value.get("info"), dict) and isinstance(value.get("parts"), list)


def is_event(value: Any) -> bool:
    """Return whether a value is a bus event about messages."""
    value = mapping(value)
    return isinstance(value.get("properties"), dict) and (text(value.get("type")) or "").startswith(
        "message."
    )


def document_sessions(path: Path, notes: Notes) -> Iterator[Session]:
    """Yield the sessions of a JSON file; raises DatasetError if it has none of the known shapes."""
    document = read_document(path)
    if isinstance(document, dict) and isinstance(document.get("messages"), list):
        name = text(mapping(document.get("info")).get("id")) or path.stem
        messages = _messages(document["messages"], notes, str(path))
        yield Session(name, tuple(messages))
    elif isinstance(document, list) and any(is_event(one) for one in document):
        yield from _event_sessions(document, notes, str(path))
    elif isinstance(document, list) and any(is_message(one) for one in document):
        yield from _by_session(_messages(document, notes, str(path)), path.stem)
    else:
        raise DatasetError("not an OpenCode session", where=str(path), remedy=_REMEDY)


def _messages(values: list[Any], notes: Notes, where: str) -> list[SessionMessage]:
    found = []
    for value in values:
        message = session_message(mapping(value).get("info"), mapping(value).get("parts"))
        if message is None:
            notes.add(_NO_MESSAGE, where)
        else:
            found.append(message)
    return found


def _by_session(messages: Iterable[SessionMessage], default: str) -> Iterator[Session]:
    sessions: dict[str, list[SessionMessage]] = defaultdict(list)
    for message in messages:
        sessions[text(message.info.get("sessionID")) or default].append(message)
    for name, own in sessions.items():
        yield Session(name, tuple(own))


class _Capture:
    """The last state of everything that a capture tells about."""

    def __init__(self) -> None:
        self.infos: dict[str, dict[str, Any]] = {}
        self.parts: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.asked: set[str] = set()

    def take(self, kind: str, properties: dict[str, Any]) -> None:
        """Apply one event."""
        if kind == "message.updated":
            info = mapping(properties.get("info"))
            if (key := text(info.get("id"))) is not None:
                self.infos[key] = info
        elif kind == "message.part.updated":
            part = mapping(properties.get("part"))
            key, owner = text(part.get("id")), text(part.get("messageID"))
            if key is not None and owner is not None:
                self.parts[owner][key] = part
        elif kind == "message.removed":
            if (key := text(properties.get("messageID"))) is not None:
                self.infos.pop(key, None)
                self.parts.pop(key, None)
        elif kind == "message.part.removed":
            owner, key = text(properties.get("messageID")), text(properties.get("partID"))
            if owner is not None and key is not None:
                self.parts[owner].pop(key, None)
        elif kind in ("permission.updated", "permission.asked"):
            call = text(properties.get("callID")) or text(mapping(properties.get("tool")).get("callID"))
            if call is not None:
                self.asked.add(call)

    def messages(self) -> Iterator[SessionMessage]:
        """Yield the messages with their parts."""
        for key, info in self.infos.items():
            own = [RecordedPart(id_, part) for id_, part in self.parts[key].items()]
            if (message := session_message(info, parts_in_order(own))) is not None:
                yield message


def _event_sessions(events: list[Any], notes: Notes, where: str) -> Iterator[Session]:
    capture = _Capture()
    for event in events:
        if not isinstance(event, dict):
            notes.add("entries that are no events, left out", where)
            continue
        capture.take(text(event.get("type")) or "", mapping(event.get("properties")))
    for session in _by_session(capture.messages(), "session"):
        yield replace(session, messages=in_order(list(session.messages)), asked=frozenset(capture.asked))


def dump_sessions(directory: Path, notes: Notes) -> Iterator[Session]:
    """Yield the sessions of a folder with the tables' rows as three JSON files."""
    messages = _rows(directory / "messages.json", notes)
    parts = _rows(directory / "parts.json", notes)
    own_parts: dict[str, list[RecordedPart]] = defaultdict(list)
    for row in parts:
        if (owner := text(row.get("message_id"))) is not None:
            own_parts[owner].append(RecordedPart(text(row.get("id")) or "", row))
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in messages:
        if (owner := text(row.get("session_id"))) is not None:
            sessions[owner].append(row)
    listed = [text(row.get("id")) for row in _rows(directory / "sessions.json", notes)]
    for name in dict.fromkeys([one for one in listed if one is not None] + list(sessions)):
        yield row_session(name, sessions.get(name, []), own_parts, notes, str(directory))


def row_session(
    name: str,
    messages: list[dict[str, Any]],
    parts: dict[str, list[RecordedPart]],
    notes: Notes,
    where: str,
) -> Session:
    """Return a session from its rows, whose `data` is JSON text without the ids that other columns have."""
    found = []
    for row in messages:
        key = text(row.get("id")) or ""
        own = [
            RecordedPart(id_, {**mapping(_data(part, where)), "id": id_}) for id_, part in parts.get(key, [])
        ]
        info = _data(row, where)
        message = session_message(
            {**info, "id": key, "sessionID": name} if isinstance(info, dict) else None, parts_in_order(own)
        )
        if message is None:
            notes.add(_NO_MESSAGE, where)
        else:
            found.append(message)
    return Session(name, in_order(found))


def _rows(path: Path, notes: Notes) -> list[dict[str, Any]]:
    rows = read_document(path)
    if not isinstance(rows, list):
        raise DatasetError(
            "not a list of rows", where=str(path), remedy="dump the table as a list of objects"
        )
    found = objects(rows)
    if len(found) < len(rows):
        notes.add("entries that are no rows, left out", str(path))
    return found


def _data(row: dict[str, Any], where: str) -> Any:
    data = row.get("data")
    if isinstance(data, str):
        return parse_json(
            data.encode("utf-8", "surrogatepass"), where=f"{where}: data of {str(row.get('id'))[:80]}"
        )
    return data
