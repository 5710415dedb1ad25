"""One load worker: takes frames from the controller, drives its share of the agents, sends events and columns back.

Frames are plain values, so that a worker may live in a process of this machine or on another host. After it has
joined (`load.joining`):

    controller → worker   ("phase", spec, shard, start_ns, url, interval_ns) · ("close", close_ns)
                          ("look",) · ("drain",) · ("stop",) · ("beat",) · ("clock", t_ns) · ("chore", name, values)
                          None: end
    worker → controller   ("ready", what counts tokens or None) · ("events", …) every `interval_ns`
                          ("look", answers so far) · ("answers", kept), none or several · ("records", columns, health)
                          ("clock", the same t_ns, its own) · ("chore", what it gave) · ("error", text)

All times are the worker's own. `url` is None, or another endpoint than the configured one for this phase: the null
server's.
"""

from __future__ import annotations

import gc
import traceback
from array import array
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import AgentPerfError
from pytest_agentperf.core.phase import Completion, PhaseEvents
from pytest_agentperf.load.driver import Driver
from pytest_agentperf.load.health import Health
from pytest_agentperf.load.keeping import AnswerKeeper
from pytest_agentperf.load.limits import raise_descriptor_limit, widen_descriptor_table
from pytest_agentperf.load.loop import Loop
from pytest_agentperf.load.phase_frame import phase_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_agentperf.core.kept import KeptAnswer
    from pytest_agentperf.core.ports import InferenceClient

_KEPT_FRAME_BYTES = 4 << 20


class Channel(Protocol):
    """The controller's end of the line, as execnet has it."""

    def send(self, item: object) -> None:
        """Send plain values."""

    def setcallback(self, callback: Callable[[Any], object], endmarker: object = None) -> None:
        """Deliver every item to `callback`, and the end marker once the line is closed."""


class Replay(Protocol):
    """Builds a phase's client, and knows the tool delays of what it replays."""

    def make_ready(self) -> None:
        """Do what must not be done while a phase runs; before the first phase, and after each."""

    def client(
        self, loop: Loop, nonce: str, url: str | None, keeper: AnswerKeeper | None = None
    ) -> InferenceClient:
        """Return a client for one phase, to the configured endpoint or to another; `keeper` keeps some answers."""

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        """Return the delay after each turn."""


def run_worker(
    channel: Channel,
    replay: Replay,
    *,
    heard: Callable[[], None] = lambda: None,
    chores: Mapping[str, Callable[..., object]] | None = None,
    counts_with: str | None = None,
) -> None:
    """Serve the controller until it closes the channel, or until something fails, which it is told.

    `heard` is called with every frame; `chores` are what a host does besides, between phases; `counts_with` is told.
    """
    widen_descriptor_table(raise_descriptor_limit())
    replay.make_ready()
    gc.collect()
    gc.freeze()
    gc.disable()
    loop = Loop()
    worker = Worker(loop, channel, replay, chores)

    def take(frame: tuple[Any, ...] | None) -> None:
        heard()
        loop.call_soon_threadsafe(partial(worker.take, frame))

    channel.setcallback(take, endmarker=None)
    heard()
    channel.send(("ready", counts_with))
    try:
        loop.run()
    except Exception as error:
        # The controller turns this into an INVALID phase that shows the text.
        channel.send(("error", error_text(error)))
    finally:
        worker.close()
        loop.close()


class Worker:
    """Runs phase after phase in its loop."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        replay: Replay,
        chores: Mapping[str, Callable[..., object]] | None = None,
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._replay = replay
        self._chores = chores or {}
        self._phase: _RunningPhase | None = None

    def take(self, frame: tuple[Any, ...] | None) -> None:
        """Do what a frame says."""
        if frame is None:
            self._loop.stop()
            return
        kind, *values = frame
        if kind == "beat":
            return
        if kind == "clock":
            self._channel.send(("clock", *values, monotonic_ns()))
            return
        if kind == "chore":
            name, arguments = values
            self._channel.send(("chore", self._chores[name](**arguments)))
            return
        if kind == "phase":
            self._phase = _RunningPhase(self._loop, self._channel, self._replay, *values)
            return
        assert self._phase is not None
        if kind == "close":
            self._phase.driver.close_window(values[0])
        elif kind == "look":
            self._channel.send(("look", self._phase.driver.look().to_wire()))
        elif kind == "drain":
            self._phase.driver.drain()
        else:
            assert kind == "stop"
            records = self._phase.stop()
            kept = self._phase.keeper.take()
            self._phase = None
            # Before the records go out: with them the controller is free to start the next phase.
            self._replay.make_ready()
            for answers in _kept_frames(kept):
                self._channel.send(("answers", answers))
            self._channel.send(("records", *records))
            gc.collect()

    def close(self) -> None:
        """Close what a phase left open."""
        if self._phase is not None:
            self._phase.close()


class _RunningPhase:
    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        replay: Replay,
        spec_wire: bytes,
        shard_wire: bytes,
        start_ns: int,
        url: str | None,
        interval_ns: int,
    ) -> None:
        spec, agent_ids = phase_from_wire(spec_wire, shard_wire)
        self._loop = loop
        self._channel = channel
        self.keeper = AnswerKeeper(spec.nonce, spec.keep)
        self._client = replay.client(loop, spec.nonce, url, self.keeper if spec.keep.share else None)
        self.driver = Driver(
            spec, agent_ids, clock=loop, client=self._client, tool_delays_ns=replay.tool_delays_ns
        )
        self._health = Health(loop)
        self._interval_ns = interval_ns
        self._next_report = loop.call_at(monotonic_ns() + interval_ns, self._report)
        self.driver.start(start_ns)

    def stop(self) -> tuple[dict[str, Any], dict[str, float]]:
        columns = self.driver.stop()
        self.close()
        return columns.to_wire(), self._health.stop(self.driver.send_lateness_s)

    def close(self) -> None:
        self._next_report.cancel()
        self._client.close()

    def _report(self) -> None:
        self._next_report = self._loop.call_at(monotonic_ns() + self._interval_ns, self._report)
        self._channel.send(("events", events_to_wire(self.driver.take_events())))


def error_text(error: Exception) -> str:
    """Return what the controller shows: the message alone where it is meant for the user."""
    if isinstance(error, AgentPerfError):
        return str(error)
    return "".join(traceback.format_exception(error))


def events_to_wire(events: PhaseEvents) -> dict[str, Any]:
    """Return events as plain values; what is many as bytes, since a list costs by the item."""
    fields = events._asdict()
    for name in ("activations", "completions"):
        fields[name] = array("q", [number for item in fields[name] for number in item]).tobytes()
    for name in ("ttft_s", "speed_tok_s"):
        fields[name] = array("d", fields[name]).tobytes()
    return fields


def events_from_wire(fields: dict[str, Any], *, offset_ns: int = 0) -> PhaseEvents:
    """Rebuild the events from `events_to_wire`; `offset_ns`: what the worker's clock is ahead."""
    fields = dict(fields)
    for name in ("activations", "completions"):
        numbers = iter(array("q", fields[name]))
        fields[name] = [
            Completion(agent, t_ns - offset_ns) for agent, t_ns in zip(numbers, numbers, strict=True)
        ]
    for name in ("ttft_s", "speed_tok_s"):
        fields[name] = list(array("d", fields[name]))
    return PhaseEvents(**fields)


def _kept_frames(kept: Iterable[KeptAnswer]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the answers in frames of a bounded size, as plain values."""
    frame: list[tuple[Any, ...]] = []
    size = 0
    for answer in kept:
        if frame and size + len(answer.body) > _KEPT_FRAME_BYTES:
            yield frame
            frame, size = [], 0
        # Half a surrogate pair, which JSON can carry, would not travel.
        first_text = answer.first_text.encode("utf-8", "replace").decode()
        frame.append(tuple(answer._replace(first_text=first_text)))
        size += len(answer.body)
    if frame:
        yield frame
