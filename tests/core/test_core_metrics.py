from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from core_support import S, answer, columns, failure, key, steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.latency import (
    output_speed_tok_s,
    percentile,
    tokens_within,
    ttft_s,
    whole_speed_tok_s,
)
from pytest_agentperf.core.metrics import measure
from pytest_agentperf.core.records import Answer, ColumnsBuilder

INF = math.inf


def exact_percentile(values: list[float], percent: int) -> float:
    """The definition in exact arithmetic: the weighted mean of two neighbours in the order."""
    ordered = sorted(values)
    rank = Fraction((len(ordered) - 1) * percent, 100)
    index = rank.numerator // rank.denominator
    weights = {index: 1 - (rank - index), index + 1: rank - index}
    used = {i: w for i, w in weights.items() if w}
    if any(math.isinf(ordered[i]) for i in used):
        return INF
    return float(sum((Fraction(ordered[i]) * w for i, w in used.items()), Fraction(0)))


@steady
@given(
    st.lists(st.floats(0, 1e6) | st.just(INF), min_size=1, max_size=60),
    st.sampled_from([0, 1, 25, 50, 75, 95, 99, 100]),
)
def test_percentile_is_the_linear_interpolation(values: list[float], percent: int) -> None:
    assert percentile(values, percent) == pytest.approx(
        exact_percentile(values, percent), rel=1e-12, abs=1e-12
    )


@steady
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.sampled_from([5, 25, 50, 95]))
def test_percentile_of_finite_values_is_numpys(values: list[float], percent: int) -> None:
    assert percentile(values, percent) == pytest.approx(
        float(np.percentile(values, percent)), rel=1e-9, abs=1e-9
    )


def test_percentile_by_hand() -> None:
    assert percentile([40, 10, 30, 20], 25) == 17.5
    assert percentile([7], 95) == 7


def test_an_infinity_of_weight_zero_does_not_count() -> None:
    # 21 values: P95 is exactly the 20th, its upper neighbour has weight 0.
    assert percentile([1.0] * 19 + [2.0, INF], 95) == 2.0


def test_an_infinity_of_any_weight_makes_the_percentile_infinite() -> None:
    # 20 values: P95 is 0.95 of the 19th and 0.05 of the 20th.
    assert percentile([1.0] * 19 + [INF], 95) == INF
    assert percentile([1.0] * 19 + [INF, INF], 95) == INF
    assert percentile([1.0] * 20 + [INF], 99) == INF
    assert percentile([1.0] * 20 + [INF], 95) == 1.0


def test_percentile_of_infinities_only() -> None:
    assert percentile([INF, INF], 50) == INF


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.nan, 2.0], [INF, math.nan]])
def test_percentile_refuses_nothing_and_nan(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|NaN"):
        percentile(values, 50)


# TTFT and speed


def test_ttft_runs_from_sending_to_the_first_token() -> None:
    found = ttft_s(columns(answer(sent=10, first=10.25, last=20), answer(sent=3, first=7, last=8)))
    assert found.tolist() == [0.25, 4.0]


def test_connection_set_up_is_part_of_ttft() -> None:
    assert ttft_s(columns(answer(sent=1, first=2, connect_ns=S // 2))).tolist() == [1.0]


def test_speed_counts_the_tokens_after_the_first_chunk() -> None:
    # 101 tokens, 1 of them at t = 1 s, the last at t = 5 s: 100 tokens in 4 s.
    assert output_speed_tok_s(columns(answer(0, 1, 5, n=101, n_first=1))).tolist() == [25.0]


def test_speed_leaves_out_all_tokens_of_the_first_chunk() -> None:
    assert output_speed_tok_s(columns(answer(0, 1, 5, n=101, n_first=21))).tolist() == [20.0]


def test_one_chunk_scores_from_sending() -> None:
    found = output_speed_tok_s(
        columns(answer(0, 4, 4, n=100, n_first=100), answer(0, 4, 4, n=100, n_first=1))
    )
    assert found.tolist() == [25.0, 25.0]


def test_a_first_chunk_that_claims_every_token_scores_from_sending() -> None:
    assert output_speed_tok_s(columns(answer(0, 1, 5, n=10, n_first=10))).tolist() == [2.0]
    assert output_speed_tok_s(columns(answer(0, 1, 5, n=10, n_first=12))).tolist() == [2.0]


def test_a_one_token_answer_has_no_speed() -> None:
    assert np.isnan(output_speed_tok_s(columns(answer(0, 1, 1, n=1)))).tolist() == [True]


def test_failures_have_infinite_ttft_and_zero_speed() -> None:
    # A cut stream may well have had a first token: it is a failure all the same.
    cut = answer(failure="cut", status=200)
    found = columns(failure(), cut, failure(kind="rate_limited", status=429))
    assert ttft_s(found).tolist() == [INF, INF, INF]
    assert output_speed_tok_s(found).tolist() == [0.0, 0.0, 0.0]
    assert whole_speed_tok_s(found).tolist() == [0.0, 0.0, 0.0]


def test_a_one_token_failure_is_zero_speed_not_none() -> None:
    cut = answer(n=1, failure="cut")
    assert output_speed_tok_s(columns(cut)).tolist() == [0.0]


def test_whole_speed_runs_from_sending_to_the_last_token() -> None:
    assert whole_speed_tok_s(columns(answer(1, 2, 5, n=20), answer(1, 2, 2, n=1))).tolist() == [5.0, 1.0]


def test_unknown_counts_never_flatter() -> None:
    """Such records cannot come from the decoder; if they do, they are no service."""
    found = columns(answer(t_first_ns=None), answer(t_last_ns=None), answer(output_tokens=None))
    assert output_speed_tok_s(found).tolist() == [0.0, 0.0, 0.0]
    assert ttft_s(found)[0] == INF
    assert tokens_within(found, 0, 100 * S) == 0
    # Without n₁ the whole answer scores from sending.
    assert output_speed_tok_s(columns(answer(0, 1, 5, n=10, first_chunk_tokens=None))).tolist() == [2.0]


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    sent = draw(st.integers(0, 50)) * S
    first = sent + draw(st.integers(1, 20 * S))
    last = first + draw(st.just(0) | st.integers(0, 30 * S))
    n = draw(st.integers(1, 300))
    failed = draw(st.integers(0, 3)) == 3
    values: dict[str, Any] = {
        "t_sent_ns": sent,
        "t_first_ns": first,
        "t_last_ns": last,
        "t_end_ns": last,
        "output_tokens": n,
        "first_chunk_tokens": draw(st.integers(1, n)),
        "failure": "cut" if failed else None,
    }
    for name in ("t_first_ns", "t_last_ns", "output_tokens", "first_chunk_tokens"):
        if draw(st.integers(0, 9)) == 9:
            values[name] = None
    return Answer(**values)


def plain_ttft_s(one: Answer) -> float:
    if one.failure is not None or one.t_first_ns is None:
        return INF
    return (one.t_first_ns - one.t_sent_ns) / S


def plain_speed_tok_s(one: Answer) -> float:
    n, n_first = one.output_tokens, one.first_chunk_tokens
    if one.failure is not None or one.t_first_ns is None or one.t_last_ns is None or n is None:
        return 0.0
    if n <= 1:
        return math.nan
    if one.t_last_ns > one.t_first_ns and n_first is not None and n > n_first:
        return (n - n_first) / ((one.t_last_ns - one.t_first_ns) / S)
    return n / ((one.t_last_ns - one.t_sent_ns) / S)


@steady
@given(st.lists(answers(), max_size=20))
def test_columns_are_the_answers_one_by_one(found: list[Answer]) -> None:
    assert ttft_s(columns(*found)).tolist() == [plain_ttft_s(one) for one in found]
    speeds = [plain_speed_tok_s(one) for one in found]
    assert output_speed_tok_s(columns(*found)).tolist() == pytest.approx(speeds, rel=1e-12, nan_ok=True)


# Throughput


def brute_tokens_within(found: list[Answer], open_ns: int, close_ns: int) -> float:
    total = Fraction(0)
    for one in found:
        n, n_first = one.output_tokens, one.first_chunk_tokens
        first, last = one.t_first_ns, one.t_last_ns
        if one.failure or n is None or n_first is None or first is None or last is None:
            continue
        rest = n - n_first
        if open_ns <= first < close_ns:
            total += n_first
        if last == first:
            total += rest if open_ns <= first < close_ns else 0
        else:
            inside = max(0, min(last, close_ns) - max(first, open_ns))
            total += Fraction(rest * inside, last - first)
    return float(total)


def complete(one: Answer) -> Answer:
    """Fill in what `answers` left out."""
    first = one.t_first_ns or one.t_sent_ns + S
    n = one.output_tokens or 5
    return one._replace(
        t_first_ns=first,
        t_last_ns=max(first, one.t_last_ns or first),
        output_tokens=n,
        first_chunk_tokens=min(n, one.first_chunk_tokens or 1),
    )


windows = st.tuples(st.integers(0, 100 * S), st.integers(0, 100 * S)).map(lambda w: (min(w), max(w)))


@steady
@given(st.lists(answers().map(complete), max_size=20), windows)
def test_throughput_is_the_sum_over_requests(found: list[Answer], window: tuple[int, int]) -> None:
    expected = brute_tokens_within(found, *window)
    assert tokens_within(columns(*found), *window) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@steady
@given(
    st.lists(answers().map(complete), max_size=20),
    st.lists(st.integers(0, 100 * S), min_size=2, max_size=6).map(sorted),
)
def test_the_parts_of_a_window_add_up(found: list[Answer], cuts: list[int]) -> None:
    parts = sum(tokens_within(columns(*found), a, b) for a, b in pairwise(cuts))
    assert tokens_within(columns(*found), cuts[0], cuts[-1]) == pytest.approx(parts, rel=1e-9, abs=1e-6)


@steady
@given(st.lists(answers().map(complete), max_size=20))
def test_a_window_around_everything_holds_every_token(found: list[Answer]) -> None:
    expected = sum(one.output_tokens or 0 for one in found if one.failure is None)
    assert tokens_within(columns(*found), 0, 1_000 * S) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "last", "tokens"),
    [
        (2, 8, 21.0),  # inside
        (0, 20, 1 + 10.0),  # from the opening to after the close: the first chunk and half of the 20
        (-10, 30, 5.0),  # from before to after: a quarter of the 20, and not the first chunk
        (-5, 5, 10.0),  # over the opening: half of the 20
        (5, 25, 1 + 5.0),  # over the close: the first chunk and a quarter
        (10, 20, 0.0),  # first token at the close: outside
        (-10, 0, 0.0),  # last token at the opening
        (3, 3, 21.0),  # all at once, inside
        (10, 10, 0.0),  # all at once, at the close
        (0, 0, 21.0),  # all at once, at the opening
    ],
)
def test_requests_over_the_ends_of_the_window(first: float, last: float, tokens: float) -> None:
    """W is 10 s long, times count from its opening; an answer has 1 token in its first chunk, 20 after it."""
    one = answer(sent=50, first=100 + first, last=100 + last, n=21, n_first=1)
    assert tokens_within(columns(one), 100 * S, 110 * S) == tokens


def test_failed_requests_deliver_no_tokens() -> None:
    assert tokens_within(columns(answer(failure="cut"), answer(n=7)), 0, 100 * S) == 7


# A phase's metrics


def test_only_requests_sent_inside_the_window_count() -> None:
    found = columns(
        answer(sent=9, first=9.5, last=30, n=41),  # before: no, though most of it runs inside
        answer(sent=10, first=11, last=12),  # at the opening: yes
        answer(sent=19.9, first=24.9, last=90),  # inside and answered long after: yes
        answer(sent=20, first=20.5, last=21),  # at the close: no
    )
    result = measure(
        found, open_ns=10 * S, close_ns=20 * S, trajectories_completed=3, trajectories_in_window=0
    )
    assert result.requests == 2
    assert result.ttft_p50_s == pytest.approx((1 + 5) / 2)
    assert result.trajectories_completed == 3
    assert result.window_s == 10.0


def test_throughput_takes_every_request_that_overlaps_the_window() -> None:
    found = columns(
        answer(
            sent=0, first=5, last=25, n=41, n_first=1
        ),  # sent before: 20 of its 40 later tokens fall inside
        answer(sent=12, first=13, last=14, n=11, n_first=1),
    )
    result = measure(
        found, open_ns=10 * S, close_ns=20 * S, trajectories_completed=0, trajectories_in_window=0
    )
    assert result.requests == 1
    assert result.throughput_tok_s == pytest.approx((20 + 11) / 10)


def test_a_whole_phase_by_hand() -> None:
    builder = ColumnsBuilder()
    # Four complete answers at TTFT 1, 2, 3, 4 s and speeds 10, 20, 30, 40 tok/s; one of one token.
    for i in range(4):
        one = answer(
            sent=i,
            first=2 * i + 1,
            last=2 * i + 2,
            n=10 * (i + 1) + 1,
            prompt_tokens=1_000,
            cached_tokens=900 if i else 100,
        )
        builder.add(key(agent=i, turn=i), one)
    builder.add(
        key(agent=4), answer(sent=5, first=6, last=6, n=1, first_chunk_source="assumed", prompt_tokens=500)
    )
    # Another first turn, sent before the window: what the cache let through counts wherever it was seen.
    builder.add(key(agent=5), answer(sent=-1, first=0, last=0, n=1, prompt_tokens=9, cached_tokens=300))
    result = measure(
        builder.finish(), open_ns=0, close_ns=10 * S, trajectories_completed=7, trajectories_in_window=0
    )
    assert result.requests == 5
    assert result.failures == {}
    assert result.ttft_p50_s == 2.0  # of 1, 1, 2, 3, 4
    assert result.ttft_p95_s == pytest.approx(3.8)
    assert result.output_speed_p25_tok_s == 17.5  # of 10, 20, 30, 40: the one-token answer has none
    assert result.output_speed_p50_tok_s == 25.0
    # 11/2, 21/3, 31/4, 41/5, 1/1
    assert result.whole_speed_p25_tok_s == 5.5
    assert result.throughput_tok_s == pytest.approx((11 + 21 + 31 + 41 + 1 + 1) / 10)
    assert result.prompt_tokens_mean == 900.0
    assert result.output_tokens_mean == pytest.approx(105 / 5)
    assert result.cached_share == pytest.approx((100 + 3 * 900) / 4_000)
    assert result.first_turn_cached_tokens_max == 300
    assert result.one_token_answers == 1
    assert result.first_chunk_sources == {"assumed": 1, "usage": 4}
    assert result.infinite == {}


def test_failures_pull_the_percentiles_instead_of_being_dropped() -> None:
    good = [answer(sent=i, first=i + 1, last=i + 2) for i in range(18)]
    result = measure(
        columns(*good, failure(18, "timeout_first_token"), failure(19, "http_5xx", status=503)),
        open_ns=0,
        close_ns=20 * S,
        trajectories_completed=0,
        trajectories_in_window=0,
    )
    assert result.requests == 20
    assert result.failures == {"http_5xx": 1, "timeout_first_token": 1}
    assert result.ttft_p95_s is None
    assert result.infinite == {"ttft_p95_s": "2 of 20 requests failed"}
    assert result.ttft_p50_s == 1.0
    assert result.output_speed_p25_tok_s == 10.0


def test_a_quarter_of_failures_brings_the_speed_to_zero() -> None:
    good = [answer(sent=i, first=i + 1, last=i + 2) for i in range(3)]
    result = measure(
        columns(*good, failure(3), failure(4)),
        open_ns=0,
        close_ns=5 * S,
        trajectories_completed=0,
        trajectories_in_window=0,
    )
    assert result.output_speed_p25_tok_s == 0.0
    assert result.whole_speed_p25_tok_s == 0.0


def test_failures_outside_the_window_do_not_count() -> None:
    result = measure(
        columns(failure(0), answer(5, 6, 7)),
        open_ns=S,
        close_ns=9 * S,
        trajectories_completed=0,
        trajectories_in_window=0,
    )
    assert result.failures == {}
    assert result.ttft_p95_s == 1.0


def test_only_failures_leave_no_ttft_and_no_means() -> None:
    result = measure(
        columns(failure(1), failure(2)),
        open_ns=0,
        close_ns=9 * S,
        trajectories_completed=0,
        trajectories_in_window=0,
    )
    assert (result.ttft_p50_s, result.ttft_p95_s) == (None, None)
    assert set(result.infinite) == {"ttft_p50_s", "ttft_p95_s"}
    assert result.output_speed_p25_tok_s == 0.0
    assert (result.prompt_tokens_mean, result.output_tokens_mean) == (None, None)
    assert (result.cached_share, result.first_turn_cached_tokens_max) == (None, None)
    assert result.throughput_tok_s == 0.0


def test_one_token_answers_only_leave_no_speed() -> None:
    result = measure(
        columns(answer(n=1)), open_ns=0, close_ns=S, trajectories_completed=0, trajectories_in_window=0
    )
    assert result.output_speed_p25_tok_s is None
    assert result.output_speed_p50_tok_s is None
    assert result.infinite == {}


def test_the_cached_share_needs_both_counts() -> None:
    reported = answer(prompt_tokens=100, cached_tokens=50)
    silent = answer(prompt_tokens=900)
    found = columns(reported, silent)
    assert (
        measure(found, open_ns=0, close_ns=S, trajectories_completed=0, trajectories_in_window=0).cached_share
        == 0.5
    )
    found = columns(silent)
    assert (
        measure(found, open_ns=0, close_ns=S, trajectories_completed=0, trajectories_in_window=0).cached_share
        is None
    )


def test_only_first_turns_say_something_about_isolation() -> None:
    builder = ColumnsBuilder()
    builder.add(key(turn=0), answer(cached_tokens=3))
    builder.add(key(turn=1), answer(cached_tokens=5_000))
    result = measure(
        builder.finish(), open_ns=0, close_ns=S, trajectories_completed=0, trajectories_in_window=0
    )
    assert result.first_turn_cached_tokens_max == 3


def test_the_percentiles_are_the_rulesets() -> None:
    found = columns(*(answer(sent=0, first=i + 1, last=i + 2, n=10 * (i + 1) + 1) for i in range(5)))
    result = measure(
        found,
        open_ns=0,
        close_ns=S,
        trajectories_completed=0,
        trajectories_in_window=0,
        ttft_percent=75,
        speed_percent=50,
    )
    assert result.ttft_p95_s == 4.0
    assert result.output_speed_p25_tok_s == 30.0


@pytest.mark.parametrize("found", [columns(), columns(answer(sent=5, first=6, last=7))])
def test_no_request_in_the_window_is_an_error(found: Any) -> None:
    with pytest.raises(ValueError, match="no request was sent inside the window"):
        measure(found, open_ns=0, close_ns=5 * S, trajectories_completed=0, trajectories_in_window=0)
