"""A gate's question, answered with one phase or two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.gate import GateSearch, GateTarget
from pytest_agentperf.core.search import Probe, Status
from pytest_agentperf.core.verdict import TierVerdict, Verdict

PASS, FAIL, INVALID, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE


def target(agents: int = 100, tolerance: float = 0.05) -> GateTarget:
    return GateTarget(baseline_agents=agents, tolerance=tolerance, source="baseline.json")


def gate(*, max_agents: int = 1_000, **targets: GateTarget) -> GateSearch:
    return GateSearch(targets or {"t": target()}, max_agents=max_agents, invalid_retries=1)


def said(verdict: Verdict, margin: float = 0.0, tier: str = "t") -> dict[str, TierVerdict]:
    return {tier: TierVerdict(tier=tier, verdict=verdict, speed_margin=margin, ttft_margin=0.9)}


def test_the_threshold_is_the_baseline_less_the_tolerance_rounded_up() -> None:
    assert target(100, 0.05).threshold_agents == 95
    assert target(101, 0.05).threshold_agents == 96
    assert target(1, 0.5).threshold_agents == 1
    assert target(100, 0.0).threshold_agents == 100
    assert target(100, 0.05).improved_agents == 105
    assert target(4, 0.05).improved_agents == 5


@pytest.mark.parametrize(("verdict", "agents"), [(PASS, 95), (FAIL, None)])
def test_one_phase_answers(verdict: Verdict, agents: int | None) -> None:
    state = gate()
    assert state.next_probe("t") == Probe(95, "gate", 0)
    assert state.outcome("t").gate is None
    state.record(Probe(95, "gate", 0), said(verdict))
    assert state.next_probe("t") is None
    outcome = state.outcome("t")
    assert (outcome.status, outcome.agents) == (Status.DONE, agents)
    assert outcome.gate is not None
    assert outcome.gate.verdict is verdict
    assert outcome.failed_min == (95 if verdict is FAIL else None)


@pytest.mark.parametrize("second", [PASS, FAIL, INCONCLUSIVE])
def test_what_is_not_certain_is_measured_once_more(second: Verdict) -> None:
    state = gate()
    state.record(Probe(95, "gate", 0), said(INCONCLUSIVE))
    assert state.next_probe("t") == Probe(95, "gate", 1)
    state.record(Probe(95, "gate", 1), said(second))
    assert state.next_probe("t") is None
    outcome = state.outcome("t")
    assert outcome.gate is not None
    assert outcome.gate.verdict is second
    assert (outcome.reason is not None) == (second is INCONCLUSIVE)


def test_invalid_phases_are_repeated_and_never_fail() -> None:
    state = gate()
    state.record(Probe(95, "gate", 0), said(INVALID), reason="no network")
    assert state.next_probe("t") == Probe(95, "gate", 1)
    state.record(Probe(95, "gate", 1), said(INVALID), reason="no network")
    outcome = state.outcome("t")
    assert outcome.status is Status.INVALID
    assert outcome.reason is not None
    assert "no network" in outcome.reason


def test_a_large_margin_asks_for_more_and_offers_it() -> None:
    state = gate()
    state.record(Probe(95, "gate", 0), said(PASS, margin=0.2))
    assert state.next_probe("t") == Probe(105, "gate", 0)
    before = state.outcome("t")
    assert before.gate is not None
    assert before.gate.improved_agents is None
    state.record(Probe(105, "gate", 0), said(PASS))
    after = state.outcome("t")
    assert after.gate is not None
    assert (after.agents, after.gate.improved_agents) == (105, 105)
    assert state.next_probe("t") is None


@pytest.mark.parametrize("verdict", [FAIL, INCONCLUSIVE, INVALID])
def test_whatever_the_second_number_gives_the_gate_is_passed(verdict: Verdict) -> None:
    state = gate()
    state.record(Probe(95, "gate", 0), said(PASS, margin=0.2))
    state.record(Probe(105, "gate", 0), said(verdict))
    assert state.next_probe("t") is None
    outcome = state.outcome("t")
    assert outcome.gate is not None
    assert (outcome.gate.verdict, outcome.gate.improved_agents, outcome.agents) == (PASS, None, 95)


def test_more_than_may_be_tried_is_not_asked_for() -> None:
    state = gate(max_agents=100)
    state.record(Probe(95, "gate", 0), said(PASS, margin=0.2))
    assert state.next_probe("t") is None


def test_tiers_share_their_phases() -> None:
    state = gate(a=target(100), b=target(50))
    state.record(Probe(95, "gate", 0), said(PASS, tier="a") | said(PASS, tier="b"))
    assert state.next_probe("b") is None
    shared = state.outcome("b")
    assert shared.gate is not None
    assert shared.gate.verdict is PASS


def test_what_contradicts_is_told() -> None:
    state = gate(a=target(100), b=target(50))
    state.record(Probe(95, "gate", 0), said(PASS, tier="a") | said(PASS, tier="b"))
    state.record(Probe(48, "gate", 0), said(FAIL, tier="b"))
    assert state.outcome("b").contradictions == ("48 agents failed, 95 passed",)


@given(st.lists(st.sampled_from([PASS, FAIL, INVALID, INCONCLUSIVE]), min_size=8, max_size=8))
def test_a_gate_ends_after_a_few_phases_whatever_happens(verdicts: list[Verdict]) -> None:
    state = gate()
    phases = 0
    for verdict in verdicts:
        probe = state.next_probe("t")
        if probe is None:
            break
        phases += 1
        state.record(probe, said(verdict, margin=0.5), reason="x")
    assert state.next_probe("t") is None
    assert phases <= 5
