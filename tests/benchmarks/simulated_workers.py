"""Load workers that only speak: many in one process, each with a channel of its own, for `controller_cost.py`.

What a controller hears of them is what real workers say, in number, size and content; they send no requests, and
need nothing but the standard library until they are asked for records.
"""

from __future__ import annotations

import heapq
import json
import queue
from array import array
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NS_PER_S = 1_000_000_000
REMOTE = "import sys; sys.path[:0] = {paths!r}; from simulated_workers import serve; serve(channel)"
_HEALTH = {
    "lag_p50_s": 0.0002,
    "lag_p99_s": 0.001,
    "lag_max_s": 0.004,
    "send_late_p99_s": 0.001,
    "cpu_share": 0.4,
}


class SimulatedLink:
    """One worker's channel; a `Link`."""

    def __init__(self, gateway: Any, master: Any, number: int, facts: dict[str, Any]) -> None:
        self._channel = gateway.newchannel()
        master.send(("worker", number, self._channel, facts))

    def send(self, frame: tuple[Any, ...]) -> None:
        self._channel.send(frame)

    def listen(self, take: Callable[[Sequence[Any]], None]) -> None:
        self._channel.setcallback(take, endmarker=("gone",))

    def why_gone(self) -> str:
        return ""

    def close(self) -> None:
        self._channel.close()


class SimulatedPlace:
    """A `Place` of one host; several may share a process."""

    remote = True

    def __init__(self, processes: Sequence[tuple[Any, Any]], name: str, facts: dict[str, Any]) -> None:
        """`processes`: gateways and their channels, over which the workers are spread."""
        self.name = name
        self._processes, self._facts = processes, facts

    def open(self, numbers: Sequence[int], *, fewer: bool = False) -> list[SimulatedLink]:
        return [
            SimulatedLink(*self._processes[i % len(self._processes)], number, self._facts)
            for i, number in enumerate(numbers)
        ]

    def close(self) -> None:
        """Its process ends with the gateway."""


class _Simulated:
    """One worker: what it would have to report."""

    def __init__(self, channel: Any, facts: dict[str, Any], rates: dict[str, Any]) -> None:
        self.channel = channel
        self._facts, self._rates = facts, rates
        self.running = False
        self.interval_ns = 0
        self._agents: list[int] = []
        self._begun = 0

    def answer(self, frame: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        kind = frame[0]
        if kind == "hello":
            yield "host", self._facts
        elif kind == "wanted":
            yield "kept", "/kept/there"
        elif kind == "config":
            yield ("ready", None)
        elif kind == "clock":
            yield "clock", frame[1], monotonic_ns()
        elif kind == "chore":
            yield "chore", True if frame[1] == "lock" else None
        elif kind == "phase":
            self._start(*frame[1:])
        elif kind == "close":
            self._drained = True
        elif kind == "look":
            yield "look", self._look()
        elif kind == "stop":
            self.running = False
            yield "answers", []
            yield "records", self._records(), _HEALTH

    def _start(
        self, _spec: bytes, shard: bytes, start_ns: int, _url: str | None, interval_ns: int, *_: object
    ) -> None:
        self.received_ns = monotonic_ns()
        self._agents = json.loads(shard)["agents"]
        self._start_ns = self._told_ns = start_ns
        self.interval_ns = interval_ns
        self._begun, self._answers, self._completed, self._drained = 0, 0.0, 0.0, False
        self.running = True

    def events(self, now_ns: int) -> dict[str, Any]:
        """Return what a report holds: `load.worker.events_to_wire`."""
        rates, agents = self._rates, self._agents
        stagger_ns = rates["stagger_ns"]
        begun = self._begun
        while begun < len(agents) and self._start_ns + agents[begun] * stagger_ns <= now_ns:
            begun += 1
        activations = array("q")
        for agent in agents[self._begun : begun]:
            activations.extend((agent, round(self._start_ns + agent * stagger_ns)))
        self._begun = begun
        elapsed_s = max(0, now_ns - self._told_ns) / NS_PER_S
        # As many as the time since the last report brings, the fractions carried over.
        self._answers += begun * elapsed_s / rates["request_s"]
        self._completed += begun * elapsed_s / rates["trajectory_s"]
        answers, completed = int(self._answers), int(self._completed)
        self._answers -= answers
        self._completed -= completed
        completions = array("q")
        for k in range(completed):
            t_ns = self._told_ns + (now_ns - self._told_ns) * (k + 1) // (completed + 1)
            completions.extend((agents[(k * 7) % begun], t_ns))
        self._told_ns = max(now_ns, self._start_ns)
        return {
            "activations": activations.tobytes(),
            "completions": completions.tobytes(),
            "ttft_s": array("d", [0.5 + 0.01 * k for k in range(answers)]).tobytes(),
            "speed_tok_s": array("d", [20.0 + 0.1 * k for k in range(answers)]).tobytes(),
            "failures": 0,
            "tokens": 27_700 * answers,
            "in_flight": begun,
            "drained": self._drained,
        }

    def _look(self) -> dict[str, bytes]:
        """Return `AnswersSoFar.to_wire`: every agent has a request under way."""
        n = len(self._agents)
        return {
            "agent": array("q", self._agents).tobytes(),
            "ordinal": bytes(8 * n),
            "t_sent_ns": array("q", [self._start_ns] * n).tobytes(),
            "ttft_s": array("d", [0.5] * n).tobytes(),
            "speed_tok_s": array("d", [float("nan")] * n).tobytes(),
            "ended": bytes(n),
        }

    def _records(self) -> dict[str, Any]:
        if not (each := int(self._rates["records_each"])):
            return dict(self._rates["no_records"])
        # A hundred processes need no NumPy for nothing.
        import numpy as np

        from pytest_agentperf.core.records import INT_COLUMNS, TEXT_COLUMNS, RequestColumns

        agents = np.repeat(np.array(self._agents, dtype=np.int64), each)
        n = len(agents)
        ints = dict.fromkeys(INT_COLUMNS, np.full(n, 1, dtype=np.int64))
        sent_ns = self._start_ns + np.tile(np.arange(each, dtype=np.int64) * NS_PER_S, len(self._agents))
        ints |= {"agent": agents, "t_sent_ns": sent_ns, "t_first_ns": sent_ns + 1, "t_last_ns": sent_ns + 2}
        texts: dict[str, list[str | None]] = {name: [None] * n for name in TEXT_COLUMNS}
        texts["trajectory"] = [
            f"trajectory-{(agent * 31 + k // 38) % 500:05}" for agent in self._agents for k in range(each)
        ]
        texts["finish_reason"] = ["stop"] * n
        texts["first_chunk_source"] = ["usage"] * n
        # As long as the ids of vLLM and OpenAI are.
        texts["response_id"] = [
            f"chatcmpl-{agent:016x}{k:016x}" for agent in self._agents for k in range(each)
        ]
        return RequestColumns(ints, texts).to_wire()


def serve(master: Any) -> None:
    """Be as many workers as the controller asks for, until it closes the channel."""
    rates = master.receive(60.0)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    master.setcallback(inbox.put, endmarker=("end",))
    due: list[tuple[int, int]] = []
    workers: dict[int, _Simulated] = {}
    while True:
        wait_s = (due[0][0] - monotonic_ns()) / NS_PER_S if due else 60.0
        try:
            kind, *values = inbox.get(timeout=wait_s) if wait_s > 0 else inbox.get_nowait()
        except queue.Empty:
            kind = ""
        if kind == "end":
            return
        if kind == "rates":
            rates.update(values[0])
        elif kind == "worker":
            number, channel, facts = values
            workers[number] = _Simulated(channel, facts, rates)
            channel.setcallback(
                lambda frame, number=number: inbox.put(("frame", number, frame)), endmarker=None
            )
        elif kind == "frame" and values[1] is not None:
            number, frame = values
            worker = workers[number]
            for item in worker.answer(frame):
                worker.channel.send(item)
            if frame[0] == "phase":
                # Each began to count its intervals as it was told to.
                heapq.heappush(due, (worker.received_ns + worker.interval_ns, number))
        while due and due[0][0] <= (now_ns := monotonic_ns()):
            due_ns, number = heapq.heappop(due)
            worker = workers[number]
            if worker.running:
                worker.channel.send(("events", worker.events(now_ns)))
                heapq.heappush(due, (max(due_ns + worker.interval_ns, now_ns), number))
