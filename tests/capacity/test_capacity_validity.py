"""What a phase says of a tier: point estimates, what is certain, and what overrules both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_support import metrics

from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import Decision, InvalidReason, TierVerdict, Verdict
from pytest_agentperf.validity import verdict_of

if TYPE_CHECKING:
    from pytest_agentperf.core.metrics import PhaseMetrics

PASS, FAIL, INVALID, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE
TIER = SloTier(name="tier1", output_speed_p25_tok_s=20, ttft_p95_s=10)
SATURATED = InvalidReason(code="load_generator_saturated", what="the loop ran late", remedy="more workers")
CRASHED = InvalidReason(code="server_crashed", what="the server was gone", remedy="see its log")
UNSURE = Decision(INCONCLUSIVE, reason="too near")
HOPELESS = Decision(FAIL, ("ttft_p95",), "most agents waited")
SPEED = ("output_speed_p25",)


GOOD, BAD = metrics(), metrics(output_speed_p25_tok_s=10.0)


def said(
    found: PhaseMetrics | None,
    decision: Decision | None,
    *invalid: InvalidReason,
    timed_out: bool = False,
    crashed_at: int | None = None,
) -> TierVerdict:
    return verdict_of(TIER, found, invalid, timed_out=timed_out, crashed_at=crashed_at, decision=decision)


@pytest.mark.parametrize("timed_out", [False, True])
@pytest.mark.parametrize("found", [GOOD, BAD])
@pytest.mark.parametrize("decision", [Decision(PASS), Decision(FAIL, SPEED)])
def test_what_was_certain_stays_so(found: PhaseMetrics, decision: Decision, timed_out: bool) -> None:
    """Whatever the point estimates say, and also if the time was up before another tier was certain."""
    verdict = said(found, decision, timed_out=timed_out)
    assert (verdict.verdict, verdict.violated, verdict.reason) == (decision.verdict, decision.violated, None)
    assert verdict.speed_margin is not None


@pytest.mark.parametrize(("found", "violated"), [(GOOD, ()), (BAD, SPEED)])
def test_what_is_not_certain_says_so_and_keeps_the_point_estimates(
    found: PhaseMetrics, violated: tuple[str, ...]
) -> None:
    verdict = said(found, UNSURE)
    assert (verdict.verdict, verdict.violated, verdict.reason) == (INCONCLUSIVE, violated, "too near")


@pytest.mark.parametrize(
    ("found", "decision", "verdict"),
    [(GOOD, None, INVALID), (BAD, None, FAIL), (GOOD, UNSURE, INVALID), (BAD, UNSURE, INCONCLUSIVE)],
)
def test_at_the_time_limit_only_point_estimates_fail_without_certainty(
    found: PhaseMetrics, decision: Decision | None, verdict: Verdict
) -> None:
    assert said(found, decision, timed_out=True).verdict is verdict


def test_a_hopeless_queue_fails_without_a_window() -> None:
    verdict = said(None, HOPELESS)
    assert (verdict.verdict, verdict.violated, verdict.reason) == (FAIL, ("ttft_p95",), "most agents waited")
    assert said(None, UNSURE).verdict is INVALID


@pytest.mark.parametrize("found", [GOOD, None])
@pytest.mark.parametrize("decision", [None, UNSURE, HOPELESS, Decision(PASS)])
def test_an_invalid_phase_overrules_what_was_certain(
    found: PhaseMetrics | None, decision: Decision | None
) -> None:
    verdict = said(found, decision, SATURATED)
    assert (verdict.verdict, verdict.reason) == (INVALID, str(SATURATED))


@pytest.mark.parametrize("decision", [None, UNSURE, Decision(PASS)])
def test_a_second_crash_fails_whatever_was_certain(decision: Decision | None) -> None:
    assert said(GOOD, decision, CRASHED).verdict is INVALID
    verdict = said(GOOD, decision, CRASHED, crashed_at=8)
    assert (verdict.verdict, verdict.violated) == (FAIL, ("survival",))
