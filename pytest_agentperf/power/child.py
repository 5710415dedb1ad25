"""The sampler's own process: opens one reader, and reads it at its pace between two commands of the parent.

It ends when its parent does, whatever it is doing then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.power.frames import FrameWriter, Kind
from pytest_agentperf.power.schedule import Schedule

if TYPE_CHECKING:
    from pytest_agentperf.power.reader import PowerReader

START, STOP = b"B"[0], b"E"[0]
# Readings may wait for a load worker, never the other way round.
_NICE = 5
# What the reader has to close itself; a call that hangs is left hanging.
_GRACE_S = 0.5


class Parent:
    """The parent's commands; `None` when it has gone, and soon after that the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._commands: SimpleQueue[int | None] = SimpleQueue()

    def spec(self) -> dict[str, Any]:
        """Return what the parent says first: how to make the reader."""
        line = b""
        while not line.endswith(b"\n"):
            data = os.read(self._descriptor, 65_536)
            if not data:
                os._exit(0)
            line += data
        found: dict[str, Any] = json.loads(line)
        return found

    def listen(self) -> None:
        """Read commands from now on, in a thread: a reader may block for long."""
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def command(self, timeout_s: float | None = None) -> int | None:
        """Wait for the next command; raises queue.Empty after `timeout_s`."""
        return self._commands.get(timeout=timeout_s)

    def _listen(self) -> None:
        while data := os.read(self._descriptor, 64):
            for command in data:
                self._commands.put(command)
        self._commands.put(None)
        threading.Event().wait(_GRACE_S)
        os._exit(0)


def serve(parent: Parent, frames: FrameWriter) -> None:
    """Open the reader that the parent asks for, and sample phase after phase until it goes."""
    spec = parent.spec()
    parent.listen()
    try:
        reader = make(spec)
        source = reader.open()
    except PowerError as error:
        frames.write_json(Kind.REFUSED, [error.what, error.where, error.remedy])
        return
    try:
        frames.write(Kind.OPENED, source.model_dump_json().encode())
        update_s = source.update_period_s or 0.0
        schedule = Schedule(round(spec["interval_s"] * NS_PER_S), round(update_s * NS_PER_S))
        command: int | None = START
        while command is not None:
            command = parent.command()
            if command == START:
                command = _phase(reader, parent, frames, schedule)
    finally:
        reader.close()


def make(spec: dict[str, Any]) -> PowerReader:
    """Call the factory that a spec names."""
    module, _, name = spec["factory"].partition(":")
    reader: PowerReader = getattr(import_module(module), name)(**spec["arguments"])
    return reader


def _phase(reader: PowerReader, parent: Parent, frames: FrameWriter, schedule: Schedule) -> int | None:
    """Sample until the next command, and once more then; returns the command."""
    told: set[tuple[str, str | None]] = set()

    def sample() -> None:
        frames.readings(reader.read())
        new = [problem for problem in reader.take_problems() if (problem.code, problem.device) not in told]
        if new:
            told.update((problem.code, problem.device) for problem in new)
            frames.write_json(Kind.PROBLEMS, new)

    frames.new_phase()
    frames.states(Kind.BEFORE, reader.states())
    schedule.start(monotonic_ns())
    while True:
        sample()
        now_ns = monotonic_ns()
        try:
            command = parent.command((schedule.next_ns(now_ns) - now_ns) / NS_PER_S)
        except Empty:
            continue
        if command is not None:
            sample()
            frames.states(Kind.AFTER, reader.states())
        return command


def main() -> None:
    """Serve the parent at the other end of stdin and stdout."""
    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Vendors' libraries print, and some of them read.
    frames, commands = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(BrokenPipeError):
        serve(Parent(commands), FrameWriter(frames))


if __name__ == "__main__":
    main()
