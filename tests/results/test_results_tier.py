"""A tier's result, made of what its search found and of the phase that shows it."""

from __future__ import annotations

from typing import Any

from results_support import columns, phase
from virtual_system import SHAPES, settings_for

from pytest_agentperf.core.search import Status, TierOutcome
from pytest_agentperf.core.verdict import TierVerdict, Verdict
from pytest_agentperf.results.tier_result import tier_result

PASS, FAIL = Verdict.PASS, Verdict.FAIL


def outcome(**changes: Any) -> TierOutcome:
    values: dict[str, Any] = {
        "tier": "tier1", "status": Status.DONE, "agents": 11, "at_least": False, "confirmed": False,
        "passed_max": 10, "failed_min": 12, "contradictions": (), "reason": None,
    }  # fmt: skip
    return TierOutcome(**(values | changes))


def probed(n_agents: int, verdict: Verdict) -> Any:
    verdicts = (TierVerdict(tier="tier1", verdict=verdict),)
    return phase(columns(), n_agents=n_agents, deployment="all", kind="model", verdicts=verdicts)


def result(found: TierOutcome, *phases: Any, search: str = "model") -> Any:
    settings = settings_for(SHAPES[0], search=search)
    return tier_result(settings, "tier1", "all", found, phases, broken_off="the time is up")


def test_a_capacity_at_which_no_phase_ran_says_so() -> None:
    modelled = result(outcome(), probed(10, PASS), probed(12, FAIL))
    assert (modelled.agents, modelled.verdict, modelled.complete) == (11, PASS, True)
    assert "no phase ran at it" in modelled.reason
    assert (modelled.published_phase, modelled.metrics, modelled.normalisation) == (None, None, None)


def test_a_capacity_at_which_a_phase_passed_needs_no_reason() -> None:
    measured = result(outcome(agents=10), probed(10, PASS), probed(12, FAIL))
    assert (measured.reason, measured.published_phase) == (None, 1)
    assert measured.metrics is not None
    assert result(outcome(agents=0, passed_max=0, failed_min=1), probed(1, FAIL)).reason is None


def test_another_reason_goes_before() -> None:
    assert result(outcome(reason="at its limit"), probed(10, PASS)).reason == "at its limit"
    searching = outcome(status=Status.SEARCHING, agents=None)
    assert result(searching, probed(10, PASS)).reason == "the time is up"
