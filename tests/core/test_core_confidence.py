"""Intervals of percentiles: coverage on clustered data, and an independent path to the rank bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentperf.core.confidence import (
    CLUSTERS_MIN,
    IntArray,
    Resamples,
    _rank_bounds,
    percentile_interval,
    phase_confidence,
    standard_error,
    trajectory_clusters,
)
from pytest_agentperf.core.latency import FloatArray, percentile
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestKey


def clustered(
    n_clusters: int, rng: np.random.Generator, *, common: float = 0.5
) -> tuple[FloatArray, IntArray]:
    """Return lognormal values with a part common to their cluster, as requests of one trajectory have."""
    sizes = rng.geometric(1 / 20, size=n_clusters)
    clusters = np.repeat(np.arange(n_clusters), sizes)
    shared = rng.normal(0, common, size=n_clusters)[clusters]
    return np.exp(shared + rng.normal(0, 0.7, size=len(clusters))), clusters


def known(*args: Any, **options: Any) -> Any:
    """Return an interval that is there; its bounds may be None."""
    interval = percentile_interval(*args, **options)
    assert interval is not None
    return interval


@pytest.mark.parametrize("percent", [25, 95])
def test_intervals_cover_the_truth_as_often_as_they_say(percent: int) -> None:
    rng = np.random.default_rng(7)
    truth = float(np.exp(np.hypot(0.5, 0.7) * {25: -0.6744898, 95: 1.6448536}[percent]))
    covered = 0
    for seed in range(80):
        interval = known(*clustered(100, rng), percent, level=0.9, resamples=Resamples(seed))
        covered += interval.low <= truth <= interval.high
    # 80 trials at 90 %: three standard deviations are 10 %.
    assert 0.80 <= covered / 80 <= 0.99


def test_correlated_requests_are_worth_fewer_independent_ones() -> None:
    rng = np.random.default_rng(1)
    values, clusters = clustered(300, rng, common=1.5)
    correlated = known(values, clusters, 25, level=0.95)
    independent = known(values, rng.permutation(clusters), 25, level=0.95)
    assert correlated.effective_requests < 0.3 * independent.effective_requests
    assert correlated.high - correlated.low > 1.5 * (independent.high - independent.low)
    assert correlated.rank_high - correlated.rank_low > 1.5 * (independent.rank_high - independent.rank_low)


def test_the_percentile_lies_inside_and_equal_inputs_give_equal_intervals() -> None:
    values, clusters = clustered(80, np.random.default_rng(3))
    interval = known(values, clusters, 95, level=0.95, resamples=Resamples(4))
    assert interval.low < percentile(values, 95) < interval.high
    assert interval == known(values, clusters, 95, level=0.95, resamples=Resamples(4))
    assert interval.trajectories == 80


def test_failures_make_a_bound_infinite() -> None:
    values, clusters = clustered(100, np.random.default_rng(3))
    values[np.random.default_rng(1).random(len(values)) < 0.045] = np.inf
    interval = known(values, clusters, 95, level=0.95)
    assert interval.low is not None
    assert interval.high is None


def test_few_trajectories_give_no_interval() -> None:
    values, clusters = clustered(CLUSTERS_MIN - 1, np.random.default_rng(3))
    assert percentile_interval(values, clusters, 95, level=0.95) is None
    assert percentile_interval(np.array([]), np.array([], dtype=np.int64), 95, level=0.95) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.floats(0.05, 0.95), st.floats(0.001, 0.2))
def test_rank_bounds_are_those_of_the_binomial_distribution(n: int, share: float, tail: float) -> None:
    low, high = _rank_bounds(n, share, tail)
    pmf = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]

    def below(k: int) -> float:
        return math.fsum(pmf[:k])

    # P(X(low) > quantile) and P(X(high) <= quantile), with X(k) the k-th smallest, are at most the tail.
    assert below(round(low * n)) <= tail + 1e-9
    assert 1 - below(round(high * n)) <= tail + 1e-9


def test_the_standard_error_of_independent_requests_is_the_textbook_one() -> None:
    rng = np.random.default_rng(2)
    hits = (rng.random(20_000) < 0.3).astype(float)
    share = hits.mean()
    assert standard_error(hits, np.ones(20_000, dtype=np.int64)) == pytest.approx(
        math.sqrt(share * (1 - share) / 20_000), rel=1e-3
    )


def test_a_trajectory_is_an_agents_and_an_ordinals() -> None:
    builder = ColumnsBuilder()
    for agent, ordinal, turn in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
        builder.add(RequestKey(0, 0, agent, ordinal, "t", turn), Answer(0, 1))
    columns = builder.finish()
    assert trajectory_clusters(columns, np.array([True, True, True, True])).tolist() == [0, 0, 1, 2]
    assert trajectory_clusters(columns, np.array([False, True, False, True])).tolist() == [0, 1]


def test_a_phase_has_intervals_of_what_is_judged_inside_its_window() -> None:
    rng = np.random.default_rng(6)
    builder = ColumnsBuilder()
    for agent in range(40):
        for turn in range(10):
            sent = turn * 10**9
            first = sent + int(rng.uniform(0.1, 1.0) * 1e9)
            last = first + int(rng.uniform(1.0, 2.0) * 1e9)
            # One-token answers have no speed; what was sent late in the phase is outside the window.
            tokens = 1 if turn == 3 else 41
            builder.add(
                RequestKey(0, 0, agent, 0, "t", turn),
                Answer(
                    sent, last, t_first_ns=first, t_last_ns=last, output_tokens=tokens, first_chunk_tokens=1
                ),
            )
    columns = builder.finish()
    found = phase_confidence(columns, open_ns=0, close_ns=8 * 10**9)
    ttft, speed = found.ttft_p95_s, found.output_speed_p25_tok_s
    assert ttft is not None
    assert speed is not None
    assert 0.8 < (ttft.low or 0) < 0.955 < (ttft.high or 0) <= 1.0
    # 40 tokens in 1 to 2 s, P25 at 1.75 s.
    assert 20 < (speed.low or 0) < 40 / 1.75 < (speed.high or 0) < 30
    assert ttft.effective_requests <= 320
    assert speed.effective_requests <= 280
    empty = phase_confidence(columns, open_ns=10**12, close_ns=10**13)
    assert empty.ttft_p95_s is None
    assert empty.output_speed_p25_tok_s is None
