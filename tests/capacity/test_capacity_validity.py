"""What a phase says of a tier: point estimates, what is certain, and what overrules both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from core_support import metrics

from pytest_agentperf.core.records import ColumnsBuilder
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import (
    LOAD_GENERATOR_CODES,
    Decision,
    InvalidReason,
    TierVerdict,
    Verdict,
)
from pytest_agentperf.validity import invalid_reasons, verdict_of

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


def host(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "clock_error_s": 0.001, "lag_p99_s": 0.001, "send_late_p99_s": None} | changes


def found_with(load: dict[str, Any]) -> list[InvalidReason]:
    server: Any = None  # nobody asks it where no request failed
    return list(invalid_reasons(ColumnsBuilder().finish(), load, "verified", DEMO_1, server, None))


@pytest.mark.parametrize(("off_s", "codes"), [(0.02, []), (0.021, ["load_clock_unsure"])])
def test_a_clock_that_may_be_off_by_more_than_the_rule_voids_the_phase(
    off_s: float, codes: list[str]
) -> None:
    hosts = [host("a"), host("b", clock_error_s=off_s)]
    reasons = found_with({"clock_error_s": off_s, "hosts": hosts})
    assert [reason.code for reason in reasons] == codes
    assert all("load host b may be off by 21 ms (limit 20 ms)" in reason.what for reason in reasons)
    assert all(reason.code in LOAD_GENERATOR_CODES for reason in reasons)


def test_the_host_that_is_late_is_named() -> None:
    (reason,) = found_with({"lag_p99_s": 0.2, "hosts": [host("a"), host("b", lag_p99_s=0.2)]})
    assert reason.what.startswith("a load worker on b read late by 200 ms")
    (reason,) = found_with({"lag_p99_s": 0.2})
    assert reason.what.startswith("a load worker read late by 200 ms")
