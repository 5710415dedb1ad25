"""How a worker joins: it says what its host is, takes the files that it needs, and is told its work.

controller → worker   ("hello", how long it may be left alone, seconds) · ("beat",) · the frames of `load.parcel`
("config", fields)
worker → controller   ("host", facts) · ("kept", path) · ("got",)
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.host_facts import HostFacts
from pytest_agentperf.load.parcel import Shelf

if TYPE_CHECKING:
    from pytest_agentperf.load.parcel import Delivery

_FIRST_FRAME_S = 120.0


class JoiningChannel(Protocol):
    """The controller's end of the line, before anything is to be done at once."""

    def send(self, item: object) -> None:
        """Send plain values."""

    def receive(self, timeout: float | None) -> Any:
        """Wait for an item; raises EOFError once the line is closed."""


class Watchdog:
    """Ends a worker that its controller has left alone: behind a cut network no line ever breaks."""

    def __init__(self, alone_s: float) -> None:
        """`alone_s`: 0 for a worker whose line breaks surely, as a pipe does."""
        self._alone_ns = round(alone_s * NS_PER_S)
        self._since_ns: int | None = None
        if alone_s:
            self._wait_s = min(1.0, alone_s / 4)
            self._tick = threading.Event()
            threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """Begin to wait for the next frame: one came, or one is due."""
        self._since_ns = monotonic_ns()

    def busy(self) -> None:
        """Wait for nothing: what is done takes its time."""
        self._since_ns = None

    def _watch(self) -> None:
        while (since_ns := self._since_ns) is None or monotonic_ns() - since_ns <= self._alone_ns:
            self._tick.wait(self._wait_s)
        # Its load may disturb another run by now; nobody is left to be told of anything.
        os._exit(1)


def join(channel: JoiningChannel) -> tuple[dict[str, Any], Watchdog]:
    """Answer the controller until it says what is to be done; raises LoadError for files that cannot be kept."""
    _, alone_s = channel.receive(_FIRST_FRAME_S)
    watchdog = Watchdog(alone_s)
    channel.send(("host", HostFacts.here()._asdict()))
    delivery: Delivery | None = None
    try:
        while True:
            watchdog.heard()
            kind, *values = channel.receive(None)
            watchdog.busy()
            if kind == "config":
                return values[0], watchdog
            if kind == "wanted":
                digest, folder = values
                shelf = Shelf(folder)
                found = shelf.find(digest)
                channel.send(("kept", found))
                delivery = None if found else shelf.begin(digest)
            elif kind == "file":
                assert delivery is not None
                delivery.take(*values)
                channel.send(("got",))
            elif kind == "whole":
                assert delivery is not None
                channel.send(("kept", delivery.finish()))
                delivery = None
    finally:
        if delivery is not None:
            delivery.drop()
