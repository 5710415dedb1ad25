"""Which strategy answers for a deployment, and how often it measures again what was INVALID."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from virtual_system import SHAPES, settings_for

from pytest_agentperf.core.gate import GateSearch, GateTarget
from pytest_agentperf.core.model_search import ModelSearch
from pytest_agentperf.core.search import CapacitySearch, Status
from pytest_agentperf.core.verdict import TierVerdict, Verdict
from pytest_agentperf.strategy import new_strategy

SPEED_BOUND = SHAPES[0]
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
