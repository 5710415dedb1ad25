"""The OpenAI-compatible server: routes, and the chats in flight between connections and engine."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.clock import AsyncioClock, unix_time_s
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.sim.answer import AnswerModel
from pytest_agentperf.sim.api import ApiError, bad_request, parse_chat
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.events import EngineRequest, EventKind
from pytest_agentperf.sim.faults import FaultPlan, FaultRates
from pytest_agentperf.sim.http import HttpConnection
from pytest_agentperf.sim.metrics import CONTENT_TYPE, Latencies, render_metrics
from pytest_agentperf.sim.prompt import hash_prompt, render
from pytest_agentperf.sim.pump import EnginePump
from pytest_agentperf.sim.stream import DONE, ChatStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.sim.answer import Answer
    from pytest_agentperf.sim.api import ChatRequest
    from pytest_agentperf.sim.events import EngineEvent
    from pytest_agentperf.sim.http import Exchange

DEFAULT_MODEL = "agentperf-sim"
MAX_BODY_BYTES = 16 * 1024 * 1024


class ServerOptions(NamedTuple):
    """What the server adds to the engine."""

    model: str = DEFAULT_MODEL
    api_key: str | None = None
    faults: FaultRates = FaultRates()
    max_body_bytes: int = MAX_BODY_BYTES


class _Chat:
    __slots__ = ("answer", "cut_after", "exchange", "last_ns", "request", "sent_ns", "stream")

    def __init__(
        self,
        exchange: Exchange,
        request: ChatRequest,
        answer: Answer,
        stream: ChatStream,
        *,
        sent_ns: int,
        cut_after: int | None,
    ) -> None:
        self.exchange = exchange
        self.request = request
        self.answer = answer
        self.stream = stream
        self.sent_ns = sent_ns
        self.last_ns: int | None = None
        self.cut_after = cut_after


class SimApp:
    """A simulated deployment behind HTTP; lives in one event loop."""

    def __init__(self, config: EngineConfig, options: ServerOptions) -> None:
        clock = AsyncioClock()
        self._config = config
        self._options = options
        self._answers = AnswerModel(config)
        self._faults = FaultPlan(options.faults)
        self._latencies = Latencies()
        self._pump = EnginePump(
            Engine(config, start_ns=clock.now_ns(), prefixes="blocks"), clock, self._on_event
        )
        self._chats: dict[int, _Chat] = {}
        self._next_id = 0
        self._created_s = unix_time_s()
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None
        self._routes: dict[str, tuple[str, Callable[[Exchange], None]]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/models": ("GET", self._models),
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
        }

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; returns the port, which the system chose if `port` is 0."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpConnection(self._handle, self._connections, self._options.max_body_bytes),
            host,
            port,
            backlog=4_096,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Close the listening socket and every connection."""
        self._pump.close()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()

    def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            route = self._routes.get(request.path)
            if route is None:
                raise ApiError(404, f"There is no {request.path} here.", kind="NotFoundError")
            method, handler = route
            if request.method != method:
                error = ApiError(405, f"{request.path} takes {method}.", kind="MethodNotAllowedError")
                exchange.respond_json(405, error.body(), extra=f"allow: {method}\r\n")
                return
            if request.path.startswith("/v1/"):
                self._authorize(request.headers.get("authorization", ""))
            handler(exchange)
        except ApiError as error:
            exchange.respond_json(error.status, error.body())

    def _authorize(self, authorization: str) -> None:
        key = self._options.api_key
        if key is None:
            return
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), key.encode()):
            raise ApiError(401, "The API key is missing or wrong.", kind="AuthenticationError")

    def _health(self, exchange: Exchange) -> None:
        exchange.respond(200, b"", "text/plain")

    def _models(self, exchange: Exchange) -> None:
        model = {
            "id": self._options.model,
            "object": "model",
            "created": self._created_s,
            "owned_by": "agentperf-sim",
            "max_model_len": self._config.context_tokens,
        }
        exchange.respond_json(200, {"object": "list", "data": [model]})

    def _metrics(self, exchange: Exchange) -> None:
        page = render_metrics(
            self._pump.stats(),
            self._latencies,
            model=self._options.model,
            accelerators=self._config.accelerators,
        )
        exchange.respond(200, page.encode(), CONTENT_TYPE)

    def _chat(self, exchange: Exchange) -> None:
        sent_ns = self._pump.now_ns()
        if self._faults.fails():
            raise ApiError(503, "Failed on purpose.", kind="ServiceUnavailableError")
        request = parse_chat(exchange.request.body)
        if request.model != self._options.model:
            raise ApiError(
                404, f"The model `{request.model}` does not exist.", kind="NotFoundError", param="model"
            )
        prompt = hash_prompt(render(request.messages, request.tools), self._config.kv_block_tokens)
        limits = request.limits(prompt.tokens, self._config.context_tokens)
        answer = self._answers.plan(request.messages, request.tools if request.call_tools else (), limits)
        self._next_id += 1
        request_id = self._next_id
        stream = ChatStream(
            answer,
            completion_id=f"chatcmpl-{request_id:032x}",
            model=self._options.model,
            created_s=unix_time_s(),
            prompt_tokens=prompt.tokens,
            usage_in_chunks=request.usage_in_chunks,
        )
        self._chats[request_id] = _Chat(
            exchange,
            request,
            answer,
            stream,
            sent_ns=sent_ns,
            cut_after=self._faults.cut_after(answer.tokens),
        )
        exchange.on_disconnect = lambda: self._drop(request_id)
        # Parsing took time, during which other requests' steps may have ended: the request arrives only now.
        self._pump.submit(
            EngineRequest(
                request_id,
                prompt.tokens,
                answer.tokens,
                limits.max_tokens,
                # What opens a conversation tells it from others.
                session=prompt.block_hashes[0] if prompt.block_hashes else -request_id,
                block_hashes=prompt.block_hashes,
            ),
            self._pump.now_ns(),
        )

    def _drop(self, request_id: int) -> None:
        if self._chats.pop(request_id, None) is not None:
            self._pump.cancel(request_id)

    def _on_event(self, event: EngineEvent) -> None:
        chat = self._chats.get(event.request_id)
        if chat is None:
            return
        kind = event.kind
        if kind is EventKind.TOKENS:
            self._tokens(chat, event)
        elif kind is EventKind.SCHEDULED:
            chat.stream.cached_tokens = event.amount
        elif kind is EventKind.FINISHED:
            self._finish(chat, event)
        else:
            del self._chats[event.request_id]
            error = bad_request(
                f"The request needs {event.amount} KV-cache blocks, but the engine has only "
                f"{self._config.kv_blocks}."
            )
            chat.exchange.respond_json(error.status, error.body())

    def _tokens(self, chat: _Chat, event: EngineEvent) -> None:
        stream = chat.stream
        opening = b""
        if chat.last_ns is None:
            self._latencies.ttft.observe((event.time_ns - chat.sent_ns) / NS_PER_S)
            if chat.request.stream:
                opening = chat.exchange.stream_head() + stream.role_chunk()
        else:
            self._latencies.itl.observe((event.time_ns - chat.last_ns) / NS_PER_S)
        chat.last_ns = event.time_ns
        if chat.request.stream:
            data = opening + stream.token_chunk(event.amount)
        else:
            data = b""
            stream.sent += event.amount
        if chat.cut_after is not None and stream.sent >= chat.cut_after:
            chat.exchange.write(data)
            self._drop(event.request_id)
            chat.exchange.cut()
        elif stream.sent < chat.answer.tokens and data:
            chat.exchange.write(data)
        elif data:
            self._end_stream(chat, data)

    def _end_stream(self, chat: _Chat, data: bytes) -> None:
        # The last chunk, usage and end go out in one write.
        if chat.request.include_usage:
            data += chat.stream.usage_chunk()
        chat.exchange.end_stream(data + DONE)

    def _finish(self, chat: _Chat, event: EngineEvent) -> None:
        del self._chats[event.request_id]
        self._latencies.e2e.observe((event.time_ns - chat.sent_ns) / NS_PER_S)
        self._latencies.success[chat.answer.finish_reason] += 1
        if not chat.request.stream:
            chat.exchange.respond_json(200, chat.stream.completion())
