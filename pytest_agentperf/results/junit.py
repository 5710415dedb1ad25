"""A tier's result as JUnit properties: plain scalars under `agentperf.*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import Entry, TierResult

Scalar = str | int | float


def properties(entry: Entry, tier: TierResult, *, verdict: str) -> dict[str, Scalar]:
    """Return the properties of one test; what is unknown is left out, never written as 0."""
    found: dict[str, Scalar | None] = {
        "verdict": verdict,
        "suite": entry.suite["name"],
        "edition": entry.edition,
        "system": entry.system["name"],
        "tier": tier.tier.name,
        "ruleset": entry.ruleset.id,
        "agents": tier.agents,
        "at_least": str(tier.at_least).lower(),
        "expected_agents": tier.expected_agents,
        "complete": str(tier.complete).lower(),
        "confirmed": str(tier.confirmed).lower(),
        "comparable": str(entry.comparable.value).lower(),
        "simulated": str(entry.simulated).lower(),
        "accelerators": tier.accelerators,
        "binding_constraint": tier.binding_constraint,
        "dataset_digest": entry.dataset.digest,
        "reason": tier.reason,
    }
    if tier.metrics is not None:
        found["ttft_p95_s"] = tier.metrics.ttft_p95_s
        found["output_speed_p25_tok_s"] = tier.metrics.output_speed_p25_tok_s
        found["throughput_tok_s"] = tier.metrics.throughput_tok_s
    if tier.normalisation is not None:
        found["agents_per_accelerator"] = tier.normalisation.agents.per_accelerator
        found["agents_per_mw"] = tier.normalisation.agents.per_mw
        found["power_per_accelerator_w"] = tier.normalisation.power_per_accelerator_w
    return {f"agentperf.{name}": value for name, value in found.items() if value is not None}
