"""The engine's closed form against the same model step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_support import FOREVER_NS, MS, drain, engine_config
from step_by_step import Outcome, StepByStep

from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.events import EngineRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.sim.engine.sequence import Sequence
    from pytest_agentperf.sim.events import EngineEvent

Arrivals = list[tuple[EngineRequest, int]]


@st.composite
def conversations(draw: st.DrawFn, requests: int = 14) -> Arrivals:
    """Requests of a few sessions, which grow, sometimes from an earlier place, and may overlap."""
    prompts: dict[int, int] = {}
    found: Arrivals = []
    now_ns = 0
    for request_id in range(draw(st.integers(1, requests))):
        # Never at the end of a step, where the order of what happens at one moment would decide.
        now_ns += draw(st.integers(0, 80)) * MS + 1
        session = draw(st.integers(0, 5))
        shared = min(prompts.get(session, 0), draw(st.integers(0, 150)))
        prompts[session] = prompt = min(140, shared + draw(st.integers(1, 90)))
        shared = min(shared, prompt)
        output = draw(st.integers(1, 60))
        found.append((EngineRequest(request_id, prompt, output, 10**6, session, shared), now_ns))
    return found


# Of all parameters a step takes whole nanoseconds, so that rounding plays no part.
configs = st.fixed_dictionaries(
    {
        "ranks": st.integers(1, 3),
        "kv_blocks": st.integers(20, 60),
        "max_batch": st.integers(1, 6),
        "max_prefill_tokens_per_step": st.integers(1, 120),
        "step_per_context_ktoken_ms": st.sampled_from([0.0, 3.0, 40.0]),
        "step_overhead_ms": st.sampled_from([0.0, 2.0]),
        "step_per_sequence_ms": st.sampled_from([0.0, 1.0, 7.0]),
        "step_overlap": st.booleans(),
        "prefill_half_speed_context_tokens": st.sampled_from([None, 50]),
        "power_activity": st.just({"weights": 0.4, "kv": 0.5, "decode": 0.45, "prefill": 0.5}),
    }
)


def outcomes(followed: Iterable[Sequence], events: Iterable[EngineEvent]) -> dict[int, Outcome]:
    ends = {event.request_id: event.time_ns for event in events}
    found = {}
    for one in followed:
        assert one.cached_tokens is not None
        assert one.first_ns is not None
        found[one.request_id] = Outcome(one.cached_tokens, one.first_ns, ends[one.request_id])
    return found


@given(plan=conversations(), changes=configs)
def test_the_closed_form_is_the_simulation_step_by_step(plan: Arrivals, changes: dict[str, Any]) -> None:
    config = engine_config(**changes)
    engine, reference = Engine(config, every_chunk=False), StepByStep(config)
    followed = []
    for request, at_ns in plan:
        followed.append(engine.submit(request, at_ns))
        reference.submit(request, at_ns)
    reference.run_until(FOREVER_NS)
    assert outcomes(followed, drain(engine)) == reference.outcomes
    stats = engine.stats(FOREVER_NS)
    assert stats.preemptions == reference.preemptions
    idle_j = config.power_idle_w * config.accelerators * FOREVER_NS / 1e9
    assert stats.energy_j - idle_j == pytest.approx(reference.energy_j, rel=1e-6, abs=idle_j * 1e-14)
    assert (stats.running, stats.waiting, stats.kv_usage) == (0, 0, 0)
