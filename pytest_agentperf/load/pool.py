"""The local load pool: worker processes behind execnet gateways, agents sharded by id."""

from __future__ import annotations

import contextlib
import queue
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import execnet

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.phase import Completion, PhaseEvents
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.load.worker import spec_to_wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.phase import PhaseSpec

# A worker loads and encodes its whole dataset first.
_READY_TIMEOUT_S = 300.0
_RECORDS_TIMEOUT_S = 120.0
# Time for the frames to reach every worker before the first agent starts.
_LEAD_NS = NS_PER_S // 20
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

    def __init__(self, workers: int, config: Mapping[str, Any]) -> None:
        """Start `workers` processes and give each the `config` that `worker.serve` takes."""
        self._frames: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._group = execnet.Group()
        self._workers: list[_Worker] = []
        self._health: list[Mapping[str, float]] = []
        try:
            for number in range(workers):
                self._workers.append(self._start(number, config))
            waiting = set(range(workers))
            while waiting:
                try:
                    number, frame = self._next(_READY_TIMEOUT_S)
                except queue.Empty:
                    raise LoadError(
                        f"{len(waiting)} load workers were not ready within {_READY_TIMEOUT_S:g} s",
                        remedy="check this machine's memory and CPU; use fewer workers or a smaller dataset",
                    ) from None
                if frame[0] == "ready":
                    self._workers[number].info = frame[1]
                    waiting.discard(number)
        except BaseException:
            self.close()
            raise

    def _start(self, number: int, config: Mapping[str, Any]) -> _Worker:
        gateway = self._group.makegateway(f"popen//python={sys.executable}//id=load{number}")
        channel = gateway.remote_exec(_REMOTE)
        channel.send(dict(config))
        channel.setcallback(lambda frame: self._frames.put((number, frame)), endmarker=("gone",))
        return _Worker(number, gateway, channel)

    def start_phase(self, spec: PhaseSpec) -> int:
        """Let every worker start its agents; returns the start of the phase (monotonic ns)."""
        self._health = []
        start_ns = monotonic_ns() + _LEAD_NS
        for worker in self._workers:
            worker.drained, worker.in_flight = False, 0
            agent_ids = list(range(worker.number, spec.n_agents, len(self._workers)))
            self._send(worker, ("phase", spec_to_wire(spec), agent_ids, start_ns))
        return start_ns

    def poll(self, timeout_s: float) -> PhaseEvents:
        """Wait at most `timeout_s` for news and return all there is; raises LoadError if a worker has died."""
        activations: list[Completion] = []
        completions: list[Completion] = []
        ttft_s: list[float] = []
        speed_tok_s: list[float] = []
        failures = tokens = 0
        deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while True:
            left_s = (deadline_ns - monotonic_ns()) / NS_PER_S
            try:
                number, frame = self._next(max(0.0, left_s))
            except queue.Empty:
                break
            if frame[0] != "events":
                continue
            events = frame[1]
            activations += (Completion(*item) for item in events["activations"])
            completions += (Completion(*item) for item in events["completions"])
            ttft_s += events["ttft_s"]
            speed_tok_s += events["speed_tok_s"]
            failures += events["failures"]
            tokens += events["tokens"]
            self._workers[number].in_flight = events["in_flight"]
            self._workers[number].drained = events["drained"]
        return PhaseEvents(
            activations=activations,
            completions=completions,
            ttft_s=ttft_s,
            speed_tok_s=speed_tok_s,
            failures=failures,
            tokens=tokens,
            in_flight=sum(worker.in_flight for worker in self._workers),
            drained=all(worker.drained for worker in self._workers),
        )

    def close_window(self, close_ns: int) -> None:
        """Tell every worker where the window closed."""
        for worker in self._workers:
            worker.drained = False
            self._send(worker, ("close", close_ns))

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
            if frame[0] == "records":
                parts.append(RequestColumns.from_wire(frame[1]))
                self._health.append(frame[2])
        return RequestColumns.concatenate(parts)

    def describe(self) -> dict[str, Any]:
        """Return the workers and, after a phase, their worst loop lag and their CPU."""
        description: dict[str, Any] = {
            "workers": len(self._workers),
            "loop": ", ".join(sorted({str(worker.info.get("loop")) for worker in self._workers})),
        }
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
