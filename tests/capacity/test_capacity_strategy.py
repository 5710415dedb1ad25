"""Which strategy answers for a deployment, and how often it measures again what was INVALID."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from virtual_system import SHAPES, settings_for

from pytest_agentperf.config.system import TierUse
from pytest_agentperf.core.gate import GateSearch, GateTarget
from pytest_agentperf.core.model_search import ModelSearch
from pytest_agentperf.core.search import CapacitySearch, Status
from pytest_agentperf.core.verdict import TierVerdict, Verdict
from pytest_agentperf.strategy import new_strategy

SPEED_BOUND = SHAPES[0]
SLOW = SPEED_BOUND.tier.model_copy(update={"name": "slow", "output_speed_p25_tok_s": 5})
TIER = SPEED_BOUND.tier.name


@pytest.mark.parametrize(
    ("kind", "rules", "gate"),
    [
        (CapacitySearch, {}, False),
        (ModelSearch, {"search": "model"}, False),
        (GateSearch, {}, True),
    ],
)
def test_an_invalid_phase_is_measured_again_as_often_as_asked(
    kind: type, rules: dict[str, Any], gate: bool
) -> None:
    target = GateTarget(baseline_agents=4, tolerance=0.0, source="a test")
    settings = settings_for(SPEED_BOUND, nonce="0", invalid_retries=1, **rules)
    settings = replace(settings, retry_invalid=2, gate={TIER: target} if gate else {})
    state = new_strategy(settings, "all")
    assert type(state) is kind
    phases = 0
    while probe := state.next_probe(TIER):
        phases += 1
        state.record(probe, {TIER: TierVerdict(tier=TIER, verdict=Verdict.INVALID)}, reason="no network")
    # The first one, the ruleset's repeat and two more.
    assert phases == 4
    outcome = state.outcome(TIER)
    assert outcome.status is Status.INVALID
    assert str(outcome.reason).endswith("in 4 attempts: no network")


@pytest.mark.parametrize(
    ("search", "start", "search_start", "begins"),
    [
        ("ramp-bisect", None, None, (1, 1)),
        ("ramp-bisect", None, 6, (6, 6)),
        # At the last known capacity, which is each tier's own; of a tier without one at 1.
        ("model", None, None, (7, 1)),
        ("model", None, 6, (6, 6)),
        ("model", 5, 6, (5, 5)),
        ("model", 99, None, (8, 8)),
    ],
)
def test_a_search_begins_where_it_is_told_to(
    search: str, start: int | None, search_start: int | None, begins: tuple[int, int]
) -> None:
    settings = settings_for(SPEED_BOUND, SPEED_BOUND.tier, SLOW, nonce="0", search=search)
    deployment = settings.system.deployments["all"].model_copy(
        update={
            "search_start": search_start,
            "suite": settings.suite.name,
            "tiers": {TIER: TierUse(expected_agents=7), "slow": TierUse()},
        }
    )
    system = settings.system.model_copy(update={"deployments": {"all": deployment}})
    state = new_strategy(replace(settings, system=system, start=start, max_agents=8), "all")
    found = tuple(probe.n_agents for tier in (TIER, "slow") if (probe := state.next_probe(tier)))
    assert found == begins
