"""How a worker joins: it says what its host is, takes the files that it needs, and is told its work.

controller → worker   ("hello", how long it may be left alone, seconds) · ("beat",) · the frames of `load.parcel`
("config", fields)
worker → controller   ("host", facts) · ("kept", path) · ("got",)
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
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
        self._heard_ns = monotonic_ns()
        if alone_s:
            self._wait_s = min(1.0, alone_s / 4)
            self._stop = threading.Event()
            threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        """Note that a frame came."""
        self._heard_ns = monotonic_ns()

    def _watch(self) -> None:
        while monotonic_ns() - self._heard_ns <= self._alone_ns:
            self._stop.wait(self._wait_s)
        # Its load may disturb another run by now; nobody is left to be told of anything.
        os._exit(1)


def join(channel: JoiningChannel) -> tuple[dict[str, Any], Watchdog]:
    """Answer the controller until it says what is to be done; raises LoadError for files that cannot be kept."""
    _, alone_s = channel.receive(_FIRST_FRAME_S)
    watchdog = Watchdog(alone_s)
    channel.send(("host", HostFacts.here()._asdict()))
    delivery: Delivery | None = None
    while True:
        kind, *values = channel.receive(None)
        watchdog.heard()
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
