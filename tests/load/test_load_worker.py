"""A worker in this process: frames in, frames out."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any

import pytest
from load_support import MS, WAIT_S, ScriptedClient

from pytest_agentperf.clock import AsyncioClock, monotonic_ns
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.phase import Completion, PhaseEvents, PhaseSpec
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.load.worker import (
    Health,
    _serve,
    error_text,
    events_to_wire,
    raise_descriptor_limit,
    spec_to_wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

SPEC = PhaseSpec(
    phase=2,
    attempt=1,
    kind="ramp",
    n_agents=3,
    stagger_ns=0,
    seed=0,
    nonce="n",
    trajectories=("a", "b"),
    failure_wait_ns=MS,
)


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
        self.closed = 0
        self._broken = broken

    def client(self, nonce: str, decoder: Executor) -> ScriptedClient:
        self.nonces.append(nonce)
        client = ScriptedClient(AsyncioClock(), lambda _: (3 * MS, {"prompt_tokens": 1, "output_tokens": 1}))

        def close() -> None:
            self.closed += 1

        client.close = close  # type: ignore[method-assign]
        return client

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        if self._broken is not None:
            raise self._broken
        return (0, 0)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


def phase_frame(spec: PhaseSpec = SPEC) -> tuple[Any, ...]:
    return ("phase", spec_to_wire(spec), [0, 2], monotonic_ns())


async def started(line: Line, replay: Scripted) -> asyncio.Task[None]:
    task = asyncio.create_task(_serve(line, replay))
    await until(lambda: bool(line.sent))
    assert line.sent[0][0] == "ready"
    return task


async def ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait_for(task, WAIT_S)


@pytest.mark.asyncio
async def test_two_phases_and_the_end() -> None:
    line, replay = Line(), Scripted()
    task = await started(line, replay)
    for number in (1, 2):
        line.deliver(phase_frame())
        await until(lambda: any(frame[0] == "events" and frame[1]["completions"] for frame in line.sent))
        line.deliver(("close", monotonic_ns()))
        await until(lambda: line.sent[-1][0] == "events" and line.sent[-1][1]["drained"])
        line.deliver(("stop",))
        await until(lambda n=number: line.kinds().count("records") == n)  # type: ignore[misc]
        assert replay.closed == number
        events = [frame[1] for frame in line.sent if frame[0] == "events"]
        records, health = line.sent[-1][1:]
        columns = RequestColumns.from_wire(records)
        assert set(columns["agent"]) == {0, 2}
        assert set(columns["phase"]) == {2}
        assert sum(len(event["completions"]) for event in events) <= len(columns) / 2
        assert sorted(agent for event in events for agent, _ in event["activations"]) == [0, 2]
        assert 0 <= health["lag_p50_s"] <= health["lag_p99_s"] <= health["lag_max_s"]
        line.sent.clear()
        line.sent.extend([("records",)] * number)
    line.deliver(None)
    await ended(task)
    assert replay.nonces == ["n", "n"]


@pytest.mark.asyncio
@pytest.mark.parametrize("running", [False, True])
async def test_the_end_of_the_line_ends_the_worker_at_any_time(running: bool) -> None:
    line, replay = Line(), Scripted()
    task = await started(line, replay)
    if running:
        line.deliver(phase_frame())
        await until(lambda: bool(replay.nonces))
    line.deliver(None)
    await ended(task)
    assert replay.closed == running
    assert line.kinds() == ["ready"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DatasetError("is broken", where="t1", remedy="mend it"), "t1: is broken\n  → mend it"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
async def test_what_a_callback_raises_is_told(
    error: Exception, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line()
    task = await started(line, Scripted(error))
    line.deliver(phase_frame())
    await until(lambda: "error" in line.kinds())
    told = next(frame[1] for frame in line.sent if frame[0] == "error")
    assert told.strip().endswith(text)
    assert told.startswith("Traceback") != isinstance(error, DatasetError)
    line.deliver(None)
    await ended(task)
    assert "Exception in callback" in caplog.text


@pytest.mark.asyncio
async def test_a_phase_that_cannot_begin_is_told_and_ends_the_worker() -> None:
    line = Line()
    task = await started(line, Scripted())
    line.deliver(("phase", {**spec_to_wire(SPEC), "unknown": 1}, [0], monotonic_ns()))
    await ended(task)
    assert line.kinds() == ["ready", "error"]
    assert "unknown" in line.sent[-1][1]


def test_frames_are_plain_values() -> None:
    wire = spec_to_wire(SPEC)
    assert wire["trajectories"] == ["a", "b"]
    assert PhaseSpec(**{**wire, "trajectories": tuple(wire["trajectories"])}) == SPEC
    events = PhaseEvents([Completion(1, 5)], [Completion(2, 6)], [0.5], [9.0], 1, 7, 3, drained=True)
    found = events_to_wire(events)
    assert all(type(item) is tuple for item in found["activations"] + found["completions"])
    assert PhaseEvents(**found) == events


def test_errors_of_ours_come_with_their_place() -> None:
    assert error_text(DatasetError("x", where="y")) == "y: x"
    assert error_text(ValueError("x")) == "ValueError: x\n"


@pytest.mark.asyncio
async def test_health_sees_a_loop_that_was_held_up() -> None:
    health = Health()
    await asyncio.sleep(0.05)
    resume_ns = monotonic_ns() + 150 * MS
    while monotonic_ns() < resume_ns:
        pass
    await asyncio.sleep(0.05)
    found = health.stop([])
    assert found["lag_max_s"] >= 0.1
    # One stall among few wake-ups: each tick that it swallowed counts, so that it cannot hide in a percentile.
    assert found["lag_p50_s"] >= 0.01
    assert found["cpu_share"] > 0


@pytest.mark.asyncio
async def test_health_that_ends_at_once_divides_by_nothing() -> None:
    assert Health().stop([])["lag_max_s"] == 0.0
    assert Health().stop([0.25])["send_late_p99_s"] == 0.25


def test_the_limit_of_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        raised = raise_descriptor_limit()
        assert raised >= before[0]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
