"""Drives the agents of one worker: carries out what they ask, and keeps the records.

Knows neither sockets nor asyncio: time and requests go through the ports, so that virtual time drives the same code.
"""

from __future__ import annotations

from array import array
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np

from pytest_agentperf.core.agent import Agent
from pytest_agentperf.core.answers_so_far import AnswersSoFar, UnderWay
from pytest_agentperf.core.assignment import assigned_trajectories
from pytest_agentperf.core.latency import output_speed_tok_s, ttft_s
from pytest_agentperf.core.phase import Completion, PhaseEvents, PhaseSpec
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_agentperf.core.ports import Cancellable, Clock, InferenceClient, InFlight


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
        self.clock = clock
        self.client = client
        if (cap_ns := spec.tool_delay_cap_ns) is not None:
            tool_delays_ns = _capped(tool_delays_ns, cap_ns)
        self._seats = [
            _Seat(
                self,
                Agent(
                    id_,
                    assign(spec.seed, id_, spec.trajectories),
                    tool_delays_ns,
                    failure_wait_ns=spec.failure_wait_ns,
                    phase=spec.phase,
                    attempt=spec.attempt,
                    begin_at=spec.begin_at[id_] if spec.begin_at else None,
                ),
            )
            for id_ in agent_ids
        ]
        self.records = ColumnsBuilder()
        self._close_ns: int | None = None
        self.draining = self.stopped = False
        self.activations: list[Completion] = []
        self.completions: list[Completion] = []
        self.joining: dict[_Seat, None] = {}
        """Agents that began in mid-trajectory and wait for their first tokens."""
        self.sent = 0
        """Requests sent so far."""
        self._told = self._looked_at = 0
        self.send_lateness_s = array("d")
        """How much later than the agent wanted each request went out: a late client lowers its own load."""

    def start(self, start_ns: int) -> None:
        """Begin: each agent sends its first request at its place in the staggered start."""
        for seat in self._seats:
            seat.pending = self.clock.call_at(start_ns + self.spec.start_offset_ns(seat.agent.id), seat.begin)

    def close_window(self, close_ns: int) -> None:
        """Note where the window closed; the load goes on until `stop`."""
        self._close_ns = close_ns

    def drain(self) -> None:
        """Send nothing more."""
        self.draining = True
        for seat in self._seats:
            if seat.sent_ns is None:
                seat.call_off()

    @property
    def drained(self) -> bool:
        """Return whether every request sent before the window closed has ended; of a drained driver, every request."""
        if self.draining:
            return not self._in_flight()
        close_ns = self._close_ns
        return close_ns is not None and all(sent_ns >= close_ns for sent_ns in self._in_flight())

    def take_events(self) -> PhaseEvents:
        """Return what happened since the last call."""
        for seat in [*self.joining]:
            seat.join()
        activations, self.activations = self.activations, []
        completions, self.completions = self.completions, []
        answers = self.records.finish(self._told)
        self._told += len(answers)
        speed_tok_s = output_speed_tok_s(answers)
        tokens = np.maximum(answers["prompt_tokens"], 0) + np.maximum(answers["output_tokens"], 0)
        return PhaseEvents(
            activations=activations,
            completions=completions,
            ttft_s=ttft_s(answers).tolist(),
            speed_tok_s=speed_tok_s[~np.isnan(speed_tok_s)].tolist(),
            failures=int(answers.failed.sum()),
            tokens=int(tokens.sum()),
            # Until it is stopped, whatever was sent and has not ended is in flight.
            in_flight=0 if self.stopped else self.sent - len(self.records),
            drained=self.drained,
        )

    def look(self) -> AnswersSoFar:
        """Return the requests that have ended since the last look, and those under way."""
        ended = self.records.finish(self._looked_at)
        self._looked_at += len(ended)
        return AnswersSoFar.of(ended, [seat.under_way() for seat in self._seats if seat.sent_ns is not None])

    def stop(self) -> RequestColumns:
        """Call off everything and return the records of all requests that ended."""
        self.stopped = True
        for seat in self._seats:
            seat.call_off()
        # Seats know their driver: without them it goes, and what it recorded, as soon as nobody asks for it.
        self._seats.clear()
        self.joining.clear()
        return self.records.finish()

    def _in_flight(self) -> list[int]:
        """Return when each request in flight was sent."""
        return [seat.sent_ns for seat in self._seats if seat.sent_ns is not None]


def _capped(tool_delays_ns: Callable[[str], Sequence[int]], cap_ns: int) -> Callable[[str], Sequence[int]]:
    """Return the delays, none longer than `cap_ns`; a trajectory's are made once."""

    @cache
    def capped(trajectory: str) -> Sequence[int]:
        return array("q", [min(delay_ns, cap_ns) for delay_ns in tool_delays_ns(trajectory)])

    return capped


class _Seat:
    """Where one agent works: its request in flight, or the wait that it is in."""

    __slots__ = ("_driver", "_key", "agent", "pending", "sent_ns")

    def __init__(self, driver: Driver, agent: Agent) -> None:
        self.agent = agent
        self.pending: Cancellable | None = None
        self.sent_ns: int | None = None
        """When the request in flight was sent."""
        self._driver = driver
        self._key: RequestKey

    def begin(self) -> None:
        """Send the first request."""
        driver = self._driver
        if driver.spec.begin_at:
            driver.joining[self] = None
        else:
            driver.activations.append(Completion(self.agent.id, driver.clock.now_ns()))
        self._send(self.agent.start())

    def join(self, answer: Answer | None = None) -> None:
        """Count the agent in once its first token came: in a steady state its context would be in the cache."""
        t_ns = self._t_first_ns() if answer is None else answer.t_first_ns or answer.t_end_ns
        if t_ns is not None:
            del self._driver.joining[self]
            self._driver.activations.append(Completion(self.agent.id, t_ns))

    def under_way(self) -> UnderWay:
        """Return the request in flight."""
        assert self.sent_ns is not None
        return UnderWay(self.agent.id, self.agent.ordinal, self.sent_ns, self._t_first_ns())

    def _t_first_ns(self) -> int | None:
        return cast("InFlight", self.pending).t_first_ns

    def call_off(self) -> None:
        """End the request or the wait."""
        if self.pending is not None:
            self.pending.cancel()
        self.pending = self.sent_ns = None

    def _send(self, key: RequestKey, due_ns: int | None = None) -> None:
        driver = self._driver
        self._key = key
        self.sent_ns = now_ns = driver.clock.now_ns()
        driver.sent += 1
        if due_ns is not None:
            driver.send_lateness_s.append((now_ns - due_ns) / NS_PER_S)
        self.pending = driver.client.send(key, self._answered)

    def _woke(self) -> None:
        agent = self.agent
        self._send(agent.woke(), agent.wake_ns)

    def _answered(self, answer: Answer) -> None:
        driver = self._driver
        if driver.stopped:
            return
        self.pending = self.sent_ns = None
        driver.records.add(self._key, answer)
        if self in driver.joining:
            self.join(answer)
        agent = self.agent
        before = agent.completed
        key = agent.answered(answer)
        if agent.completed > before:
            driver.completions.append(Completion(agent.id, answer.t_end_ns))
        if driver.draining:
            return
        if key is None:
            self.pending = driver.clock.call_at(agent.wake_ns, self._woke)
        else:
            self._send(key, answer.t_end_ns)
