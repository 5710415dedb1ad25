"""The encoded dataset that all load workers of a machine share: JSON segments in one file, mapped into memory.

    segments      encoded messages, each behind its comma, so that a run of messages is one slice
    bounds.npy    where the slices of every request start and stop in `segments`
    turns.npy     a row per turn: its bounds, its tool delay, its recorded output length
    index.json    the trajectories and their numbers of turns; written last, so that half a folder is never opened

A request is its first slice, the isolation prefix, and its other slices; the last one ends the messages and has the
tools. `load.segment_writer` writes all this.
"""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.core.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEGMENTS_FILE = "segments"
BOUNDS_FILE = "bounds.npy"
TURNS_FILE = "turns.npy"
INDEX_FILE = "index.json"
FORMAT = "agentperf-segments/1"
# Columns of `turns`.
FIRST_BOUND, STOP_BOUND, TOOL_DELAY_NS, OUTPUT_TOKENS = range(4)
NOT_RECORDED = -1


class Segments:
    """An encoded dataset, opened; nothing of it is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Map the files; raises LoadError if they are gone or not complete."""
        try:
            index = json.loads((folder / INDEX_FILE).read_bytes())
            with (folder / SEGMENTS_FILE).open("rb") as file:
                self._segments = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            # Without the subclass `memmap`, whose every slice costs microseconds.
            self._bounds = np.asarray(np.load(folder / BOUNDS_FILE, mmap_mode="r"))
            self._turns = np.asarray(np.load(folder / TURNS_FILE, mmap_mode="r"))
            # Single numbers are read out of these: NumPy takes a microsecond for each.
            self._bound, self._turn = self._bounds.data, self._turns.data
            if index["format"] != FORMAT or index["segments_bytes"] != len(self._segments):
                raise ValueError("another format, or cut short")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise LoadError(
                f"the encoded dataset cannot be opened: {error}",
                where=str(folder),
                remedy="run again, and see that nothing clears the temporary folder meanwhile",
            ) from error
        self._numbers: dict[str, range] = {}
        first = 0
        for trajectory, turns in index["trajectories"]:
            self._numbers[trajectory] = range(first, first + turns)
            first += turns

    def number(self, trajectory: str, turn: int) -> int:
        """Return the number of a turn among all turns."""
        return self._numbers[trajectory][turn]

    def slices(self, number: int) -> list[memoryview]:
        """Return the slices of a request; the isolation prefix goes behind the first."""
        turn = self._turn
        bounds = iter(self._bound[turn[number, FIRST_BOUND] : turn[number, STOP_BOUND]])
        segments = self._segments
        return [segments[start:stop] for start, stop in zip(bounds, bounds, strict=True)]

    def output_tokens(self, number: int) -> int:
        """Return the recorded length of a turn's answer, NOT_RECORDED where there is none."""
        tokens: int = self._turn[number, OUTPUT_TOKENS]
        return tokens

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        """Return the delay after each turn of a trajectory."""
        turn = self._turn
        return [turn[number, TOOL_DELAY_NS] for number in self._numbers[trajectory]]

    @property
    def turns_mean(self) -> float:
        """Return the mean number of turns of a trajectory."""
        return len(self._turns) / max(1, len(self._numbers))

    def without_output_tokens(self) -> tuple[str, int] | None:
        """Return the first turn, as trajectory and number in it, whose answer's length was not recorded."""
        missing = np.flatnonzero(self._turns[:, OUTPUT_TOKENS] == NOT_RECORDED)
        if not len(missing):
            return None
        number = int(missing[0])
        return next(
            (trajectory, number - turns.start)
            for trajectory, turns in self._numbers.items()
            if number in turns
        )

    def touch(self) -> None:
        """Read a byte of every page: what is not in memory is fetched now, not when a request needs it."""
        self._segments[:: mmap.PAGESIZE].tobytes()
        for array in (self._bounds, self._turns):
            array.max(initial=0)
