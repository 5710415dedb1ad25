"""A tier's result as JUnit properties: plain scalars under `agentperf.*`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import Entry, TierResult

Scalar = str | int | float
_REASON_MAX_CHARS = 500


def identity(settings: RunSettings, tier: str) -> dict[str, Scalar]:
    """Return the properties that say what was asked; also of a test that is skipped or errors."""
    return {
        "agentperf.suite": settings.suite.name,
        "agentperf.edition": settings.edition,
        "agentperf.system": settings.system.name,
        "agentperf.tier": tier,
        "agentperf.ruleset": settings.ruleset.id,
        "agentperf.rehearsal": str(settings.rehearsal).lower(),
    }


def problem_properties(reason: str) -> dict[str, Scalar]:
    """Return the properties of a tier for which an error left no result; the reason on one line."""
    line = " ".join(reason.split())
    if len(line) > _REASON_MAX_CHARS:
        line = line[: _REASON_MAX_CHARS - 1] + "…"
    return {"agentperf.verdict": Verdict.INVALID.value, "agentperf.reason": line}


def suite_properties(entry: Entry) -> list[tuple[str, str]]:
    """Return what is said once for a whole file: who measured what with which versions, under which rules."""
    system = entry.system["name"]
    found = {
        "version": entry.software.get("pytest-agentperf"),
        "suite": f"{entry.suite['name']} {entry.edition}",
        "ruleset": entry.ruleset.id,
        "dataset": f"{entry.dataset.name} sha256:{entry.dataset.digest}",
        "system": system,
        f"{system}.submitter": entry.submitter,
        f"{system}.accelerator": entry.system["accelerator"]["name"],
        f"{system}.measured_utc": entry.measured_utc,
        f"{system}.simulated": str(entry.simulated).lower(),
        f"{system}.digest": f"sha256:{entry.digests.system}",
    }
    return [(f"agentperf.{name}", value) for name, value in found.items() if value is not None]


def properties(entry: Entry, tier: TierResult, *, verdict: str) -> dict[str, Scalar]:
    """Return the properties of a tier's result; what is unknown is left out, never written as 0."""
    found: dict[str, Scalar | None] = {
        "verdict": verdict,
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
        "token_verification": entry.token_verification.status,
        "accuracy": tier.accuracy.status,
    }
    if tier.interval is not None:
        found["agents_low"], found["agents_high"] = tier.interval.low, tier.interval.high
        found["agents_interval"] = tier.interval.method
    if tier.gate is not None:
        found["gate_baseline_agents"] = tier.gate.target.baseline_agents
        found["gate_tolerance"] = tier.gate.target.tolerance
        found["gate_threshold_agents"] = tier.gate.threshold_agents
        found["gate_improved_agents"] = tier.gate.improved_agents
    if tier.accuracy.alone is not None:
        found["accuracy_score"] = tier.accuracy.alone.score
        found["accuracy_score_alone"] = tier.accuracy.alone.against
        found["accuracy_p_value"] = tier.accuracy.alone.p_value
        found["accuracy_detectable_drop"] = tier.accuracy.alone.detectable_drop
        found["accuracy_output_tokens_drift"] = tier.accuracy.alone.output_tokens_drift
    if tier.accuracy.reference is not None:
        found["accuracy_reference"] = tier.accuracy.reference.against
    if tier.metrics is not None:
        found["ttft_p95_s"] = tier.metrics.ttft_p95_s
        found["output_speed_p25_tok_s"] = tier.metrics.output_speed_p25_tok_s
        found["throughput_tok_s"] = tier.metrics.throughput_tok_s
    phase = next((phase for phase in entry.phases if phase.phase == tier.published_phase), None)
    if phase is not None and phase.server is not None:
        for name in (
            "cache_hit_share",
            "waiting_mean",
            "running_mean",
            "kv_usage_max",
            "preemptions",
            "acceptance",
        ):
            found[f"server_{name}"] = getattr(phase.server, name)
    if tier.energy is not None:
        found["power_w"] = tier.energy.mean_power_w
    if tier.normalisation is not None:
        for quantity in ("agents", "throughput_tok_s"):
            for per, value in getattr(tier.normalisation, quantity).model_dump().items():
                found[f"{quantity}_{per}"] = value
        found["power_per_accelerator_w"] = tier.normalisation.power_per_accelerator_w
        found["energy_per_output_token_j"] = tier.normalisation.energy_per_output_token_j
        found["energy_per_request_j"] = tier.normalisation.energy_per_request_j
        found["energy_per_trajectory_j"] = tier.normalisation.energy_per_trajectory_j
        for name in (
            "cost_per_trajectory_usd",
            "cost_per_agent_hour_usd",
            "tco_per_agent_year_usd",
            "usd_per_hour",
        ):
            found[name] = getattr(tier.normalisation, name)
    return {f"agentperf.{name}": value for name, value in found.items() if value is not None}
