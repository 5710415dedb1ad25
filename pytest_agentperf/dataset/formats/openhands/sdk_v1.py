"""Conversation folders of the OpenHands SDK (v1): `base_state.json` and one `event-<n>-<id>.json` per event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.chat import NO_ANSWER
from pytest_agentperf.dataset.formats.openhands.sdk_events import SdkRun
from pytest_agentperf.dataset.formats.values import inner, required_object, text
from pytest_agentperf.dataset.reading import is_file, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

_STATE = "base_state.json"
_FOLDER = "events"
_EVENT = re.compile(r"event-(\d{1,18})-.+\.json")


def recognises(peek: Peek) -> bool:
    """Say whether a folder has the state or the events of one conversation."""
    return {_STATE, _FOLDER} <= peek.names or any(_EVENT.fullmatch(name) for name in peek.names)


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the conversation, unless the model never answered."""
    state = _object(path / _STATE) if is_file(path / _STATE) else {}
    run = SdkRun(state, str(path), context)
    events = [(str(file), _object(file)) for file in _event_files(path)]
    run.gather(event for _, event in events)
    for where, event in events:
        run.add(event, where)
    if not run.thread.turns:
        context.notes.add(NO_ANSWER, str(path))
        return
    home = path.parent if path.name == _FOLDER else path
    yield context.trajectory(
        text(state.get("id")) or home.name,
        run.thread.requests(),
        model=text(inner(state, "agent", "llm", "model")) or None,
    )


def _event_files(path: Path) -> list[Path]:
    found = []
    for folder in (path, path / _FOLDER):
        if folder.is_dir():
            found += [
                (int(match[1]), file.name, file)
                for file in folder.iterdir()
                if (match := _EVENT.fullmatch(file.name))
            ]
    return [file for _, _, file in sorted(found)]


def _object(path: Path) -> dict[str, Any]:
    return required_object(read_document(path), str(path), what="object")
