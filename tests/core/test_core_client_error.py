from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.client_error import Calibration, ClientError, chunks_per_s
from pytest_agentperf.core.metrics import PhaseMetrics, measure
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey
from pytest_agentperf.core.slo import SloTier

S = 1_000_000_000
MS = 1_000_000
TIER = SloTier(name="tier1", output_speed_p25_tok_s=20.0, ttft_p95_s=10.0)
CALIBRATION = Calibration(
    n_agents=64,
    chunks_per_s=2_048.0,
    chunks_per_s_reached=2_000.0,
    requests=100,
    ttft_error_p50_s=0.0002,
    ttft_error_p99_s=0.001,
    speed_error_p99=0.001,
    cpu_share_max=0.1,
    workers=1,
)


def columns(ttft_s: float, speed_tok_s: float, *, requests: int = 20, tokens: int = 101) -> RequestColumns:
    """Return equal requests, one a second, whose tokens come one by one."""
    builder = ColumnsBuilder()
    for i in range(requests):
        sent = i * S
        first = sent + round(ttft_s * S)
        last = first + round((tokens - 1) / speed_tok_s * S)
        answer = Answer(
            sent,
            last,
            t_first_ns=first,
            t_last_ns=last,
            output_tokens=tokens,
            first_chunk_tokens=1,
            content_chunks=tokens,
        )
        builder.add(RequestKey(1, 0, i, 0, "t", 0), answer)
    return builder.finish()


def metrics(ttft_s: float, speed_tok_s: float) -> PhaseMetrics:
    return measure(
        columns(ttft_s, speed_tok_s),
        open_ns=0,
        close_ns=100 * S,
        trajectories_completed=1,
        trajectories_in_window=1,
    )


@pytest.mark.parametrize(
    ("ttft_s", "speed_tok_s", "error", "doubtful"),
    [
        # Far from the targets nothing the client does can matter.
        (3.0, 40.0, ClientError(ttft_s=2.0, speed=0.2), False),
        (30.0, 40.0, ClientError(ttft_s=2.0, speed=0.2), False),
        # A TTFT above its target by less than the client's own share: a pass might have become a fail.
        (10.5, 40.0, ClientError(ttft_s=1.0, speed=0.0), True),
        (11.5, 40.0, ClientError(ttft_s=1.0, speed=0.0), False),
        # The client only adds to a TTFT: one that holds its target holds it.
        (9.9, 40.0, ClientError(ttft_s=1.0, speed=0.0), False),
        # Within the budget of 0.5 % of the target.
        (10.01, 40.0, ClientError(ttft_s=0.05, speed=0.0), False),
        # An output speed is bent both ways.
        (3.0, 20.5, ClientError(ttft_s=0.0, speed=0.05), True),
        (3.0, 19.5, ClientError(ttft_s=0.0, speed=0.05), True),
        (3.0, 22.0, ClientError(ttft_s=0.0, speed=0.05), False),
        (3.0, 18.0, ClientError(ttft_s=0.0, speed=0.05), False),
        (3.0, 20.01, ClientError(ttft_s=0.0, speed=0.005), False),
        # Too short an answer says nothing above its own time.
        (3.0, 5.0, ClientError(ttft_s=0.0, speed=1.5), True),
        (3.0, 6_000.0, ClientError(ttft_s=0.0, speed=1.5), False),
    ],
)
def test_only_what_could_change_the_verdict_is_in_doubt(
    ttft_s: float, speed_tok_s: float, error: ClientError, doubtful: bool
) -> None:
    doubt = error.could_change(TIER, metrics(ttft_s, speed_tok_s), share_max=0.005)
    assert (doubt is not None) == doubtful
    if doubt is not None:
        assert "load generator" in doubt


def test_a_phase_is_as_uncertain_as_calibrated_or_as_its_loop_was_late() -> None:
    found = columns(0.5, 50.0)
    calm = ClientError.of_phase(CALIBRATION, found, lag_s=0.0)
    assert (calm.ttft_s, calm.speed) == (0.001, 0.001)
    late = ClientError.of_phase(CALIBRATION, found, lag_s=0.1)
    assert late.ttft_s == 0.1
    assert late.speed == pytest.approx(0.1 / 2.0)


def test_a_phase_of_failures_has_no_answers_to_be_uncertain_of() -> None:
    builder = ColumnsBuilder()
    builder.add(RequestKey(1, 0, 0, 0, "t", 0), Answer(0, S, failure="cut"))
    assert ClientError.of_phase(CALIBRATION, builder.finish(), lag_s=0.2).speed == 0.001


def test_the_rate_of_chunks() -> None:
    assert chunks_per_s(columns(1.0, 100.0, requests=1, tokens=101)) == pytest.approx(101 / 2.0)


@given(st.integers(1, 200), st.floats(1, 1e4), st.integers(0, 3))
def test_a_calibration_covers_what_is_no_larger(n_agents: int, rate: float, workers: int) -> None:
    expected = n_agents <= 64 and rate <= 2_048.0 and workers >= 1
    assert CALIBRATION.covers(n_agents, rate, workers=workers) == expected


def test_a_calibration_that_fell_short_covers_what_it_reached() -> None:
    short = CALIBRATION.model_copy(update={"chunks_per_s_reached": 1_000.0})
    assert short.covers(64, 1_000.0, workers=1)
    assert not short.covers(64, 1_001.0, workers=1)


def test_several_hosts_are_as_good_as_the_worst_of_them() -> None:
    fine = CALIBRATION.model_copy(update={"workers": 2})
    bad = fine.model_copy(update={"chunks_per_s_reached": 512.0, "ttft_error_p99_s": 0.3, "requests": 50})
    both = Calibration.of_hosts([fine, bad])
    assert (both.n_agents, both.chunks_per_s, both.requests, both.workers) == (128, 4_096.0, 150, 2)
    assert both.chunks_per_s_reached == pytest.approx(1_024.0)
    assert (both.ttft_error_p99_s, both.speed_error_p99) == (0.3, 0.001)


@pytest.mark.parametrize(("reached", "expected"), [(2_048.0, True), (1_700.0, True), (1_000.0, False)])
def test_a_load_that_was_not_there_is_not_reached(reached: float, expected: bool) -> None:
    assert CALIBRATION.model_copy(update={"chunks_per_s_reached": reached}).reached == expected
