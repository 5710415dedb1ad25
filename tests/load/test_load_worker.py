"""A worker in this process: frames in, frames out."""

from __future__ import annotations

import gc
import resource
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import execnet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_support import MS, WAIT_S, ScriptedClient, phase_spec, run_for, wait_for

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.kept import KeepRule
from pytest_agentperf.core.phase import Completion, PhaseEvents, PhaseSpec
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.load.health import Health
from pytest_agentperf.load.loop import Loop
from pytest_agentperf.load.phase_frame import phase_from_wire, shard_to_wire, spec_to_wire
from pytest_agentperf.load.worker import (
    Worker,
    error_text,
    events_from_wire,
    events_to_wire,
    run_worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_agentperf.load.keeping import AnswerKeeper

SPEC = phase_spec(3, phase=2, attempt=1, kind="ramp", trajectories=("a", "b"), failure_wait_ns=MS)


class Line:
    """A `Channel` whose frames are kept, and put in, by the test."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.deliver: Callable[[Any], object] = lambda _: None

    def send(self, item: object) -> None:
        assert isinstance(item, tuple)
        self.sent.append(item)

    def setcallback(self, callback: Callable[[Any], object], endmarker: object = None) -> None:
        assert endmarker is None
        self.deliver = callback

    def kinds(self) -> list[str]:
        return [frame[0] for frame in self.sent if frame[0] != "events"]


class Scripted:
    """A `Replay` whose answers take a few milliseconds; `broken` trajectories cannot be loaded."""

    def __init__(self, broken: Exception | None = None) -> None:
        self.nonces: list[str] = []
        self.urls: list[str | None] = []
        self.closed = 0
        self.made_ready: list[int] = []
        """How many clients there had been each time."""
        self._broken = broken

    def make_ready(self) -> None:
        self.made_ready.append(len(self.nonces))

    def client(
        self, loop: Loop, nonce: str, url: str | None, keeper: AnswerKeeper | None = None
    ) -> ScriptedClient:
        self.nonces.append(nonce)
        self.urls.append(url)
        client = ScriptedClient(loop, lambda _: (3 * MS, {"prompt_tokens": 1, "output_tokens": 1}))

        def close() -> None:
            self.closed += 1

        client.close = close  # type: ignore[method-assign]
        return client

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        if self._broken is not None:
            raise self._broken
        return (0, 0)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A worker changes its whole process: here that is ours."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    gc.enable()
    gc.unfreeze()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Running:
    """A worker in a thread."""

    def __init__(self, replay: Scripted) -> None:
        self.line, self.replay = Line(), replay
        self._thread = threading.Thread(
            target=run_worker, args=(self.line, replay), kwargs={"counts_with": "tokenizers"}, daemon=True
        )
        self._thread.start()
        wait_for(lambda: bool(self.line.sent))
        assert self.line.sent[0] == ("ready", "tokenizers")

    def ended(self) -> bool:
        self._thread.join(WAIT_S)
        return not self._thread.is_alive()


def phase_frame(spec: PhaseSpec = SPEC, url: str | None = None) -> tuple[Any, ...]:
    return ("phase", spec_to_wire(spec), shard_to_wire(spec, [0, 2]), monotonic_ns(), url, 100 * MS)


def events_of(line: Line) -> list[PhaseEvents]:
    return [events_from_wire(frame[1]) for frame in list(line.sent) if frame[0] == "events"]


def test_two_phases_and_the_end() -> None:
    worker = Running(Scripted())
    line = worker.line
    for number, url in enumerate((None, "http://127.0.0.1:9/v1"), start=1):
        line.deliver(phase_frame(url=url))
        wait_for(lambda: any(events.completions for events in events_of(line)))
        line.deliver(("close", monotonic_ns()))
        wait_for(lambda: line.sent[-1][0] == "events" and line.sent[-1][1]["drained"])
        line.deliver(("stop",))
        wait_for(lambda n=number: line.kinds().count("records") == n)  # type: ignore[misc]
        assert worker.replay.closed == number
        events = events_of(line)
        records, health = line.sent[-1][1:]
        columns = RequestColumns.from_wire(records)
        assert set(columns["agent"]) == {0, 2}
        assert set(columns["phase"]) == {2}
        assert sum(len(event.completions) for event in events) <= len(columns) / 2
        assert sorted(agent for event in events for agent, _ in event.activations) == [0, 2]
        assert 0 <= health["lag_p50_s"] <= health["lag_p99_s"] <= health["lag_max_s"]
        line.sent.clear()
        line.sent.extend([("records",)] * number)
    line.deliver(None)
    assert worker.ended()
    assert worker.replay.nonces == ["n", "n"]
    # Before the first phase, and after each: never while one runs.
    assert worker.replay.made_ready == [0, 1, 2]
    assert worker.replay.urls == [None, "http://127.0.0.1:9/v1"]


@pytest.mark.parametrize("running", [False, True])
def test_the_end_of_the_line_ends_the_worker_at_any_time(running: bool) -> None:
    worker = Running(Scripted())
    if running:
        worker.line.deliver(phase_frame())
        wait_for(lambda: bool(worker.replay.nonces))
    worker.line.deliver(None)
    assert worker.ended()
    assert worker.replay.closed == running
    assert worker.line.kinds() == ["ready"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DatasetError("is broken", where="t1", remedy="mend it"), "t1: is broken\n  → mend it"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_what_a_callback_raises_is_told_and_ends_the_worker(error: Exception, text: str) -> None:
    worker = Running(Scripted(error))
    worker.line.deliver(phase_frame())
    assert worker.ended()
    assert worker.line.kinds() == ["ready", "error"]
    told = worker.line.sent[-1][1]
    assert told.strip().endswith(text)
    assert told.startswith("Traceback") != isinstance(error, DatasetError)
    assert worker.replay.closed == 1


def test_a_phase_that_cannot_begin_is_told_and_ends_the_worker() -> None:
    worker = Running(Scripted())
    unknown = spec_to_wire(SPEC).replace(b'"seed"', b'"unknown"')
    worker.line.deliver(("phase", unknown, shard_to_wire(SPEC, [0]), monotonic_ns(), None, 100 * MS))
    assert worker.ended()
    assert worker.line.kinds() == ["ready", "error"]
    assert "unknown" in worker.line.sent[-1][1]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_a_phase_that_was_stopped_tells_no_more(loop: Loop) -> None:
    line, replay = Line(), Scripted()
    worker = Worker(loop, line, replay)
    worker.take(phase_frame())
    run_for(loop, 250 * MS)
    assert events_of(line)
    worker.take(("stop",))
    assert line.sent[-1][0] == "records"
    told = len(line.sent)
    run_for(loop, 250 * MS)
    assert len(line.sent) == told
    worker.close()
    assert replay.closed == 1


def test_a_specification_travels_and_of_what_is_the_agents_own_only_what_a_worker_drives() -> None:
    sent = replace(SPEC, begin_at={0: ("a", 1), 1: ("b", 0), 2: ("a", 0)}, keep=KeepRule(0.1, 5))
    assert phase_from_wire(spec_to_wire(sent), shard_to_wire(sent, [2, 0])) == (
        replace(sent, begin_at={2: ("a", 0), 0: ("a", 1)}),
        [2, 0],
    )


def test_agents_that_begin_at_their_beginnings_travel_alone() -> None:
    assert phase_from_wire(spec_to_wire(SPEC), shard_to_wire(SPEC, [1])) == (SPEC, [1])


moments = st.lists(st.builds(Completion, st.integers(0, 2**31), st.integers(0, 2**63 - 1)))
seconds = st.lists(st.floats(allow_nan=False))


@given(moments, moments, seconds, seconds, st.integers(0, 2**31 - 3), st.booleans())
def test_events_travel_as_plain_values(
    activations: list[Completion],
    completions: list[Completion],
    ttft_s: list[float],
    speed_tok_s: list[float],
    count: int,
    drained: bool,
) -> None:
    events = PhaseEvents(
        activations, completions, ttft_s, speed_tok_s, count, count + 1, count + 2, drained=drained
    )
    wire = events_to_wire(events)
    assert {type(value) for value in wire.values()} <= {bytes, int, bool}
    found = events_from_wire(execnet.loads(execnet.dumps(wire)))
    assert found == events
    assert all(type(item) is Completion for item in (*found.activations, *found.completions))


def test_errors_of_ours_come_with_their_place() -> None:
    assert error_text(DatasetError("x", where="y")) == "y: x"
    assert error_text(ValueError("x")) == "ValueError: x\n"


def test_health_sees_a_loop_that_was_held_up(loop: Loop) -> None:
    health = Health(loop)
    began_ns = monotonic_ns()

    def hold_up() -> None:
        while monotonic_ns() < began_ns + 200 * MS:
            pass

    loop.call_at(began_ns + 50 * MS, hold_up)
    run_for(loop, 250 * MS)
    found = health.stop([])
    assert found["lag_max_s"] >= 0.1
    # One stall among few wake-ups: each tick that it swallowed counts, so that it cannot hide in a percentile.
    assert found["lag_p50_s"] >= 0.01
    assert found["cpu_share"] > 0


def test_health_that_has_ended_ticks_no_more(loop: Loop) -> None:
    health = Health(loop)
    run_for(loop, 50 * MS)
    health.stop([])
    ticks = len(health._lags_s)
    assert ticks
    run_for(loop, 50 * MS)
    assert len(health._lags_s) == ticks


def test_health_that_ends_at_once_divides_by_nothing(loop: Loop) -> None:
    assert Health(loop).stop([])["lag_max_s"] == 0.0
    assert Health(loop).stop([0.25])["send_late_p99_s"] == 0.25
