"""The local load pool: as many worker processes as the agents need, behind execnet gateways; agents sharded by id."""

from __future__ import annotations

import contextlib
import gc
import math
import queue
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import execnet

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
from pytest_agentperf.core.answers_so_far import AnswersSoFar
from pytest_agentperf.core.errors import LoadError, LoadLimitError
from pytest_agentperf.core.kept import KeptAnswer
from pytest_agentperf.core.phase import PhaseEvents
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.load.limits import agents_within, cores, local_ports
from pytest_agentperf.load.worker import events_from_wire, spec_to_wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.phase import PhaseSpec

# A worker imports the package, and may load a tokenizer.
_READY_TIMEOUT_S = 120.0
_RECORDS_TIMEOUT_S = 120.0
_LOOK_TIMEOUT_S = 30.0
# What a worker is planned to carry: under half of what a core of 2.5 GHz was measured to hold (docs/load-engine.md).
_CHUNKS_PER_WORKER_S = 30_000
# Time for the frames to reach every worker before the first agent starts.
_LEAD_NS = NS_PER_S // 20
# And for a worker to make its agents, each with its order of the trajectories.
_LEAD_PER_AGENT_NS = 50_000
_LEAD_PER_CHOICE_NS = 4_000
# The remote end imports the package by itself; only this line travels.
_REMOTE = "from pytest_agentperf.worker import serve; serve(channel)"


@dataclass(slots=True)
class _Worker:
    number: int
    gateway: Any
    channel: Any
    info: Mapping[str, Any] = field(default_factory=dict)
    in_flight: int = 0
    drained: bool = False


class LocalPool:
    """A `LoadPool` of processes on this machine."""

    def __init__(
        self, config: Mapping[str, Any], *, workers: int | None = None, chunks_per_agent_s: float = 0.0
    ) -> None:
        """Start the first workers, and give each the `config` that `worker.serve` takes.

        `workers`: exactly so many; None: as many as the agents of a phase need at `chunks_per_agent_s` each, and as
        the machine's cores leave beside one for everything else. A pool grows, but never shrinks.
        """
        self._config = dict(config)
        self._fixed = workers
        self._chunks_per_agent_s = chunks_per_agent_s
        self._frames: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._group = execnet.Group()
        self._workers: list[_Worker] = []
        self._overtaken: list[tuple[int, Any]] = []
        """Frames that came while others were waited for."""
        self._health: list[Mapping[str, float]] = []
        self._kept: list[KeptAnswer] = []
        try:
            # What is wrong with the installation is wrong in every worker: see it now.
            self._grow(workers or 1)
        except BaseException:
            self.close()
            raise

    def workers_for(self, n_agents: int) -> int:
        """Return how many processes carry so many agents."""
        if self._fixed is not None:
            return self._fixed
        needed = math.ceil(n_agents * self._chunks_per_agent_s / _CHUNKS_PER_WORKER_S)
        return max(1, min(needed, cores() - 1), len(self._workers))

    def _grow(self, workers: int) -> None:
        waiting = set(range(len(self._workers), workers))
        for number in sorted(waiting):
            self._workers.append(self._start(number, self._config))
        while waiting:
            try:
                number, frame = self._next(_READY_TIMEOUT_S)
            except queue.Empty:
                raise LoadError(
                    f"{len(waiting)} load workers were not ready within {_READY_TIMEOUT_S:g} s",
                    remedy="check this machine's memory and CPU; use fewer workers",
                ) from None
            if frame[0] == "ready":
                self._workers[number].info = frame[1]
                waiting.discard(number)

    def _check_limits(self, n_agents: int) -> None:
        descriptors, ports = min(worker.info["descriptors"] for worker in self._workers), local_ports()
        reach = agents_within(descriptors, len(self._workers), ports)
        if n_agents > reach:
            raise LoadLimitError(
                f"this machine's limits carry {reach} agents, not {n_agents}: {descriptors} open files in each of "
                f"{len(self._workers)} load workers, {ports} local ports",
                remedy="raise the hard limit of open files (ulimit -Hn) and net.ipv4.ip_local_port_range",
            )

    def _start(self, number: int, config: Mapping[str, Any]) -> _Worker:
        gateway = self._group.makegateway(f"popen//python={sys.executable}//id=load{number}")
        channel = gateway.remote_exec(_REMOTE)
        channel.send(dict(config))
        channel.setcallback(lambda frame: self._frames.put((number, frame)), endmarker=("gone",))
        return _Worker(number, gateway, channel)

    def start_phase(self, spec: PhaseSpec, *, urls: Sequence[str] = ()) -> int:
        """Let every worker start its agents; returns the start of the phase (monotonic ns).

        `urls`: endpoints to use in this phase instead of the configured one, spread over the workers. Raises
        LoadError if a worker does not start, LoadLimitError if this machine's limits do not carry so many agents.
        """
        self._health, self._kept, self._overtaken = [], [], []
        # A full collection takes tens of milliseconds, perhaps on a worker's core.
        gc.collect()
        gc.freeze()
        self._grow(self.workers_for(spec.n_agents))
        self._check_limits(spec.n_agents)
        lead_per_agent_ns = _LEAD_PER_AGENT_NS + len(spec.trajectories) * _LEAD_PER_CHOICE_NS
        start_ns = monotonic_ns() + _LEAD_NS + spec.n_agents // len(self._workers) * lead_per_agent_ns
        for worker in self._workers:
            worker.drained, worker.in_flight = False, 0
            agent_ids = list(range(worker.number, spec.n_agents, len(self._workers)))
            url = urls[worker.number % len(urls)] if urls else None
            self._send(worker, ("phase", spec_to_wire(spec), agent_ids, start_ns, url))
        return start_ns

    def poll(self, timeout_s: float) -> PhaseEvents:
        """Wait at most `timeout_s` for news and return all there is; raises LoadError if a worker has died."""
        parts: list[PhaseEvents] = []
        deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while True:
            left_s = (deadline_ns - monotonic_ns()) / NS_PER_S
            try:
                number, frame = self._overtaken.pop(0) if self._overtaken else self._next(max(0.0, left_s))
            except queue.Empty:
                break
            if frame[0] != "events":
                continue
            events = events_from_wire(frame[1])
            parts.append(events)
            self._workers[number].in_flight = events.in_flight
            self._workers[number].drained = events.drained
        return PhaseEvents(
            activations=[item for part in parts for item in part.activations],
            completions=[item for part in parts for item in part.completions],
            ttft_s=[value for part in parts for value in part.ttft_s],
            speed_tok_s=[value for part in parts for value in part.speed_tok_s],
            failures=sum(part.failures for part in parts),
            tokens=sum(part.tokens for part in parts),
            in_flight=sum(worker.in_flight for worker in self._workers),
            drained=all(worker.drained for worker in self._workers),
        )

    def look(self) -> AnswersSoFar:
        """Ask every worker for the requests that have ended since the last look, and those under way."""
        for worker in self._workers:
            self._send(worker, ("look",))
        parts: list[AnswersSoFar] = []
        while len(parts) < len(self._workers):
            try:
                number, frame = self._next(_LOOK_TIMEOUT_S)
            except queue.Empty:
                raise LoadError(
                    f"{len(self._workers) - len(parts)} load workers did not answer within {_LOOK_TIMEOUT_S:g} s",
                    remedy="check this machine's memory and CPU; use more workers",
                ) from None
            if frame[0] == "look":
                parts.append(AnswersSoFar.from_wire(frame[1]))
            else:
                self._overtaken.append((number, frame))
        return AnswersSoFar.concatenate(parts)

    def close_window(self, close_ns: int) -> None:
        """Tell every worker where the window closed."""
        for worker in self._workers:
            worker.drained = False
            self._send(worker, ("close", close_ns))

    def drain(self) -> None:
        """Tell every worker to send nothing more."""
        for worker in self._workers:
            worker.drained = False
            self._send(worker, ("drain",))

    def stop_phase(self) -> RequestColumns:
        """Stop the agents and gather the records of all workers."""
        for worker in self._workers:
            self._send(worker, ("stop",))
        parts: list[RequestColumns] = []
        while len(parts) < len(self._workers):
            try:
                _, frame = self._next(_RECORDS_TIMEOUT_S)
            except queue.Empty:
                raise LoadError(
                    f"{len(self._workers) - len(parts)} load workers gave no records within {_RECORDS_TIMEOUT_S:g} s",
                    remedy="check this machine's memory and CPU; use more workers",
                ) from None
            if frame[0] == "kept":
                self._kept += [KeptAnswer(*answer) for answer in frame[1]]
            if frame[0] == "records":
                parts.append(RequestColumns.from_wire(frame[1]))
                self._health.append(frame[2])
        return RequestColumns.concatenate(parts)

    def kept_answers(self) -> list[KeptAnswer]:
        """Return the answers that the workers kept in the phase that was stopped last."""
        kept, self._kept = self._kept, []
        return kept

    def describe(self) -> dict[str, Any]:
        """Return the workers and, after a phase, their worst loop lag and their CPU."""
        description: dict[str, Any] = {"workers": len(self._workers)}
        if self._health:
            description["lag_p99_s"] = max(health["lag_p99_s"] for health in self._health)
            description["send_late_p99_s"] = max(health["send_late_p99_s"] for health in self._health)
            description["lag_max_s"] = max(health["lag_max_s"] for health in self._health)
            description["cpu_share_max"] = max(health["cpu_share"] for health in self._health)
        return description

    def close(self) -> None:
        """End the workers; they close their connections when the channel closes."""
        for worker in self._workers:
            # A worker that has died has nothing left to close.
            with contextlib.suppress(OSError):
                worker.channel.close()
        self._group.terminate(timeout=5.0)

    def _send(self, worker: _Worker, frame: tuple[Any, ...]) -> None:
        try:
            worker.channel.send(frame)
        except OSError:
            raise self._lost(worker) from None

    def _lost(self, worker: _Worker) -> LoadError:
        try:
            worker.channel.waitclose(1.0)
        except (worker.channel.RemoteError, worker.channel.TimeoutError, OSError, EOFError) as error:
            cause = f":\n{error}"
        else:
            cause = ""
        return LoadError(
            f"load worker {worker.number} is gone{cause}",
            remedy="check this machine's memory; look at its output above",
        )

    def _next(self, timeout_s: float) -> tuple[int, Sequence[Any]]:
        number, frame = self._frames.get(timeout=timeout_s) if timeout_s else self._frames.get_nowait()
        if frame[0] == "error":
            raise LoadError(
                f"load worker {number} failed:\n{frame[1]}",
                remedy="the last line names the cause; report it if unclear",
            )
        if frame[0] == "gone":
            raise self._lost(self._workers[number])
        return number, frame
