"""Verdicts at an error rate of tiers that share their phases: each phase ended for the sake of one of them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_agentperf.recheck.findings import Findings
from pytest_agentperf.recheck.judging import check_search, check_verdicts

TARGET = {"baseline_agents": 20, "tolerance": 0.1, "source": "baseline.json"}
PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"


def phases(kind: str, *verdicts: tuple[str, str, str], n_agents: int = 18) -> dict[str, Any]:
    """Return an entry's phases and which tier asked for each: (asking tier, verdict of a, verdict of b)."""
    return {
        "phases": [
            {
                "phase": i, "attempt": i, "kind": kind, "deployment": "main", "n_agents": n_agents, "invalid": [],
                "verdicts": [
                    {"tier": tier, "verdict": verdict, "speed_margin": 0.0, "ttft_margin": 0.0}
                    for tier, verdict in (("a", a), ("b", b))
                ],
            }
            for i, (_, a, b) in enumerate(verdicts)
        ],
        "asked": {(i, i): asking for i, (asking, _, _) in enumerate(verdicts)},
    }  # fmt: skip


def problems(found: dict[str, Any], *tiers: dict[str, Any], gated: bool) -> list[str]:
    entry = {
        "search": {"start": None, "max_agents": 100},
        "ruleset": {"invalid_retries": 1, "search": "model", "error_rate": 0.01},
        "system": {"deployments": {"main": {"search_start": None}}},
        "phases": found["phases"],
        "tiers": tiers,
    }
    told = Findings()
    gates = dict.fromkeys("ab", TARGET) if gated else {}
    check_search(entry, found["asked"], gates, told)
    return [str(one) for one in told.all if one.status == "fails"]


def gate(tier: str, verdict: str) -> dict[str, Any]:
    passed = 18 if verdict == PASS else 0
    return {
        "tier": {"name": tier}, "deployment": "main", "agents": passed or None, "at_least": bool(passed),
        "confirmed": False, "passed_max": passed, "failed_min": None, "complete": True, "verdict": verdict,
        "accuracy": {"status": "none"},
        "gate": {"threshold_agents": 18, "verdict": verdict, "improved_agents": None},
    }  # fmt: skip


def test_a_phase_that_ended_for_another_tier_is_not_one_of_a_gates_two() -> None:
    found = phases(
        "gate", ("a", INCONCLUSIVE, INCONCLUSIVE), ("a", INCONCLUSIVE, INCONCLUSIVE), ("b", PASS, PASS)
    )
    assert problems(found, gate("b", PASS), gated=True) == []
    forged = problems(found, gate("b", INCONCLUSIVE), gated=True)
    assert any("verdict" in one for one in forged)


def modelled(tier: str, **changes: Any) -> dict[str, Any]:
    values = {
        "tier": {"name": tier}, "deployment": "main", "agents": 18, "at_least": True, "passed_max": 18,
        "failed_min": None, "complete": True, "interval": None,
    }  # fmt: skip
    return values | changes


def test_a_model_knows_nothing_of_what_was_not_asked_for_and_not_certain() -> None:
    found = phases("model", ("a", PASS, INCONCLUSIVE), ("b", PASS, PASS))
    assert problems(found, modelled("b"), gated=False) == []
    assert problems(found, modelled("b", at_least=False), gated=False)
    own = phases("model", ("b", PASS, INCONCLUSIVE), ("b", PASS, PASS))
    assert problems(own, modelled("b"), gated=False)


@pytest.mark.parametrize("certain", [False, True])
def test_what_was_certain_before_the_time_was_up_stays_so(certain: bool) -> None:
    verdict = {
        "tier": "a", "verdict": PASS, "violated": [], "speed_margin": 0.5, "ttft_margin": 0.5,
    }  # fmt: skip
    phase = {"timed_out": True, "invalid": [], "verdicts": [verdict]}
    entry = {
        "ruleset": {"error_rate": 0.01 if certain else None},
        "edition": "1",
        "suite": {"editions": {"1": {"tiers": {"a": {"output_speed_p25_tok_s": 20.0, "ttft_p95_s": 2.0}}}}},
    }
    told = Findings()
    check_verdicts(phase, {"output_speed_p25_tok_s": 30.0, "ttft_p95_s": 1.0}, entry, False, "here", told)
    assert any(one.status == "fails" for one in told.all) != certain
