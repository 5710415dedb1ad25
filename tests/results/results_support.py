"""A tier's result and a phase, made from what a test cares about."""

from __future__ import annotations

from typing import Any

from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
from pytest_agentperf.core.metrics import measure
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import InvalidReason, Verdict, judge

S = 1_000_000_000
TIER = SloTier(name="tier1", output_speed_p25_tok_s=10, ttft_p95_s=2)
NO_ENERGY = WindowEnergy(
    energy_j=None,
    mean_power_w=None,
    devices=0,
    coverage=0.0,
    method=None,
    invalid_code="no_readings",
    invalid_reason="no power source",
)


def columns(*, good: int = 3, failed: int = 0) -> RequestColumns:
    """Answers of 21 tokens in a second, sent every second; then failures."""
    builder = ColumnsBuilder()
    for k in range(good + failed):
        key = RequestKey(1, 0, 0, k, f"t{k}", 0)
        if k < good:
            answer = Answer(
                k * S, (k + 2) * S, status=200, t_first_ns=(k + 1) * S, t_last_ns=(k + 2) * S,
                output_tokens=21, first_chunk_tokens=1, first_chunk_source="usage", response_id=f"r{k}",
            )  # fmt: skip
        else:
            answer = Answer(
                k * S, (k + 1) * S, failure="http_5xx", failure_detail="HTTP 503: busy", status=503
            )
        builder.add(key, answer)
    return builder.finish()


def phase(
    records: RequestColumns, *, n_agents: int = 4, invalid: bool = False, **changes: Any
) -> PhaseResult:
    open_ns, close_ns = 0, 100 * S
    metrics = (
        measure(
            records, open_ns=open_ns, close_ns=close_ns, trajectories_completed=1, trajectories_in_window=0
        )
        if len(records)
        else None
    )
    reasons = (
        (InvalidReason(code="late", what="the client was late", remedy="use more workers"),)
        if invalid
        else ()
    )
    values: dict[str, Any] = {
        "phase": 1, "attempt": 0, "kind": "ramp", "deployment": "main", "n_agents": n_agents,
        "start_ns": 0, "window_open_ns": open_ns, "window_close_ns": close_ns, "end_ns": close_ns,
        "timed_out": False, "idle_before": "verified", "records": None, "metrics": metrics, "energy": NO_ENERGY,
        "load": {}, "invalid": reasons, "verdicts": (judge(TIER, metrics, invalid=reasons),),
    }  # fmt: skip
    return PhaseResult(**(values | changes))


def tier_result(**changes: Any) -> TierResult:
    values: dict[str, Any] = {
        "tier": TIER, "deployment": "main", "verdict": Verdict.PASS, "agents": 4, "at_least": False,
        "complete": True, "confirmed": True, "passed_max": 4, "failed_min": 5, "contradictions": (),
        "reason": None, "expected_agents": None, "binding_constraint": "ttft_p95", "published_phase": 1,
        "accelerators": 2, "metrics": None, "energy": None, "normalisation": None,
    }  # fmt: skip
    return TierResult(**(values | changes))
