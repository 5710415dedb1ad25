"""PASS, FAIL, INCONCLUSIVE, INVALID: what a phase says about one tier."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pytest_agentperf.core.metrics import PhaseMetrics
    from pytest_agentperf.core.slo import SloTier


class Verdict(StrEnum):
    """The four outcomes. INCONCLUSIVE is for rulesets with an error rate; INVALID never moves a bound."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


class InvalidReason(BaseModel):
    """Why a phase cannot count, and what to do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    what: str
    remedy: str
    log_tail: tuple[str, ...] = ()
    """The last lines that a server of ours wrote, where it is the server that failed."""

    def __str__(self) -> str:
        return f"{self.what} → {self.remedy}"


LOAD_GENERATOR_CODES = frozenset(
    {
        "load_generator_saturated",
        "client_resources",
        "load_worker_died",
        "calibration_failed",
        "load_clock_unsure",
    }
)
"""Reasons for INVALID that lie with the load generator and say nothing about the server."""


class TierVerdict(BaseModel):
    """One phase judged against one tier.

    A margin is how much of the target is left: positive passes, negative violates; None where a metric is
    infinite or missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tier: str
    verdict: Verdict
    violated: tuple[str, ...] = ()
    speed_margin: float | None = None
    ttft_margin: float | None = None
    speed_log_error: float | None = None
    ttft_log_error: float | None = None
    """Standard errors of the logarithms of both metrics, from their intervals; None where those are unknown."""
    reason: str | None = None


def judge(
    tier: SloTier,
    metrics: PhaseMetrics | None,
    *,
    invalid: tuple[InvalidReason, ...] = (),
    timed_out: bool = False,
) -> TierVerdict:
    """Judge a phase by its point estimates.

    `timed_out`: the phase reached its time limit before its end conditions held; then a violated target is FAIL,
    anything else INVALID. Any other reason in `invalid` overrules the numbers.
    """
    if metrics is None or invalid:
        why = "; ".join(map(str, invalid)) or "no request was sent inside a steady-state window"
        return TierVerdict(tier=tier.name, verdict=Verdict.INVALID, reason=why)
    speed, ttft = metrics.output_speed_p25_tok_s, metrics.ttft_p95_s
    violated = []
    if speed is not None and speed < tier.output_speed_p25_tok_s:
        violated.append("output_speed_p25")
    if ttft is None or ttft > tier.ttft_p95_s:
        violated.append("ttft_p95")
    verdict = Verdict.FAIL if violated else Verdict.PASS
    reason: str | None = None
    if not violated and timed_out:
        verdict = Verdict.INVALID
        reason = "the phase reached its time limit before its end conditions held, with no target violated"
    elif not violated and speed is None:
        verdict, reason = Verdict.INVALID, "no answer had two tokens or more, so there is no output speed"
    return TierVerdict(
        tier=tier.name,
        verdict=verdict,
        violated=tuple(violated),
        speed_margin=None if speed is None else speed / tier.output_speed_p25_tok_s - 1,
        ttft_margin=None if ttft is None else 1 - ttft / tier.ttft_p95_s,
        reason=reason,
    )


class Decision(NamedTuple):
    """What is certain of a tier at a ruleset's error rate: PASS or FAIL, or INCONCLUSIVE for a reason."""

    verdict: Verdict
    violated: tuple[str, ...] = ()
    reason: str | None = None


def certain(judged: TierVerdict, decision: Decision) -> TierVerdict:
    """Return the verdict at an error rate, from that of the point estimates, which stay beside it."""
    if judged.verdict is Verdict.INVALID:
        return judged
    open_ = decision.verdict is Verdict.INCONCLUSIVE
    return judged.model_copy(
        update={
            "verdict": decision.verdict,
            "violated": judged.violated if open_ else decision.violated,
            "reason": decision.reason,
        }
    )


def binding_constraint(verdict: TierVerdict) -> str | None:
    """Return the target that decides: the violated one, or the one with the smaller margin."""
    if len(verdict.violated) == 1:
        return verdict.violated[0]
    if verdict.ttft_margin is None:
        return verdict.violated[-1] if verdict.violated else None
    if verdict.speed_margin is None:
        return "ttft_p95"
    return "output_speed_p25" if verdict.speed_margin <= verdict.ttft_margin else "ttft_p95"
