"""Encodes trajectories into the files that `load.segments` maps."""

from __future__ import annotations

import contextlib
import json
from array import array
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.load.message_json import cut_for_prefix, json_bytes
from pytest_agentperf.load.segments import (
    BOUNDS_FILE,
    FORMAT,
    INDEX_FILE,
    NOT_RECORDED,
    SEGMENTS_FILE,
    TURNS_FILE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from pytest_agentperf.core.trajectory import Message, Trajectory

_BUFFER_BYTES = 1 << 20
_INT64_MAX = (1 << 63) - 1
# So many runs that request after request begins with are worth a second copy in one piece.
_SCATTERED_RUNS = 8


class _Slice(NamedTuple):
    start: int
    stop: int


class SegmentWriter:
    """Writes a folder, one trajectory at a time; before `finish` it cannot be opened. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size_bytes = 0
        self._file = (folder / SEGMENTS_FILE).open("xb", buffering=_BUFFER_BYTES)
        self._bounds = array("q")
        self._turns = array("q")
        self._trajectories: list[tuple[str, int]] = []
        self._end_without_tools = self._write(b"]")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is still in the buffer finds no room either; the first error is the one that tells.
        with contextlib.suppress(OSError):
            self._file.close()

    def add(self, trajectory: Trajectory) -> None:
        """Encode and append a trajectory; raises DatasetError for a message that cannot open a request."""
        layout = _Layout(trajectory.messages, self._write)
        ends = [self._write(b'],"tools":' + json_bytes(tools)) for tools in trajectory.tool_sets]
        for number, turn in enumerate(trajectory.turns):
            try:
                before, *rest = layout.slices(turn.message_runs)
            except DatasetError as error:
                where = f"trajectory {trajectory.id!r}, turn {number}"
                raise DatasetError(error.what, where=where, remedy=error.remedy) from None
            rest.append(self._end_without_tools if turn.tools_index is None else ends[turn.tools_index])
            first = len(self._bounds)
            for slice_ in (before, *_joined(rest)):
                self._bounds.extend(slice_)
            output = NOT_RECORDED if turn.output_tokens is None else min(turn.output_tokens, _INT64_MAX)
            self._turns.extend((first, len(self._bounds), min(turn.tool_delay_ns, _INT64_MAX), output))
        self._trajectories.append((trajectory.id, len(trajectory.turns)))

    def finish(self) -> None:
        """Write the index; from now on the folder can be opened."""
        self._file.close()
        np.save(self.folder / BOUNDS_FILE, np.array(self._bounds, np.int64))
        np.save(self.folder / TURNS_FILE, np.array(self._turns, np.int64).reshape(-1, 4))
        index = {
            "format": FORMAT,
            "segments_bytes": self.size_bytes,
            "trajectories": self._trajectories,
        }
        # Under another name first: a reader must not meet half an index.
        unfinished = self.folder / f"{INDEX_FILE}.part"
        unfinished.write_text(json.dumps(index), encoding="ascii")
        unfinished.rename(self.folder / INDEX_FILE)

    def _write(self, data: bytes) -> _Slice:
        self._file.write(data)
        start, self.size_bytes = self.size_bytes, self.size_bytes + len(data)
        return _Slice(start, self.size_bytes)


class _Layout:
    """Writes one trajectory's messages, once and in order, and finds the slices of its requests."""

    def __init__(self, messages: Sequence[Message], write: Callable[[bytes], _Slice]) -> None:
        self._messages = messages
        self._write = write
        self._encoded = [b"," + json_bytes(message) for message in messages]
        self._places = [write(data) for data in self._encoded]
        self._openings: dict[int, tuple[_Slice, _Slice]] = {}
        self._gathered_runs: list[tuple[int, int]] = []
        self._gathered: list[_Slice] = []
        # Never more than as much again.
        self._gather_bytes = sum(map(len, self._encoded))

    def slices(self, runs: Sequence[tuple[int, int]]) -> list[_Slice]:
        """Return where a request's messages lie, without the comma before the first; the prefix goes after one."""
        (opening, stop), *others = runs
        if opening not in self._openings:
            self._openings[opening] = self._cut(opening)
        if opening + 1 < stop:
            others.insert(0, (opening + 1, stop))
        return [*self._openings[opening], *self._rest(others)]

    def _cut(self, index: int) -> tuple[_Slice, _Slice]:
        """Return both parts of a message that opens a request, written apart only where they differ from it."""
        before, after = cut_for_prefix(self._messages[index])
        if before + after == self._encoded[index][1:]:
            start = self._places[index].start + 1
        else:
            start = self._write(before + after).start
        cut = start + len(before)
        return _Slice(start, cut), _Slice(cut, cut + len(after))

    def _rest(self, runs: list[tuple[int, int]]) -> list[_Slice]:
        """Return where the other messages lie; many runs that later requests begin with too are gathered first.

        Reasoning that disappears with the next user message leaves such histories: every other message is replaced,
        and all requests from then on share them.
        """
        known = len(self._gathered_runs)
        found = list(self._gathered)
        if runs[:known] != self._gathered_runs:
            known, found = 0, []
        scattered = runs[known:-1]
        if len(scattered) >= _SCATTERED_RUNS:
            size_bytes = sum(place.stop - place.start for place in map(self._place, scattered))
            if size_bytes <= self._gather_bytes:
                self._gather_bytes -= size_bytes
                found.append(
                    self._write(b"".join(self._encoded[i] for run in scattered for i in range(*run)))
                )
                self._gathered_runs, self._gathered = runs[:-1], list(found)
                known = len(runs) - 1
        return [*found, *map(self._place, runs[known:])]

    def _place(self, run: tuple[int, int]) -> _Slice:
        return _Slice(self._places[run[0]].start, self._places[run[1] - 1].stop)


def _joined(slices: Iterable[_Slice]) -> Iterator[_Slice]:
    """Yield slices, neighbours in the file as one."""
    pending: _Slice | None = None
    for slice_ in slices:
        if pending is not None and pending.stop == slice_.start:
            pending = _Slice(pending.start, slice_.stop)
            continue
        if pending is not None:
            yield pending
        pending = slice_
    if pending is not None:
        yield pending
