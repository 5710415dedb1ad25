"""What signals do while a run measures; sent to this process, then to one of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from plugin_support import group_lives, noted, plain_environment, pytest_command, suite_yaml, wait_for
from scripted_stub import MODEL as STUB
from scripted_stub import Said, running

from pytest_agentperf.core.journal import PhaseBrokenOff
from pytest_agentperf.interruption import Interrupted, StopRequest
from pytest_agentperf.plugin.signals import signals_ask
from pytest_agentperf.results.journal import JOURNAL, read_journal

if TYPE_CHECKING:
    from plugin_support import Workplace


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


def test_a_second_ctrl_c_stops_now(place: Workplace) -> None:
    """The first waits for answers that take their time; the second leaves them, and keeps what there is."""

    def soon(body: dict[str, object], in_flight: int) -> Said:
        return Said("word " * 15, 16)

    def late(body: dict[str, object], in_flight: int) -> Said:
        return soon(body, in_flight)._replace(delay_s=600)

    # A busy machine must not make it too slow.
    tiers = {name: {"output_speed_p25_tok_s": 1, "ttft_p95_s": 60} for name in ("tier1", "tier2")}
    place.suite(suite_yaml(place.dataset, editions={"first": {"source": "a test", "tiers": tiers}}))
    shown = place.folder / "shown"
    with running(soon) as stub, shown.open("wb") as output:
        place.system("stubbed", endpoint={"url": stub.url, "model": STUB})
        process = subprocess.Popen(
            pytest_command("suites/tiny", "--system=stubbed", "--agentperf-grace=500"),
            cwd=place.folder,
            env=plain_environment(),
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
        try:
            wait_for(lambda: noted(place, "*-ramp-1.parquet") or process.poll() is not None)
            stub.script = late
            wait_for(lambda: stub.held() or process.poll() is not None)
            os.killpg(process.pid, signal.SIGINT)
            wait_for(lambda: "Ctrl-C again stops now" in shown.read_text(encoding="utf-8"))
            assert process.poll() is None, "it waits for what is in flight"
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) == pytest.ExitCode.INTERRUPTED
            assert stub.held(), "nobody waited for it"
            wait_for(lambda: not group_lives(process.pid))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    (entry,) = place.leaderboard("stubbed").entries
    assert entry.tiers[0].passed_max >= 1
    assert entry.complete.reasons == ("tier1: the search was broken off", "tier2: not run")
    folder = place.run_folder("stubbed")
    assert not (folder / "broken-off").exists()
    events = read_journal(folder / JOURNAL).events
    (broken,) = [event for event in events if isinstance(event, PhaseBrokenOff)]
    assert (broken.reason, broken.digests) == ("KeyboardInterrupt", {})
