from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from sim_support import FOREVER_NS, drain, engine_config, hashing_engine, told

from pytest_agentperf.sim.events import EngineEvent, EngineRequest, EventKind

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine import Engine

BLOCK_TOKENS = 10
POOL = {"accelerators_each": 1, "transfer_latency_ms": 3, "transfer_kv_kbyte_per_token": 70, "kv_blocks": 40}


class Arrival(NamedTuple):
    request: EngineRequest
    at_ns: int
    cancel_at_ns: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Requests of a few families with common prefixes, in order of arrival."""
    found = []
    now_ns = 0
    for request_id in range(draw(st.integers(1, 12))):
        now_ns += draw(st.integers(0, 60)) * 1_000_000
        prompt = draw(st.integers(1, 150))
        family, common = draw(st.integers(0, 2)), draw(st.integers(0, 10))
        hashes = tuple(
            family * 1_000 + index if index < common else request_id * 10_000 + 5_000 + index
            for index in range(prompt // BLOCK_TOKENS)
        )
        cancel = draw(st.none() | st.integers(0, 300))
        found.append(
            Arrival(
                EngineRequest(
                    request_id, prompt, draw(st.integers(1, 60)), 10**6, session=family, block_hashes=hashes
                ),
                now_ns,
                None if cancel is None else now_ns + cancel * 1_000_000,
            )
        )
    return found


configs = st.fixed_dictionaries(
    {
        "kv_blocks": st.integers(16, 60),
        "max_batch": st.integers(1, 6),
        "max_prefill_tokens_per_step": st.integers(1, 200),
        "tokens_per_chunk": st.integers(1, 7),
        "jitter_cv": st.sampled_from([0.0, 0.3]),
        "step_per_context_ktoken_ms": st.sampled_from([0.0, 3.0]),
        "accelerators": st.just(4),
        "replicas": st.integers(1, 2),
        "ranks": st.integers(1, 2),
        "speculation": st.sampled_from([None, {"draft_tokens": 3, "acceptance_rate": 0.7}]),
        "prefill_pool": st.sampled_from([None, POOL, POOL | {"replicas": 2, "ranks": 2}]),
    }
)


def replay(engine: Engine, plan: list[Arrival], *, stride_ns: int | None = None) -> list[EngineEvent]:
    """Submit and cancel on time; with a stride, also look in between."""
    calls: list[tuple[int, int, Arrival]] = []
    for arrival in plan:
        calls.append((arrival.at_ns, 0, arrival))
        if arrival.cancel_at_ns is not None:
            calls.append((arrival.cancel_at_ns, 1, arrival))
    events = []
    looked_ns = 0
    for now_ns, cancels, arrival in sorted(calls, key=lambda call: (call[0], call[1])):
        if stride_ns is not None:
            while looked_ns < now_ns:
                events += engine.advance(looked_ns)
                looked_ns += stride_ns
        if cancels:
            engine.cancel(arrival.request.request_id, now_ns)
        else:
            engine.submit(arrival.request, now_ns)
    return events + (engine.advance(FOREVER_NS) if stride_ns is None else drain(engine))


@given(plan=arrivals(), changes=configs)
def test_every_request_ends_with_exactly_its_tokens(plan: list[Arrival], changes: dict[str, Any]) -> None:
    engine = hashing_engine(engine_config(**changes))
    events = replay(engine, plan)

    times = [event.time_ns for event in events]
    assert times == sorted(times)
    for arrival in plan:
        wanted = arrival.request.output_tokens
        own = [event for event in events if event.request_id == arrival.request.request_id]
        kinds = [event.kind for event in own]
        tokens = [event.amount for event in own if event.kind is EventKind.TOKENS]
        if kinds == [EventKind.REJECTED]:
            needed = -(-(arrival.request.prompt_tokens + wanted - 1) // BLOCK_TOKENS)
            pool = changes["prefill_pool"] or {"kv_blocks": 60}
            assert own[0].amount == needed > min(changes["kv_blocks"], pool["kv_blocks"])
            continue
        drafts = changes["speculation"]["draft_tokens"] if changes["speculation"] else 0
        assert all(0 < amount <= changes["tokens_per_chunk"] + drafts for amount in tokens)
        assert kinds.count(EventKind.SCHEDULED) <= 1
        if EventKind.FINISHED in kinds:
            assert kinds[0] is EventKind.SCHEDULED
            assert kinds[-1] is EventKind.FINISHED
            assert tokens[0] == 1
            assert sum(tokens) == own[-1].amount == wanted
        else:
            assert arrival.cancel_at_ns is not None
            assert sum(tokens) < wanted

    stats = engine.stats(FOREVER_NS)
    assert (stats.running, stats.waiting, stats.kv_usage) == (0, 0, 0)
    assert stats.generation_tokens >= sum(e.amount for e in events if e.kind is EventKind.TOKENS)
    assert stats.prefix_hit_tokens <= stats.prefix_query_tokens


@given(plan=arrivals(), changes=configs, stride_ns=st.integers(1_000_000, 200_000_000))
def test_one_leap_equals_many_looks(plan: list[Arrival], changes: dict[str, Any], stride_ns: int) -> None:
    leap, looks = hashing_engine(engine_config(**changes)), hashing_engine(engine_config(**changes))
    assert told(replay(leap, plan)) == told(replay(looks, plan, stride_ns=stride_ns))
    assert leap.stats(FOREVER_NS) == looks.stats(FOREVER_NS)


@given(plan=arrivals(), changes=configs)
def test_chunking_changes_no_times(plan: list[Arrival], changes: dict[str, Any]) -> None:
    def ends(engine: Engine) -> list[tuple[int, int, EventKind, int]]:
        return told(e for e in replay(engine, plan) if e.kind in (EventKind.FINISHED, EventKind.REJECTED))

    config = engine_config(**changes)
    assert ends(hashing_engine(config)) == ends(hashing_engine(config, every_chunk=False))
