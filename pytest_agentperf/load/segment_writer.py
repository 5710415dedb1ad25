"""Encodes trajectories into the files that `load.segments` maps: every message once, in the order of its trajectory."""

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
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from pytest_agentperf.core.trajectory import Trajectory, Turn

_BUFFER_BYTES = 1 << 20
_INT64_MAX = (1 << 63) - 1


class _Slice(NamedTuple):
    start: int
    stop: int


class _Encoded(NamedTuple):
    """Where the pieces of one trajectory lie."""

    messages: Sequence[_Slice]
    """Each with the comma before it."""
    ends: Sequence[_Slice]
    """The end of the messages, and the tools; one per tool list."""
    openings: dict[int, tuple[_Slice, _Slice]]
    """Messages that open a request, cut where the prefix goes."""


class SegmentWriter:
    """Writes a folder, one trajectory at a time; before `finish` it cannot be opened. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = (folder / SEGMENTS_FILE).open("xb", buffering=_BUFFER_BYTES)
        self.size_bytes = 0
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
        """Encode and append a trajectory; raises DatasetError for messages that cannot open a request."""
        encoded = _Encoded(
            [self._write(b"," + json_bytes(message)) for message in trajectory.messages],
            [self._write(b'],"tools":' + json_bytes(tools)) for tools in trajectory.tool_sets],
            {},
        )
        for number, turn in enumerate(trajectory.turns):
            opening = turn.message_runs[0][0]
            if opening not in encoded.openings:
                try:
                    encoded.openings[opening] = self._opening(trajectory, encoded, opening)
                except DatasetError as error:
                    where = f"trajectory {trajectory.id!r}, turn {number}"
                    raise DatasetError(error.what, where=where, remedy=error.remedy) from None
            first = len(self._bounds)
            for slice_ in self._slices(encoded, turn):
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

    def _opening(self, trajectory: Trajectory, encoded: _Encoded, index: int) -> tuple[_Slice, _Slice]:
        """Return both parts of a message that opens a request, written apart only where they differ from it."""
        before, after = cut_for_prefix(trajectory.messages[index])
        if before + after == json_bytes(trajectory.messages[index]):
            start = encoded.messages[index].start + 1
        else:
            start = self._write(before + after).start
        cut = start + len(before)
        return _Slice(start, cut), _Slice(cut, cut + len(after))

    def _slices(self, encoded: _Encoded, turn: Turn) -> Iterator[_Slice]:
        """Yield what a request consists of, neighbours joined; the prefix parts the first slice from the second."""
        (opening, stop), *others = turn.message_runs
        before, after = encoded.openings[opening]
        yield before
        pieces = [after]
        for first, end in ((opening + 1, stop), *others):
            if first < end:
                # A trajectory's messages were written one behind the other.
                pieces.append(_Slice(encoded.messages[first].start, encoded.messages[end - 1].stop))
        pieces.append(self._end_without_tools if turn.tools_index is None else encoded.ends[turn.tools_index])
        yield from _joined(pieces)


def _joined(slices: Iterable[_Slice]) -> Iterator[_Slice]:
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
