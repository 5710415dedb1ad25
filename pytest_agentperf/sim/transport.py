"""Requests to an engine in the same process: the `InferenceClient` port without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.records import Answer, RequestKey
from pytest_agentperf.sim.answer import AnswerModel
from pytest_agentperf.sim.api import parse_chat
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.events import EngineEvent, EngineRequest, EventKind
from pytest_agentperf.sim.prompt import hash_prompt, render
from pytest_agentperf.sim.pump import EnginePump

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.core.ports import Clock
    from pytest_agentperf.sim.events import EngineStats


class EngineClient:
    """Asks the same engine, with the same prompts and answers, as the simulated server does over HTTP."""

    def __init__(self, config: EngineConfig, clock: Clock, build_body: Callable[[RequestKey], bytes]) -> None:
        self._config = config
        self._clock = clock
        self._build_body = build_body
        self._answers = AnswerModel(config)
        # The server's first and last chunk fix TTFT and speed; those between change nothing.
        engine = Engine(config, start_ns=clock.now_ns(), every_chunk=False, prefixes="blocks")
        self._pump = EnginePump(engine, clock, self._on_event)
        self._exchanges: dict[int, _Exchange] = {}
        self._next_id = 0

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> _Exchange:
        """Submit the request now; `on_answer` runs when its last token is out."""
        body = self._build_body(key)
        request = parse_chat(body)
        prompt = hash_prompt(render(request.messages, request.tools), self._config.kv_block_tokens)
        limits = request.limits(prompt.tokens, self._config.context_tokens)
        plan = self._answers.plan(request.messages, request.tools if request.call_tools else (), limits)
        self._next_id += 1
        now_ns = self._clock.now_ns()
        exchange = _Exchange(self, self._next_id, on_answer, now_ns)
        exchange.prompt_tokens, exchange.output_tokens = prompt.tokens, plan.tokens
        exchange.finish_reason, exchange.body_bytes = plan.finish_reason, len(body)
        self._exchanges[exchange.id] = exchange
        self._pump.submit(
            EngineRequest(
                exchange.id,
                prompt.tokens,
                plan.tokens,
                limits.max_tokens,
                # What opens a conversation tells it from others.
                session=prompt.block_hashes[0] if prompt.block_hashes else -exchange.id,
                block_hashes=prompt.block_hashes,
            ),
            now_ns,
        )
        return exchange

    def stats(self) -> EngineStats:
        """Return the engine's state now."""
        return self._pump.stats()

    def close(self) -> None:
        """Call off what is in flight."""
        for exchange in list(self._exchanges.values()):
            exchange.cancel()
        self._pump.close()

    def cancel(self, request_id: int) -> None:
        """Take a request out of the engine."""
        if self._exchanges.pop(request_id, None) is not None:
            self._pump.cancel(request_id)

    def _on_event(self, event: EngineEvent) -> None:
        exchange = self._exchanges.get(event.request_id)
        if exchange is None:
            return
        if event.kind is EventKind.SCHEDULED:
            exchange.cached_tokens = event.amount
        elif event.kind is EventKind.TOKENS:
            exchange.t_first_ns = exchange.t_first_ns or event.time_ns
        else:
            del self._exchanges[event.request_id]
            exchange.on_answer(exchange.answer(event))


class _Exchange:
    """One request in the engine."""

    prompt_tokens: int
    output_tokens: int
    body_bytes: int
    finish_reason: str

    def __init__(
        self, client: EngineClient, id_: int, on_answer: Callable[[Answer], None], now_ns: int
    ) -> None:
        self.client = client
        self.id = id_
        self.on_answer = on_answer
        self.t_sent_ns = now_ns
        self.t_first_ns: int | None = None
        self.cached_tokens: int | None = None

    def cancel(self) -> None:
        """Call the request off."""
        self.client.cancel(self.id)

    def answer(self, event: EngineEvent) -> Answer:
        """Return what came back, as the HTTP client would have recorded it."""
        if event.kind is EventKind.REJECTED:
            return Answer(
                self.t_sent_ns, event.time_ns, failure="http_4xx", status=400, body_bytes=self.body_bytes
            )
        return Answer(
            t_sent_ns=self.t_sent_ns,
            t_end_ns=event.time_ns,
            status=200,
            t_first_ns=self.t_first_ns,
            t_last_ns=event.time_ns,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            first_chunk_tokens=1,
            first_chunk_source="usage",
            content_chunks=self.output_tokens,
            finish_reason=self.finish_reason,
            body_bytes=self.body_bytes,
        )
