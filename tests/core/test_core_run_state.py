"""What a search is told of a phase: the verdicts that it asked for, and what else is certain."""

from __future__ import annotations

import pytest

from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.gate import GateSearch, GateTarget
from pytest_agentperf.core.journal import PhaseFinished
from pytest_agentperf.core.leaderboard import PhaseResult
from pytest_agentperf.core.run_state import RunState
from pytest_agentperf.core.search import Probe, Strategy
from pytest_agentperf.core.verdict import TierVerdict, Verdict

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
NO_ENERGY = WindowEnergy(
    energy_j=None, mean_power_w=None, devices=0, coverage=0.0, method=None,
    invalid_code="no_readings", invalid_reason="no power source",
)  # fmt: skip


def gates(_deployment: str) -> Strategy:
    """Two tiers of one deployment that ask about the same number of agents."""
    target = GateTarget(baseline_agents=20, tolerance=0.1, source="baseline.json")
    return GateSearch({"a": target, "b": target}, max_agents=100, invalid_retries=1)


def finished(asking: str, *, n_agents: int = 18, attempt: int = 0, **verdicts: Verdict) -> PhaseFinished:
    result = PhaseResult.model_validate(
        {
            "phase": attempt, "attempt": attempt, "kind": "gate", "deployment": "main", "n_agents": n_agents,
            "start_ns": 0, "window_open_ns": 0, "window_close_ns": 1, "end_ns": 1, "timed_out": False,
            "idle_before": "verified", "records": None, "metrics": None, "energy": NO_ENERGY, "load": {},
            "invalid": (),
            "verdicts": tuple(TierVerdict(tier=tier, verdict=found) for tier, found in verdicts.items()),
        }
    )  # fmt: skip
    return PhaseFinished(tier=asking, tokens=0, elapsed_s=0.0, result=result)


def test_a_phase_that_ended_for_another_tier_is_not_one_of_this_tiers_two() -> None:
    state = RunState(gates)
    for attempt in (0, 1):
        state.apply(finished("a", attempt=attempt, a=INCONCLUSIVE, b=INCONCLUSIVE))
    search = state.search("main")
    assert search.next_probe("a") is None
    assert search.next_probe("b") == Probe(18, "gate", 2)
    state.apply(finished("b", attempt=2, a=PASS, b=INCONCLUSIVE))
    assert search.next_probe("b") == Probe(18, "gate", 3)
    state.apply(finished("b", attempt=3, a=PASS, b=INCONCLUSIVE))
    gate = search.outcome("b").gate
    assert gate is not None
    assert gate.verdict is INCONCLUSIVE


@pytest.mark.parametrize("certain", [PASS, FAIL])
def test_what_is_certain_of_another_tier_counts_for_it(certain: Verdict) -> None:
    state = RunState(gates)
    state.apply(finished("a", a=INCONCLUSIVE, b=certain))
    gate = state.search("main").outcome("b").gate
    assert gate is not None
    assert gate.verdict is certain
    assert state.search("main").next_probe("a") == Probe(18, "gate", 1)


def test_a_phase_that_no_search_asked_for_is_refused() -> None:
    state = RunState(gates)
    with pytest.raises(ConfigError, match="gate at 17 agents, where the search of a wants gate at 18"):
        state.apply(finished("a", n_agents=17, a=PASS, b=PASS))
