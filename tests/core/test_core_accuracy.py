from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentperf.core.accuracy import (
    AccuracyResult,
    AccuracyScore,
    Reference,
    binomial_detectable_drop,
    binomial_p_value,
    judge_accuracy,
    not_measured,
    paired_detectable_drop,
    paired_p_value,
)

ALPHA, POWER = 0.05, 0.8


def score(marks: str, tokens: float | None = 100.0) -> AccuracyScore:
    return AccuracyScore(
        questions="q", questions_digest="00", marks=marks, concurrency=1, output_tokens_mean=tokens, cut=0
    )


def judged(alone: str, loaded: str, reference: Reference | None = None) -> AccuracyResult:
    return judge_accuracy(
        score(alone), score(loaded, 90.0), reference, n_agents=8, phase=3, alpha=ALPHA, power=POWER
    )


def exact_tail(least: int, n: int) -> float:
    return float(sum(math.comb(n, k) for k in range(least, n + 1)) / 2**n)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_paired_test_is_the_coins(worse: int, better: int) -> None:
    assert paired_p_value(worse, better) == pytest.approx(exact_tail(worse, worse + better))


@given(st.integers(1, 80), st.data())
def test_the_binomial_test_is_the_sum_of_its_terms(asked: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, asked))
    share = data.draw(st.floats(0.01, 0.99))
    expected = math.fsum(
        math.comb(asked, k) * share**k * (1 - share) ** (asked - k) for k in range(right + 1)
    )
    assert binomial_p_value(right, asked, share) == pytest.approx(expected, abs=1e-9)


def test_certain_shares() -> None:
    assert binomial_p_value(10, 10, 1.0) == 1.0
    assert binomial_p_value(9, 10, 1.0) == 0.0
    assert binomial_detectable_drop(10, 1.0, alpha=ALPHA, power=POWER) == pytest.approx(0.149, abs=0.002)


def test_no_change_and_no_worse_changes_are_no_drop() -> None:
    assert judged("1" * 60, "1" * 60).status == "verified"
    assert judged("0" * 60, "1" * 60).status == "verified"
    assert judged("10" * 30, "01" * 30).status == "verified"


@pytest.mark.parametrize(("lost", "status"), [(4, "verified"), (5, "dropped")])
def test_five_losses_without_a_gain_are_no_chance(lost: int, status: str) -> None:
    found = judged("1" * 60, "0" * lost + "1" * (60 - lost))
    assert found.status == status
    assert found.alone is not None
    assert found.alone.p_value == 0.5**lost


def test_no_answer_is_a_wrong_answer() -> None:
    assert judged("1" * 60, "-" * 5 + "1" * 55).status == "dropped"


def test_what_is_reported() -> None:
    found = judged("1" * 60, "0" * 10 + "1" * 50)
    assert found.phase == 3
    assert found.reason == ("50 of 60 answers were right at 8 agents, 60 at one (p = 0.00098, limit 0.05)")
    assert str(found).startswith("dropped: 50 of 60")
    assert found.alone is not None
    assert found.alone.output_tokens_drift == pytest.approx(-0.1)
    assert str(not_measured("no questions")) == "not measured: no questions"


def test_two_tests_share_the_error_rate() -> None:
    reference = Reference(score=1.0, source="a test")
    found = judged("1" * 60, "0" * 5 + "1" * 55, reference)
    assert found.alone is not None
    assert found.reference is not None
    assert found.alone.error_rate == found.reference.error_rate == ALPHA / 2
    # 1/32 is above 0.025: the pairs alone would not do, the reference does.
    assert not found.alone.dropped
    assert found.reference.dropped
    assert found.status == "dropped"
    assert judged("1" * 60, "0" * 5 + "1" * 55).status == "dropped"


@given(st.floats(0.2, 1.0), st.integers(20, 120), st.integers(0, 2**32))
@settings(max_examples=25)
def test_honest_servers_are_refused_no_more_often_than_the_rate(share: float, asked: int, seed: int) -> None:
    draw = random.Random(seed)
    refused = 0
    runs = 120
    for _ in range(runs):
        pairs = [(draw.random() < share, draw.random() < share) for _ in range(asked)]
        worse = sum(a and not b for a, b in pairs)
        better = sum(b and not a for a, b in pairs)
        refused += paired_p_value(worse, better) <= ALPHA
    # Four standard deviations above the rate.
    assert refused <= runs * ALPHA + 4 * math.sqrt(runs * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize(("asked", "noise"), [(60, 0), (80, 3), (300, 10)])
def test_the_detectable_drop_is_found_as_often_as_it_says(asked: int, noise: int) -> None:
    drop = paired_detectable_drop(asked, noise, alpha=ALPHA, power=POWER)
    assert drop is not None

    def found(drop: float) -> float:
        draw = random.Random(asked)
        hits = 0
        for _ in range(600):
            changes = [draw.random() for _ in range(asked)]
            worse = sum(c < drop + noise / asked for c in changes)
            better = sum(drop + noise / asked <= c < drop + 2 * noise / asked for c in changes)
            hits += paired_p_value(worse, better) <= ALPHA
        return hits / 600

    assert found(drop) > POWER - 0.06
    assert found(drop - 2 / asked) < POWER + 0.04


def test_more_questions_find_smaller_drops() -> None:
    drops = [paired_detectable_drop(n, n // 20, alpha=ALPHA, power=POWER) for n in (40, 160, 640)]
    assert all(drop is not None for drop in drops)
    assert drops == sorted(drops, key=lambda drop: -(drop or 0))
    assert paired_detectable_drop(4, 0, alpha=ALPHA, power=POWER) is None
    assert binomial_detectable_drop(4, 0.3, alpha=ALPHA, power=POWER) is None
