"""Requests to an engine in the same process: the `InferenceClient` port without sockets, bodies or text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_agentperf.core.records import Answer
from pytest_agentperf.sim.events import EngineRequest, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.core.ports import Cancellable
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.core.token_table import TokenTable, TurnTokens
    from pytest_agentperf.sim.clock import VirtualClock
    from pytest_agentperf.sim.engine import Engine
    from pytest_agentperf.sim.events import EngineStats
    from pytest_agentperf.sim.lengths import Lengths

# Looked up once: a million events ask for them.
_SCHEDULED, _TOKENS, _REJECTED = EventKind.SCHEDULED, EventKind.TOKENS, EventKind.REJECTED


class EngineClient:
    """Asks an engine as the simulated server would over HTTP, by numbers of tokens alone.

    A `Source` of the clock's: the engine's events are passed on at their times.
    """

    def __init__(
        self,
        engine: Engine,
        clock: VirtualClock,
        table: TokenTable,
        lengths: Lengths,
        *,
        max_tokens: int,
        context_tokens: int,
    ) -> None:
        """`max_tokens` is what a request asks for at most; `context_tokens` how much it and its prompt may be."""
        self._engine = engine
        self._clock = clock
        self._table = table
        self._lengths = lengths
        self._max_tokens = max_tokens
        self._context_tokens = context_tokens
        self._sessions: dict[int, _Session] = {}
        self._session_id = 0
        self._exchanges: dict[int, _Exchange] = {}
        self._request_id = 0
        self.next_event_ns = engine.next_event_ns
        clock.attach(self)

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> Cancellable:
        """Submit the request now; `on_answer` runs when its last token is out."""
        turn_number = key.turn
        if turn_number == 0:
            self._session_id += 1
            session = self._sessions[key.agent] = _Session(
                self._session_id, self._table.turns[key.trajectory], self._lengths.of(key)
            )
        else:
            session = self._sessions[key.agent]
        now_ns = self._clock.now_ns()
        turn = session.turns[turn_number]
        prompt = turn.prompt
        planned = session.lengths[turn_number]
        most = self._max_tokens
        if self._lengths.exact and planned < most:
            most = planned
        if prompt + most > self._context_tokens:
            refused = Answer(now_ns, now_ns, failure="http_4xx", status=400)
            return self._clock.call_at(now_ns, partial(on_answer, refused))
        self._request_id = id_ = self._request_id + 1
        cut_off = planned > most or self._lengths.exact
        self._exchanges[id_] = exchange = _Exchange(self, id_, on_answer, now_ns, prompt, cut_off)
        self._engine.submit(EngineRequest(id_, prompt, planned, most, session.id, turn.shared), now_ns)
        return exchange

    def stats(self) -> EngineStats:
        """Return the engine's state now."""
        return self._engine.stats(self._clock.now_ns())

    def close(self) -> None:
        """Call off what is in flight."""
        for id_ in list(self._exchanges):
            self.cancel(id_)
        self._clock.detach(self)

    def cancel(self, request_id: int) -> None:
        """Take a request out of the engine."""
        if self._exchanges.pop(request_id, None) is not None:
            self._engine.cancel(request_id, self._clock.now_ns())

    def fire(self, now_ns: int) -> None:
        """Pass on what the engine has done by now."""
        exchanges = self._exchanges
        for time_ns, request_id, kind, amount in self._engine.advance(now_ns):
            exchange = exchanges.get(request_id)
            if exchange is None:
                continue
            if kind is _TOKENS:
                if exchange.t_first_ns is None:
                    exchange.t_first_ns, exchange.first_tokens = time_ns, amount
            elif kind is _SCHEDULED:
                exchange.cached_tokens = amount
            else:
                del exchanges[request_id]
                exchange.on_answer(exchange.answer(time_ns, kind, amount))


class _Session:
    """One trajectory as one agent works through it: what a prefix cache can know it by."""

    __slots__ = ("id", "lengths", "turns")

    def __init__(self, id_: int, turns: Sequence[TurnTokens], lengths: Sequence[int]) -> None:
        self.id = id_
        self.turns = turns
        self.lengths = lengths


class _Exchange:
    """One request in the engine."""

    __slots__ = (
        "cached_tokens",
        "client",
        "cut_off",
        "first_tokens",
        "id",
        "on_answer",
        "prompt_tokens",
        "t_first_ns",
        "t_sent_ns",
    )

    def __init__(
        self,
        client: EngineClient,
        id_: int,
        on_answer: Callable[[Answer], None],
        now_ns: int,
        prompt_tokens: int,
        cut_off: bool,
    ) -> None:
        self.client = client
        self.id = id_
        self.on_answer = on_answer
        self.t_sent_ns = now_ns
        self.prompt_tokens = prompt_tokens
        self.cut_off = cut_off
        self.t_first_ns: int | None = None
        self.first_tokens: int | None = None
        self.cached_tokens: int | None = None

    def cancel(self) -> None:
        """Call the request off."""
        self.client.cancel(self.id)

    def answer(self, end_ns: int, kind: EventKind, output_tokens: int) -> Answer:
        """Return what came back, as the HTTP client would have recorded it."""
        if kind is _REJECTED:
            return Answer(self.t_sent_ns, end_ns, failure="http_4xx", status=400)
        # By position, in the order of `Answer`: names cost a microsecond.
        return Answer(
            self.t_sent_ns,
            end_ns,
            None,
            None,
            200,
            None,
            0,
            self.t_first_ns,
            end_ns,
            self.prompt_tokens,
            self.cached_tokens,
            output_tokens,
            None,
            self.first_tokens,
            "usage",
            output_tokens,
            "length" if self.cut_off else "stop",
        )
