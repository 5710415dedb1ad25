"""Drives the agents of one worker: carries out what they ask, and keeps the records.

Knows neither sockets nor asyncio: time and requests go through the ports, so that virtual time drives the same code.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_agentperf.core.agent import Agent, Send, Wait
from pytest_agentperf.core.assignment import assigned_trajectories
from pytest_agentperf.core.metrics import answer_speed_tok_s, answer_ttft_s
from pytest_agentperf.core.phase import Completion, PhaseEvents, PhaseSpec
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_agentperf.core.ports import Cancellable, Clock, InferenceClient

NS_PER_S = 1e9


class Driver:
    """One worker's share of a phase."""

    def __init__(
        self,
        spec: PhaseSpec,
        agent_ids: Iterable[int],
        *,
        clock: Clock,
        client: InferenceClient,
        tool_delays_ns: Callable[[str], Sequence[int]],
        assign: Callable[[int, int, Sequence[str]], Iterator[str]] = assigned_trajectories,
    ) -> None:
        """`assign(seed, agent, trajectories)` gives what an agent works through, without end."""
        self.spec = spec
        self._clock = clock
        self._client = client
        if (cap_ns := spec.tool_delay_cap_ns) is not None:
            recorded_ns = tool_delays_ns

            def tool_delays_ns(trajectory: str) -> Sequence[int]:
                return [min(delay_ns, cap_ns) for delay_ns in recorded_ns(trajectory)]

        self._agents = [
            Agent(
                id_,
                assign(spec.seed, id_, spec.trajectories),
                tool_delays_ns,
                failure_wait_ns=spec.failure_wait_ns,
            )
            for id_ in agent_ids
        ]
        self._records = ColumnsBuilder()
        self._timers: dict[int, Cancellable] = {}
        self._requests: dict[int, Cancellable] = {}
        self._sent_ns: dict[int, int] = {}
        self._close_ns: int | None = None
        self._draining = self._stopped = False
        self._fresh = _Fresh()
        self.send_lateness_s: list[float] = []
        """How much later than the agent wanted each request went out: a late client lowers its own load."""

    def start(self, start_ns: int) -> None:
        """Begin: each agent sends its first request at its place in the staggered start."""
        for agent in self._agents:
            when_ns = start_ns + self.spec.start_offset_ns(agent.id)
            self._timers[agent.id] = self._clock.call_at(when_ns, partial(self._begin, agent))

    def close_window(self, close_ns: int) -> None:
        """Note where the window closed; the load goes on until `stop`."""
        self._close_ns = close_ns

    def drain(self) -> None:
        """Send nothing more."""
        self._draining = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    @property
    def drained(self) -> bool:
        """Return whether every request sent before the window closed has ended; of a drained driver, every request."""
        if self._draining:
            return not self._sent_ns
        close_ns = self._close_ns
        return close_ns is not None and all(sent >= close_ns for sent in self._sent_ns.values())

    def take_events(self) -> PhaseEvents:
        """Return what happened since the last call."""
        fresh, self._fresh = self._fresh, _Fresh()
        return PhaseEvents(
            activations=fresh.activations,
            completions=fresh.completions,
            ttft_s=fresh.ttft_s,
            speed_tok_s=fresh.speed_tok_s,
            failures=fresh.failures,
            tokens=fresh.tokens,
            in_flight=len(self._sent_ns),
            drained=self.drained,
        )

    def stop(self) -> RequestColumns:
        """Call off everything and return the records of all requests that ended."""
        self._stopped = True
        for pending in (*self._timers.values(), *self._requests.values()):
            pending.cancel()
        self._timers.clear()
        self._requests.clear()
        self._sent_ns.clear()
        return self._records.finish()

    def _begin(self, agent: Agent) -> None:
        del self._timers[agent.id]
        self._fresh.activations.append(Completion(agent.id, self._clock.now_ns()))
        self._send(agent, agent.start())

    def _send(self, agent: Agent, send: Send) -> None:
        key = RequestKey(
            self.spec.phase, self.spec.attempt, agent.id, send.ordinal, send.trajectory, send.turn
        )
        self._sent_ns[agent.id] = self._clock.now_ns()
        self._requests[agent.id] = self._client.send(key, partial(self._answered, agent, key))

    def _answered(self, agent: Agent, key: RequestKey, answer: Answer) -> None:
        if self._stopped:
            return
        del self._requests[agent.id]
        del self._sent_ns[agent.id]
        self._records.add(key, answer)
        fresh = self._fresh
        fresh.ttft_s.append(answer_ttft_s(answer))
        if (speed := answer_speed_tok_s(answer)) is not None:
            fresh.speed_tok_s.append(speed)
        fresh.failures += answer.failure is not None
        fresh.tokens += (answer.prompt_tokens or 0) + (answer.output_tokens or 0)
        before = agent.completed
        action = agent.answered(answer)
        if agent.completed > before:
            fresh.completions.append(Completion(agent.id, answer.t_end_ns))
        if self._draining:
            return
        if isinstance(action, Wait):
            due_ns = action.until_ns
            self._timers[agent.id] = self._clock.call_at(due_ns, partial(self._woke, agent, due_ns))
        else:
            self._note_lateness(answer.t_end_ns)
            self._send(agent, action)

    def _woke(self, agent: Agent, due_ns: int) -> None:
        del self._timers[agent.id]
        self._note_lateness(due_ns)
        self._send(agent, agent.woke())

    def _note_lateness(self, due_ns: int) -> None:
        self.send_lateness_s.append((self._clock.now_ns() - due_ns) / NS_PER_S)


class _Fresh:
    """Events not yet taken."""

    def __init__(self) -> None:
        self.activations: list[Completion] = []
        self.completions: list[Completion] = []
        self.ttft_s: list[float] = []
        self.speed_tok_s: list[float] = []
        self.failures = 0
        self.tokens = 0
