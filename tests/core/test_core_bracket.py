"""From the largest number of agents that surely passed to the smallest that surely failed."""

from __future__ import annotations

from typing import Any

import pytest
from core_support import metrics

from pytest_agentperf.core.bracket import capacity_bracket
from pytest_agentperf.core.confidence import Interval, PhaseConfidence
from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.leaderboard import PhaseResult
from pytest_agentperf.core.load_report import LoadReport
from pytest_agentperf.core.search import CapacityInterval
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import judge

TIER = SloTier(name="tier1", output_speed_p25_tok_s=20, ttft_p95_s=10)
NO_ENERGY = WindowEnergy(
    energy_j=None, mean_power_w=None, devices=0, coverage=0.0, method=None, invalid_code="no_source", invalid_reason="x"
)  # fmt: skip


def probe(
    n: int, speed: tuple[float, float, float], ttft: Any = (1, 2, 3), *, bounds: bool = True
) -> PhaseResult:
    """Make a probe of (low, value, high) of both percentiles."""
    measured = metrics(
        output_speed_p25_tok_s=speed[1],
        ttft_p95_s=ttft[1],
        infinite={} if ttft[1] else {"ttft_p95_s": "failures"},
    )
    return PhaseResult(
        phase=1, attempt=0, kind="ramp", deployment="main", n_agents=n, start_ns=0, window_open_ns=1, window_close_ns=2,
        end_ns=3, timed_out=False, idle_before="verified", records=None, metrics=measured, energy=NO_ENERGY,
        confidence=PhaseConfidence(ttft_p95_s=within(ttft), output_speed_p25_tok_s=within(speed)) if bounds else None,
        load=LoadReport(), invalid=(), verdicts=(judge(TIER, measured),),
    )  # fmt: skip


def within(ends: Any) -> Interval:
    return Interval(
        low=ends[0],
        high=ends[2],
        level=0.95,
        rank_low=None,
        rank_high=None,
        trajectories=30,
        effective_requests=99,
    )


SURE_PASS, PASS, FAIL, SURE_FAIL = (22, 25, 28), (19, 21, 23), (17, 19, 21), (14, 16, 18)


def bracket(*phases: PhaseResult, agents: int = 1, error_rate: float | None = None) -> Any:
    interval, reason = capacity_bracket(TIER, phases, agents=agents, error_rate=error_rate)
    return (interval.low, interval.high) if interval else None, reason


def test_it_reaches_from_what_surely_passed_to_what_surely_failed() -> None:
    phases = [
        probe(16, SURE_PASS),
        probe(20, PASS),
        probe(21, FAIL),
        probe(24, SURE_FAIL),
        probe(32, SURE_FAIL),
    ]
    assert bracket(*phases, agents=20) == ((16, 24), None)
    interval, _ = capacity_bracket(TIER, phases, agents=20, error_rate=None)
    assert interval == CapacityInterval(low=16, high=24, level=0.95, method="probes")


def test_both_percentiles_must_be_sure_to_pass_and_one_to_fail() -> None:
    late, infinite = (9, 9.5, 11), (8, None, None)
    assert bracket(probe(16, SURE_PASS), probe(20, SURE_PASS, late), probe(24, SURE_FAIL))[0] == (16, 24)
    assert bracket(probe(16, SURE_PASS), probe(20, SURE_PASS, infinite), probe(24, SURE_FAIL))[0] == (16, 24)
    # All of the interval infinitely late.
    assert bracket(probe(16, SURE_PASS), probe(20, SURE_PASS, (None, None, None)))[0] == (16, 20)


def test_exactly_at_the_target_is_inside_it() -> None:
    assert bracket(probe(16, (20, 21, 22), (1, 5, 10)), probe(24, (15, 17, 20)))[0] == (16, None)
    assert bracket(probe(16, SURE_PASS), probe(24, (15, 17, 19.9)))[0] == (16, 24)


def test_of_several_probes_at_one_number_all_must_be_sure() -> None:
    phases = [probe(16, SURE_PASS), probe(20, SURE_PASS), probe(24, SURE_FAIL)]
    assert bracket(*phases, probe(20, PASS))[0] == (16, 24)
    assert bracket(*phases, probe(20, FAIL))[0] == (16, 24)


def test_contradictions_widen_it() -> None:
    phases = [probe(16, SURE_PASS), probe(20, SURE_FAIL), probe(24, SURE_PASS), probe(32, SURE_FAIL)]
    assert bracket(*phases)[0] == (16, 32)
    assert bracket(*phases[:3]) == ((16, None), bracket(*phases[:3])[1])


def test_what_is_open_says_why() -> None:
    interval, reason = bracket(probe(16, SURE_PASS), probe(20, PASS))
    assert interval == (16, None)
    assert reason.startswith("no number of agents failed; ")
    interval, reason = bracket(probe(20, PASS), probe(24, SURE_FAIL))
    assert interval == (None, 24)
    assert reason.startswith(
        "no number of agents passes for sure; sure are probes of 10 trajectories or more"
    )
    few = [probe(n, speed, bounds=False) for n, speed in ((16, SURE_PASS), (24, SURE_FAIL))]
    interval, reason = bracket(*few)
    assert interval is None
    assert "no number of agents fails for sure" in reason


def test_no_agents_at_all_are_bounded_from_below_by_nothing_less() -> None:
    assert bracket(probe(1, SURE_FAIL), agents=0) == ((0, 1), None)


def test_a_server_that_crashed_again_failed_for_sure() -> None:
    crash = probe(24, SURE_FAIL, bounds=False)
    (verdict,) = crash.verdicts
    crash = crash.model_copy(update={"verdicts": (verdict.model_copy(update={"violated": ("survival",)}),)})
    assert bracket(probe(16, SURE_PASS), crash)[0] == (16, 24)


def test_verdicts_at_an_error_rate_are_sure_themselves() -> None:
    phases = [probe(16, PASS), probe(24, FAIL)]
    interval, reason = capacity_bracket(TIER, phases, agents=16, error_rate=0.01)
    assert interval == CapacityInterval(low=16, high=24, level=0.99, method="probes")
    assert reason is None


@pytest.mark.parametrize("kind", ["INVALID", "INCONCLUSIVE"])
def test_what_is_no_verdict_bounds_nothing(kind: str) -> None:
    odd = probe(20, SURE_FAIL)
    odd = odd.model_copy(update={"verdicts": (odd.verdicts[0].model_copy(update={"verdict": kind}),)})
    assert bracket(probe(16, SURE_PASS), odd, probe(24, SURE_FAIL))[0] == (16, 24)
