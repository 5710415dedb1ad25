"""Recordings with anything wrong in them: a reader makes trajectories of them, or one DatasetError."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import trajectory_digest
from pytest_agentperf.dataset.formats import READERS
from pytest_agentperf.dataset.formats.base import ImportContext, Peek
from pytest_agentperf.dataset.importing import reader_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JUNK: tuple[Any, ...] = (
    *(None, True, -1, 1e300, 10**400, "", "\ud800x"),
    *([], [None, {"type": []}], {"type": {}}),
)
"""What a foreign file may have in any place: what is false, has no size, fits no float or is no key."""
HOSTILE = (
    b"",
    b"\n",
    b"null",
    b"7",
    b'"text"',
    b"[]",
    b"{}",
    b"[[]]",
    b"[{}]",
    b"{",
    b"\xff\xfe",
    b'{"a": NaN}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" + b"9" * 5_000 + b"]",
)
_ROLES = frozenset(("system", "user", "assistant", "tool"))


def broken(value: Any) -> Iterator[Any]:
    """Yield a value, the same each time, with one part of it replaced by one kind of junk or left out."""
    value = copy.deepcopy(value)
    for holder, key in list(_places(value)):
        before = holder.copy()
        for junk in JUNK:
            holder[key] = junk
            yield value
        del holder[key]
        yield value
        holder.clear()
        if isinstance(holder, dict):
            holder.update(before)
        else:
            holder.extend(before)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def survives(path: Path, name: str) -> bool:
    """Return whether the named reader reads a path, having made sure that it is read, or refused in one defined way."""
    peek = Peek(path)
    for reader in READERS:
        reader.recognises(peek)
    try:
        for trajectory in reader_named(name).read(path, ImportContext()):
            trajectory_digest(trajectory)
            assert {message["role"] for message in trajectory.messages} <= _ROLES
    except DatasetError:
        return False
    return True


def survives_all(path: Path, name: str, value: Any, dump: Callable[[Any], str] = json.dumps) -> None:
    """Check a recording with junk in every place: some of them can be read nevertheless."""
    any_read = False
    for changed in broken(value):
        # A new file is quicker than one cut to nothing.
        path.unlink(missing_ok=True)
        path.write_text(dump(changed), encoding="utf-8")
        any_read |= survives(path, name)
    assert any_read


def survives_hostile(path: Path, name: str) -> None:
    """Check files of which no reader can make anything."""
    for data in HOSTILE:
        path.write_bytes(data)
        survives(path, name)
