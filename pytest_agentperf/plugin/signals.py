"""Signals while a run measures: the first asks it to end in order, the second stops it now."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.interruption import StopRequest


@contextlib.contextmanager
def signals_ask(stop: StopRequest, grace_s: float) -> Iterator[None]:
    """Let Ctrl-C ask for an end within `grace_s`, and SIGTERM for one at once: batch systems kill soon after it.

    Where no phase can heed it, and the second time, KeyboardInterrupt is raised where the program is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        name = signal.Signals(number).name
        if not stop.ask(grace_s if number == signal.SIGINT else 0.0):
            raise KeyboardInterrupt(name)

    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM)
        # Ignored, as by `nohup`: that is meant. None: a handler that Python could not restore.
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
