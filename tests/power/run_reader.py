"""Runs a reader against a stub library: a process loads a library once, so every scenario has one of its own.

Reads a request as JSON, writes what the reader found as JSON.
"""

from __future__ import annotations

import json
import mmap
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.power import AmdsmiPower, NvmlPower
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.power.amdsmi import AmdsmiReader
from pytest_agentperf.power.nvml import NvmlReader
from pytest_agentperf.power.schedule import Schedule

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.power.reader import PowerReader


class FileClock:
    """Virtual time, which the stub library sees through a file."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)

    def now_ns(self) -> int:
        return int(struct.unpack("q", self._page)[0])

    def sleep(self, seconds: float) -> None:
        self._page[:] = struct.pack("q", self.now_ns() + round(seconds * 1e9))


def reader(request: dict[str, Any], chosen: list[str], clock: BlockingClock) -> PowerReader:
    if request["source"] == "nvml":
        return NvmlReader(NvmlPower(source="nvml", devices=tuple(chosen)), clock)
    return AmdsmiReader(AmdsmiPower(source="amdsmi", devices=tuple(chosen)), clock)


def run(request: dict[str, Any], chosen: list[str]) -> dict[str, Any]:
    clock: BlockingClock = FileClock(request["clock"]) if request["clock"] else RealClock()
    power = reader(request, chosen, clock)
    try:
        source = power.open()
    except PowerError as error:
        left = [name for name in sys.modules if name.split(".")[0] == "amdsmi"]
        return {"error": error.what, "remedy": error.remedy, "modules_left": left}
    before = power.states()
    rows: list[Any] = []
    schedule = Schedule(round(request["interval_s"] * 1e9), round((source.update_period_s or 0) * 1e9))
    schedule.start(clock.now_ns())
    end_ns = clock.now_ns() + round(request["seconds"] * 1e9)
    while clock.now_ns() <= end_ns:
        rows += power.read()
        now_ns = clock.now_ns()
        clock.sleep((schedule.next_ns(now_ns) - now_ns) / 1e9)
    found = {
        "source_said": source.model_dump(),
        "rows": rows,
        "problems": power.take_problems(),
        "problems_again": power.take_problems(),
        "before": [state.model_dump() for state in before],
        "after": [state.model_dump() for state in power.states()],
    }
    power.close()
    return found


def main() -> None:
    request = json.load(sys.stdin)
    json.dump([run(request, chosen) for chosen in request["choices"]], sys.stdout)


if __name__ == "__main__":
    main()
