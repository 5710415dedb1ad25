"""OpenHands: v0 event arrays, folders of SDK v1 conversations, and completion logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.formats.base import Peek
from pytest_agentperf.dataset.formats.openhands import completion_logs, events_v0, sdk_v1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext

NAME = "openhands"
TITLE = "OpenHands trajectory, conversation folder or completion logs"


def recognises(peek: Peek) -> bool:
    """Say whether the path is one of the three."""
    return any(kind.recognises(peek) for kind in (sdk_v1, completion_logs, events_v0))


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the trajectories of the kind that the path is; what is none of them is read as an event array."""
    peek = Peek(path)
    if sdk_v1.recognises(peek):
        yield from sdk_v1.read(path, context)
    elif path.is_dir() or completion_logs.recognises(peek):
        yield from completion_logs.read(path, context)
    else:
        yield from events_v0.read(path, context)
