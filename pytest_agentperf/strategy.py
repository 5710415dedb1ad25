"""Which strategy answers for a deployment's tiers: a gate where there is one, else the ruleset's search."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_agentperf.core.gate import GateSearch
from pytest_agentperf.core.model_search import ModelSearch
from pytest_agentperf.core.search import CapacitySearch, SearchRules

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.search import Strategy
    from pytest_agentperf.core.slo import SloTier


def tiers_of(settings: RunSettings, deployment: str) -> list[SloTier]:
    """Return the tiers that a deployment serves: they share its probes."""
    return [
        tier
        for name, tier in settings.tiers.items()
        if (found := settings.deployment_for(name)) and found[0] == deployment
    ]


def new_strategy(settings: RunSettings, deployment: str) -> Strategy:
    """Return a deployment's strategy, at its beginning."""
    tiers = [tier.name for tier in tiers_of(settings, deployment)]
    if settings.gate:
        return GateSearch(
            {tier: target for tier, target in settings.gate.items() if tier in tiers},
            max_agents=settings.max_agents,
            invalid_retries=settings.ruleset.invalid_retries + settings.retry_invalid,
        )
    given = settings.start or settings.system.deployments[deployment].search_start
    rules = SearchRules.from_ruleset(
        settings.ruleset, start=min(given or 1, settings.max_agents), max_agents=settings.max_agents
    )
    rules = replace(rules, invalid_retries=rules.invalid_retries + settings.retry_invalid)
    if settings.ruleset.search != "model":
        return CapacitySearch(tiers, rules)
    # What was carried last is where a probe tells most; a ramp would come from the safe side instead.
    known = {tier: settings.expected_agents(tier) for tier in tiers} if given is None else {}
    starts = {tier: min(agents, settings.max_agents) for tier, agents in known.items() if agents}
    return ModelSearch(tiers, rules, starts=starts)
