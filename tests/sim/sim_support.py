"""Shared by the simulator's tests: small engines and what came out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.events import EngineEvent, EngineRequest, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

MS = 1_000_000
FOREVER_NS = 10**18


def engine_config(**changes: Any) -> EngineConfig:
    """Round numbers: a step is 10 ms + 1 ms per sequence + 1 ms per 10 prompt tokens."""
    defaults: dict[str, Any] = {
        "step_base_ms": 10.0,
        "step_per_sequence_ms": 1.0,
        "step_per_context_ktoken_ms": 0.0,
        "prefill_tokens_per_s": 10_000.0,
        "max_prefill_tokens_per_step": 1_000,
        "kv_blocks": 1_000,
        "kv_block_tokens": 10,
        "max_batch": 8,
        "accelerators": 1,
        "power_idle_w": 100.0,
        "power_peak_w": 300.0,
    }
    return EngineConfig(**(defaults | changes))


def request(
    request_id: int, prompt: int = 10, output: int = 1, *, hashes: Iterable[int] = (), max_tokens: int = 10**6
) -> EngineRequest:
    return EngineRequest(request_id, prompt, output, max_tokens, block_hashes=tuple(hashes))


def hashing_engine(config: EngineConfig, *, start_ns: int = 0, every_chunk: bool = True) -> Engine:
    """Return an engine that finds prefixes by the hashes of their blocks."""
    return Engine(config, start_ns=start_ns, every_chunk=every_chunk, prefixes="blocks")


def drain(engine: Engine) -> list[EngineEvent]:
    """Run the engine event by event until it is idle."""
    events: list[EngineEvent] = []
    while (when_ns := engine.next_event_ns()) is not None:
        events += engine.advance(when_ns)
    return events


def told(events: Iterable[EngineEvent]) -> list[tuple[int, int, EventKind, int]]:
    """Return when what happened to which request, and the amount."""
    return [(event.time_ns, event.request_id, event.kind, event.amount) for event in events]


def token_times_ms(events: Iterable[EngineEvent], request_id: int) -> list[float]:
    return [
        event.time_ns / MS
        for event in events
        if event.request_id == request_id and event.kind is EventKind.TOKENS
    ]


def amounts(events: Iterable[EngineEvent], request_id: int, kind: EventKind) -> list[int]:
    return [event.amount for event in events if event.request_id == request_id and event.kind is kind]
