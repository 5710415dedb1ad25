from __future__ import annotations

import pytest
from core_support import metrics

from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import InvalidReason, TierVerdict, Verdict, binding_constraint, judge

TIER = SloTier(name="tier1", output_speed_p25_tok_s=20, ttft_p95_s=10)
SATURATED = InvalidReason(code="load_generator_saturated", what="the loop ran late", remedy="more workers")
TOKENS = InvalidReason(code="tokens", what="counts are off", remedy="check usage")
PASS, FAIL, INVALID = Verdict.PASS, Verdict.FAIL, Verdict.INVALID
SPEED, TTFT = "output_speed_p25", "ttft_p95"


@pytest.mark.parametrize("timed_out", [False, True])
@pytest.mark.parametrize(
    ("speed", "ttft", "verdict", "violated"),
    [
        (40.0, 5.0, PASS, ()),
        (20.0, 10.0, PASS, ()),  # at the boundary, both
        (19.999, 5.0, FAIL, (SPEED,)),
        (0.0, 5.0, FAIL, (SPEED,)),
        (40.0, 10.001, FAIL, (TTFT,)),
        (19.0, 11.0, FAIL, (SPEED, TTFT)),
        (40.0, None, FAIL, (TTFT,)),  # infinite
        (0.0, None, FAIL, (SPEED, TTFT)),
        (None, 5.0, INVALID, ()),  # nobody had two tokens
        (None, 11.0, FAIL, (TTFT,)),
        (None, None, FAIL, (TTFT,)),
    ],
)
def test_verdicts(
    speed: float | None, ttft: float | None, verdict: Verdict, violated: tuple[str, ...], timed_out: bool
) -> None:
    found = judge(TIER, metrics(output_speed_p25_tok_s=speed, ttft_p95_s=ttft), timed_out=timed_out)
    # At the time limit a violated target is FAIL, anything else INVALID.
    assert found.verdict is (INVALID if timed_out and verdict is PASS else verdict)
    assert found.violated == violated
    assert found.tier == "tier1"
    assert (found.reason is not None) == (found.verdict is INVALID)


def test_reasons_of_invalid_point_estimates() -> None:
    assert "time limit" in (judge(TIER, metrics(), timed_out=True).reason or "")
    assert "two tokens" in (judge(TIER, metrics(output_speed_p25_tok_s=None)).reason or "")


@pytest.mark.parametrize("timed_out", [False, True])
@pytest.mark.parametrize("changes", [{}, {"ttft_p95_s": None}, {"output_speed_p25_tok_s": 0.0}])
def test_an_invalid_phase_overrules_the_numbers(changes: dict[str, float | None], timed_out: bool) -> None:
    found = judge(TIER, metrics(**changes), invalid=(SATURATED, TOKENS), timed_out=timed_out)
    assert found == TierVerdict(
        tier="tier1",
        verdict=INVALID,
        reason="the loop ran late → more workers; counts are off → check usage",
    )


@pytest.mark.parametrize("timed_out", [False, True])
def test_a_phase_without_requests_is_invalid(timed_out: bool) -> None:
    found = judge(TIER, None, timed_out=timed_out)
    assert found.verdict is INVALID
    assert found.reason == "no request was sent inside a steady-state window"
    assert (found.speed_margin, found.ttft_margin) == (None, None)
    assert judge(TIER, None, invalid=(SATURATED,)).reason == str(SATURATED)


def test_margins_are_shares_of_the_target() -> None:
    found = judge(TIER, metrics(output_speed_p25_tok_s=25.0, ttft_p95_s=4.0))
    assert (found.speed_margin, found.ttft_margin) == pytest.approx((0.25, 0.6))
    found = judge(TIER, metrics(output_speed_p25_tok_s=15.0, ttft_p95_s=12.0))
    assert (found.speed_margin, found.ttft_margin) == pytest.approx((-0.25, -0.2))
    found = judge(TIER, metrics(output_speed_p25_tok_s=None, ttft_p95_s=None))
    assert (found.speed_margin, found.ttft_margin) == (None, None)


@pytest.mark.parametrize(
    ("speed", "ttft", "binding"),
    [
        (25.0, 4.0, SPEED),  # margins 0.25 and 0.6
        (35.0, 4.0, TTFT),  # 0.75 and 0.6
        (10.0, 4.0, SPEED),  # violated
        (100.0, 11.0, TTFT),  # violated
        (10.0, 11.0, SPEED),  # both: −0.5 and −0.1
        (19.0, 20.0, TTFT),  # both: −0.05 and −1
        (10.0, None, TTFT),  # both, one of them infinitely
        (40.0, None, TTFT),
        (None, 11.0, TTFT),
        (None, 5.0, TTFT),  # the only one known
    ],
)
def test_the_binding_constraint_is_the_one_with_less_left(
    speed: float | None, ttft: float | None, binding: str
) -> None:
    found = judge(TIER, metrics(output_speed_p25_tok_s=speed, ttft_p95_s=ttft))
    assert binding_constraint(found) == binding


def test_without_numbers_nothing_binds() -> None:
    assert binding_constraint(judge(TIER, None)) is None


def test_a_crash_binds_by_its_own_name() -> None:
    assert binding_constraint(TierVerdict(tier="t", verdict=FAIL, violated=("survival",))) == "survival"


def test_the_outcomes_are_their_names() -> None:
    assert [str(v) for v in Verdict] == ["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
