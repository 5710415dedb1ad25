"""What a sampler's process tells its parent: short frames, readings as columns."""

from __future__ import annotations

import json
import os
import struct
from array import array
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.power import DeviceState, PowerProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_agentperf.power.reader import Reading

_HEADER = struct.Struct("<BI")
_NAN = float("nan")
_READING_BYTES = 28


class Kind(IntEnum):
    """What a frame holds."""

    OPENED = 1
    REFUSED = 2
    DEVICES = 3
    """Names of further devices, in the order in which readings count them from the start of the phase."""
    READINGS = 4
    PROBLEMS = 5
    BEFORE = 6
    AFTER = 7
    """The last frame of a phase."""


class Columns(NamedTuple):
    """Readings, as `PowerSeriesBuilder.extend` takes them."""

    t_ns: array[int]
    device: array[int]
    power_w: array[float]
    energy_j: array[float]


class FrameWriter:
    """Writes frames to a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._index: dict[str, int] = {}

    def new_phase(self) -> None:
        """Count devices from the start."""
        self._index.clear()

    def write(self, kind: Kind, payload: bytes) -> None:
        """Write one frame, whole."""
        left = memoryview(_HEADER.pack(kind, len(payload)) + payload)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def write_json(self, kind: Kind, value: Any) -> None:
        """Write one frame of what is seldom sent."""
        self.write(kind, json.dumps(value).encode())

    def states(self, kind: Kind, states: Iterable[DeviceState]) -> None:
        """Write the states of all devices."""
        self.write_json(kind, [state.model_dump() for state in states])

    def readings(self, readings: Iterable[Reading]) -> None:
        """Write readings, and before them the names of devices that are new in this phase."""
        t_ns, device, power_w, energy_j = array("q"), array("i"), array("d"), array("d")
        index, new = self._index, []
        for reading in readings:
            number = index.get(reading.device)
            if number is None:
                number = index[reading.device] = len(index)
                new.append(reading.device)
            t_ns.append(reading.t_ns)
            device.append(number)
            power_w.append(_NAN if reading.power_w is None else reading.power_w)
            energy_j.append(_NAN if reading.energy_j is None else reading.energy_j)
        if new:
            self.write_json(Kind.DEVICES, new)
        if t_ns:
            columns = (t_ns, power_w, energy_j, device)
            self.write(Kind.READINGS, b"".join(column.tobytes() for column in columns))


class FrameBuffer:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Yield the frames that are complete."""
        self._left += data
        while len(self._left) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._left)
            end = _HEADER.size + length
            if len(self._left) < end:
                return
            payload = bytes(self._left[_HEADER.size : end])
            del self._left[:end]
            yield Kind(kind), payload


def columns_of(payload: bytes) -> Columns:
    """Read the columns of a READINGS frame."""
    n = len(payload) // _READING_BYTES
    columns = Columns(array("q"), array("i"), array("d"), array("d"))
    start = 0
    for column in (columns.t_ns, columns.power_w, columns.energy_j, columns.device):
        end = start + n * column.itemsize
        column.frombytes(payload[start:end])
        start = end
    return columns


def problems_of(payload: bytes) -> Sequence[PowerProblem]:
    """Read a PROBLEMS frame."""
    return [PowerProblem(*problem) for problem in json.loads(payload)]


def states_of(payload: bytes) -> tuple[DeviceState, ...]:
    """Read a BEFORE or AFTER frame."""
    return tuple(DeviceState.model_validate(state) for state in json.loads(payload))
