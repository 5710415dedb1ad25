"""Phases that end once their verdict is certain, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from virtual_system import SHAPES, Watch, settings_for, virtual_run

from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult

RULES: dict[str, Any] = {
    "error_rate": 0.01,
    "search": "model",
    "agents_begin": "steady_state",
    "settle_s": 2.0,
    "min_window_s": 20.0,
    "window_max_s": 400.0,
    "look_factor": 1.25,
    "correlation_s": 1.0,
    "answer_horizon_s": 60.0,
    "drain_max_s": 1.0,
    "phase_max_s": 1_000.0,
    "min_trajectories": 1,
    "min_trajectories_per_agent": 0,
    "warmup_agents": 0,
}
SPEED_BOUND, TTFT_BOUND, _ = SHAPES


def phase(shape: Any, n_agents: int, *, nonce: str = "0", **changes: Any) -> PhaseResult:
    settings = settings_for(shape, nonce=nonce, **(RULES | changes))
    with virtual_run(settings, Watch()) as run:
        return run.run_fixed("all", n_agents)


def window_s(result: PhaseResult) -> float:
    return (result.window_close_ns - result.window_open_ns) / 1e9


@pytest.mark.parametrize(
    ("shape", "n_agents", "verdict", "violated"),
    [
        (SPEED_BOUND, 5, Verdict.PASS, ()),
        (SPEED_BOUND, 19, Verdict.FAIL, ("output_speed_p25",)),
        (TTFT_BOUND, 4, Verdict.PASS, ()),
        (TTFT_BOUND, 13, Verdict.FAIL, ("ttft_p95",)),
    ],
)
def test_what_is_clear_ends_early_and_says_why(
    shape: Any, n_agents: int, verdict: Verdict, violated: tuple[str, ...]
) -> None:
    result = phase(shape, n_agents)
    assert (result.verdicts[0].verdict, result.verdicts[0].violated) == (verdict, violated)
    assert 20 <= window_s(result) < 120


def test_pass_waits_for_what_happens_seldom_and_fail_does_not() -> None:
    assert window_s(phase(SPEED_BOUND, 5, pass_window_min_s=130.0)) >= 130
    assert window_s(phase(SPEED_BOUND, 19, pass_window_min_s=130.0)) < 120


def test_what_is_too_near_to_the_target_is_inconclusive_at_the_longest_window() -> None:
    result = phase(SPEED_BOUND, 5)
    assert result.metrics is not None
    speed = result.metrics.output_speed_p25_tok_s
    assert speed is not None
    tier = SPEED_BOUND.tier.model_copy(update={"output_speed_p25_tok_s": speed})
    found = phase(SPEED_BOUND._replace(tier=tier), 5, window_max_s=60.0)
    assert found.verdicts[0].verdict is Verdict.INCONCLUSIVE
    assert found.verdicts[0].reason is not None
    assert 60 <= window_s(found) < 70


def test_the_window_never_opens_before_every_agent_has_its_context_in_the_cache() -> None:
    watch = Watch()
    with virtual_run(settings_for(SPEED_BOUND, nonce="0", **RULES), watch) as run:
        result = run.run_fixed("all", 12)
    (records,) = watch.records
    begun = records["ordinal"] == 0
    first = [records["t_first_ns"][begun & (records["agent"] == agent)].min() for agent in range(12)]
    assert result.window_open_ns == max(first) + 2_000_000_000


def test_a_phase_after_one_that_was_not_certain_begins_elsewhere() -> None:
    """And the first one where every run with this seed does."""
    with virtual_run(settings_for(SPEED_BOUND, nonce="0", **RULES), Watch()) as run:
        deployed = run._opened("all")
        first, again, second = (deployed.spec("gate", 12, 1, attempt).begin_at for attempt in (0, 0, 1))
    assert len(first) == len(second) == 12
    assert first == again
    assert first != second


def test_a_queue_without_hope_is_cut_before_the_steady_state() -> None:
    shape = TTFT_BOUND._replace(
        engine=TTFT_BOUND.engine.model_copy(
            update={"max_batch": 1, "output_tokens_median": 60.0, "output_tokens_p95": 64.0}
        )
    )
    result = phase(shape, 400, settle_max_s=20.0)
    assert result.verdicts[0].verdict is Verdict.FAIL
    assert result.verdicts[0].violated == ("ttft_p95",)
    assert "first answers" in str(result.verdicts[0].reason)
    assert (result.end_ns - result.start_ns) / 1e9 < 40


def test_answers_of_a_closed_window_are_waited_for_only_so_long() -> None:
    patient, hasty = (phase(SPEED_BOUND, 19, drain_max_s=limit) for limit in (None, 0.0))
    assert patient.window_close_ns - patient.window_open_ns == hasty.window_close_ns - hasty.window_open_ns
    assert hasty.end_ns - hasty.window_close_ns < 400_000_000 < patient.end_ns - patient.window_close_ns


def test_without_an_error_rate_no_phase_ends_early() -> None:
    result = phase(SPEED_BOUND, 5, error_rate=None, min_window_s=30.0)
    assert window_s(result) == pytest.approx(30.0)
