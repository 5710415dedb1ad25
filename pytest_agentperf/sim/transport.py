"""Requests to an engine in the same process: the `InferenceClient` port without sockets, bodies or text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from pytest_agentperf.core.records import Answer
from pytest_agentperf.sim.engine.sequence import Sequence
from pytest_agentperf.sim.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pytest_agentperf.core.ports import Cancellable, InFlight
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.core.token_table import TokenTable
    from pytest_agentperf.sim.clock import VirtualClock
    from pytest_agentperf.sim.engine import Engine
    from pytest_agentperf.sim.events import EngineStats
    from pytest_agentperf.sim.lengths import Lengths

# Looked up once: a million requests ask for it.
_REJECTED: Final = EventKind.REJECTED
# A named tuple's own constructor is Python code, and costs twice as much.
_make_answer: Final[Callable[[type[Answer], tuple[object, ...]], Answer]] = tuple.__new__


class EngineClient:
    """Asks an engine as the simulated server would over HTTP, by numbers of tokens alone.

    A `Source` of the clock's: answers are passed on at their times.
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
        self.now_ns = clock.now_ns
        self._table = table
        self._lengths = lengths
        self._exact = lengths.exact
        self._max_tokens = max_tokens
        self._context_tokens = context_tokens
        self._sessions: dict[int, _Session] = {}
        self._session_id = 0
        self._request_id = 0
        self.advance = engine.advance_to_event
        clock.attach(self)

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> InFlight:
        """Submit the request now; `on_answer` runs when its last token is out."""
        phase, attempt, agent, ordinal, _, turn = key
        session = self._sessions.get(agent)
        if session is None or session.work != (phase, attempt, ordinal):
            session = self._session(key)
        now_ns = self._clock.now_ns()
        prompt, planned = session.prompts[turn], session.lengths[turn]
        most = self._max_tokens
        if self._exact and planned < most:
            most = planned
        if prompt + most > self._context_tokens:
            refused = Answer(now_ns, now_ns, failure="http_4xx", status=400)
            return _Refused(self._clock.call_at(now_ns, partial(on_answer, refused)))
        self._request_id = id_ = self._request_id + 1
        exchange = _Exchange(id_, prompt, planned, most, session.id, session.shared[turn])
        exchange.client = self
        exchange.on_answer = on_answer
        exchange.t_sent_ns = now_ns
        exchange.finish_reason = "length" if planned > most or self._exact else "stop"
        self._engine.enter(exchange, now_ns)
        return exchange

    def _session(self, key: RequestKey) -> _Session:
        self._session_id += 1
        session = _Session(
            self._session_id,
            (key.phase, key.attempt, key.ordinal),
            *self._table.prompts(key.trajectory),
            self._lengths.of(key),
        )
        self._sessions[key.agent] = session
        return session

    def stats(self) -> EngineStats:
        """Return the engine's state now."""
        return self._engine.stats(self._clock.now_ns())

    def close(self) -> None:
        """Call off what is in flight."""
        for sequence in self._engine.in_flight():
            assert isinstance(sequence, _Exchange)
            sequence.cancel()
        self._clock.detach(self)

    def cancel(self, request_id: int) -> None:
        """Take a request out of the engine."""
        self._engine.cancel(request_id, self._clock.now_ns())

    def tell(self) -> None:
        """Pass on what the engine has done by now."""
        for time_ns, sequence, kind, _ in self._engine.advance(self._clock.now_ns()):
            assert isinstance(sequence, _Exchange)
            sequence.end(time_ns, kind)


class _Session:
    """One trajectory as one agent works through it: what a prefix cache can know it by."""

    __slots__ = ("id", "lengths", "prompts", "shared", "work")

    def __init__(
        self,
        id_: int,
        work: tuple[int, int, int],
        prompts: Items[int],
        shared: Items[int],
        lengths: Items[int],
    ) -> None:
        self.id = id_
        self.work = work  # phase, attempt and ordinal
        self.prompts = prompts
        self.shared = shared
        self.lengths = lengths


class _Refused:
    """A request that is answered at once."""

    t_first_ns = None

    def __init__(self, answer: Cancellable) -> None:
        self.cancel = answer.cancel


class _Exchange(Sequence):
    """One request in the engine, and who waits for its answer."""

    __slots__ = ("client", "finish_reason", "on_answer", "t_sent_ns")

    client: EngineClient
    on_answer: Callable[[Answer], None] | None
    """None once it is over."""
    t_sent_ns: int
    finish_reason: str

    @property
    def t_first_ns(self) -> int | None:
        """Return when the first token came."""
        first_ns = self.first_ns
        return first_ns if first_ns is not None and first_ns <= self.client.now_ns() else None

    def cancel(self) -> None:
        """Call the request off."""
        if self.on_answer is not None:
            self.on_answer = None
            self.client.cancel(self.request_id)

    def end(self, end_ns: int, kind: EventKind) -> None:
        """Tell what came back, as the HTTP client would have recorded it."""
        on_answer, self.on_answer = self.on_answer, None
        if on_answer is None:
            return
        t_sent_ns = self.t_sent_ns
        if kind is _REJECTED:
            on_answer(Answer(t_sent_ns, end_ns, failure="http_4xx", status=400))
            return
        output_tokens = self.length
        # In the order of `Answer`.
        answer = (
            t_sent_ns,
            end_ns,
            None,
            None,
            200,
            None,
            0,
            self.first_ns,
            end_ns,
            self.prompt,
            self.cached_tokens,
            output_tokens,
            None,
            self.first_tokens,
            "usage",
            output_tokens,
            self.finish_reason,
            None,
            None,
            None,
        )
        on_answer(_make_answer(Answer, answer))
