"""What signals do while a run measures; sent to this process, whose handlers stand again afterwards."""

from __future__ import annotations

import signal
import threading

import pytest

from pytest_agentperf.interruption import Interrupted, StopRequest
from pytest_agentperf.plugin.signals import signals_ask


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(("first", "grace_s"), [(signal.SIGINT, 7.0), (signal.SIGTERM, 0.0)])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_stops_now(
    first: signal.Signals, grace_s: float, second: signal.Signals
) -> None:
    before, stop = handlers(), StopRequest()
    with signals_ask(stop, 7.0):
        with stop.phase():
            stop.heed()
            stop.check()
            signal.raise_signal(first)
            with pytest.raises(Interrupted) as caught:
                stop.check()
        assert caught.value.grace_s == grace_s
        with pytest.raises(KeyboardInterrupt, match=second.name) as now:
            signal.raise_signal(second)
        assert now.type is KeyboardInterrupt
    assert handlers() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_between_phases_the_first_stops_now(number: signal.Signals) -> None:
    stop = StopRequest()
    with signals_ask(stop, 7.0), pytest.raises(KeyboardInterrupt, match=number.name):
        signal.raise_signal(number)
    stop.check()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_ask(StopRequest(), 7.0):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    before, seen = handlers(), []

    def enter() -> None:
        with signals_ask(StopRequest(), 7.0):
            seen.append(handlers())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
