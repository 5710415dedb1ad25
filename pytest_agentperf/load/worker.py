"""One load worker: takes frames from the controller, drives its share of the agents, sends events and columns back.

Frames are plain values, so that a worker may live in a process of this machine or on another host:

    controller → worker   ("phase", spec, agent_ids, start_ns) · ("close", close_ns) · ("stop",) · None: end
    worker → controller   ("ready", info) · ("events", …) every 100 ms · ("records", columns, health) · ("error", text)
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import traceback
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentperf.clock import AsyncioClock, monotonic_ns, process_cpu_s
from pytest_agentperf.core.errors import AgentPerfError
from pytest_agentperf.core.metrics import percentile
from pytest_agentperf.core.phase import PhaseEvents, PhaseSpec
from pytest_agentperf.load.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.core.ports import InferenceClient

EVENTS_INTERVAL_S = 0.1
_LAG_INTERVAL_S = 0.02


class Channel(Protocol):
    """The controller's end of the line, as execnet has it."""

    def send(self, item: object) -> None:
        """Send plain values."""

    def setcallback(self, callback: Callable[[Any], object], endmarker: object = None) -> None:
        """Deliver every item to `callback`, and the end marker once the line is closed."""


class Replay(Protocol):
    """Builds a phase's client, and knows the tool delays of what it replays."""

    def client(self, nonce: str, decoder: Executor) -> InferenceClient:
        """Return a client for one phase, inside the running loop."""

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        """Return the delay after each turn."""


def run_worker(channel: Channel, replay: Replay) -> None:
    """Serve the controller until it closes the channel."""
    raise_descriptor_limit()
    # A decoding thread must not hold the loop off its reads for the default 5 ms.
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.disable()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(channel, replay))


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to what the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or hard == resource.RLIM_INFINITY:
        wanted = 1 << 20 if hard == resource.RLIM_INFINITY else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return soft


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(channel: Channel, replay: Replay) -> None:
    loop = asyncio.get_running_loop()
    frames: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()

    def from_controller(frame: tuple[Any, ...] | None) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, frame)

    channel.setcallback(from_controller, endmarker=None)
    channel.send(("ready", {"loop": type(loop).__module__.split(".")[0]}))
    loop.set_exception_handler(partial(_callback_failed, channel))
    with ThreadPoolExecutor(1, "decode") as decoder:
        while (frame := await frames.get()) is not None:
            try:
                await _phase(channel, frames, frame, replay, decoder)
            except Exception as error:
                # The controller turns this into an INVALID phase that shows the text.
                channel.send(("error", error_text(error)))
                return
            gc.collect()


def error_text(error: Exception) -> str:
    """Return what the controller shows: the message alone where it is meant for the user."""
    if isinstance(error, AgentPerfError):
        return str(error)
    return "".join(traceback.format_exception(error))


def _callback_failed(channel: Channel, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what a callback raised: its agent would stand still, and the phase with it, for hours."""
    loop.default_exception_handler(context)
    error = context.get("exception")
    if isinstance(error, Exception):
        channel.send(("error", error_text(error)))


async def _phase(
    channel: Channel,
    frames: asyncio.Queue[tuple[Any, ...] | None],
    frame: tuple[Any, ...],
    replay: Replay,
    decoder: Executor,
) -> None:
    kind, spec_fields, agent_ids, start_ns = frame
    assert kind == "phase"
    spec = PhaseSpec(**{**spec_fields, "trajectories": tuple(spec_fields["trajectories"])})
    client = replay.client(spec.nonce, decoder)
    driver = Driver(
        spec, agent_ids, clock=AsyncioClock(), client=client, tool_delays_ns=replay.tool_delays_ns
    )
    health = Health()
    reporter = asyncio.create_task(_report(channel, driver))
    driver.start(start_ns)
    try:
        while True:
            frame_ = await frames.get()
            if frame_ is None or frame_[0] == "stop":
                break
            driver.close_window(frame_[1])
        columns = driver.stop()
        measured = health.stop(driver.send_lateness_s)
    finally:
        reporter.cancel()
        client.close()
    if frame_ is None:
        # The end, for the caller's loop too.
        frames.put_nowait(None)
        return
    channel.send(("records", columns.to_wire(), measured))


async def _report(channel: Channel, driver: Driver) -> None:
    while True:
        await asyncio.sleep(EVENTS_INTERVAL_S)
        channel.send(("events", events_to_wire(driver.take_events())))


def events_to_wire(events: PhaseEvents) -> dict[str, Any]:
    """Return events as plain values."""
    fields = events._asdict()
    for name in ("activations", "completions"):
        fields[name] = [tuple(item) for item in fields[name]]
    return fields


def spec_to_wire(spec: PhaseSpec) -> dict[str, Any]:
    """Return a phase's specification as plain values."""
    return {**asdict(spec), "trajectories": list(spec.trajectories)}


class Health:
    """How late this worker's loop ran, and what it cost: the evidence that the client did not distort."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lags_s: list[float] = []
        self._cpu_s = process_cpu_s()
        self._start_ns = monotonic_ns()
        self._due_s = self._loop.time() + _LAG_INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._check)

    def _check(self) -> None:
        now_s = self._loop.time()
        # A stall swallows the ticks that fell into it; each counts, or the longer the stall the less it would weigh.
        while self._due_s <= now_s:
            self._lags_s.append(now_s - self._due_s)
            self._due_s += _LAG_INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._check)

    def stop(self, send_lateness_s: Sequence[float]) -> dict[str, float]:
        """Return the loop's lag, how late requests went out, and the share of a core used since the start."""
        self._timer.cancel()
        elapsed_s = max(1e-9, (monotonic_ns() - self._start_ns) / 1e9)
        lags = self._lags_s or [0.0]
        return {
            "lag_p50_s": percentile(lags, 50),
            "lag_p99_s": percentile(lags, 99),
            "lag_max_s": max(lags),
            "send_late_p99_s": percentile(send_lateness_s or [0.0], 99),
            "cpu_share": (process_cpu_s() - self._cpu_s) / elapsed_s,
        }
