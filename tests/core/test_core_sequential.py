"""Early stopping: wrong verdicts at the target itself stay below the error rate, however often one looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from pytest_agentperf.core.ruleset import CI_1, NIGHTLY_1
from pytest_agentperf.core.sequential import Look, SequentialRule, boundary, decide, two_way_variance
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = npt.NDArray[Any]

TIER = SloTier(name="tier1", output_speed_p25_tok_s=20, ttft_p95_s=10)
RULE = SequentialRule(error_rate=0.05, correlation_s=30.0, ttft_share=0.95, speed_share=0.25, horizon_s=60.0)
LOOKS_S = np.geomspace(120, 3_600, 14)


def stream(
    rng: np.random.Generator, *, late: float, slow: float, agents: int = 60, common: float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """Return a phase's requests: latent values with parts common to a trajectory and to a moment."""
    n = agents * 200
    sent = np.sort(rng.uniform(0, 3_600, n))
    agent = rng.integers(0, agents, n)
    clusters = agent * 6 + (sent // 700).astype(np.int64)
    moments = (sent // 20).astype(np.int64)
    scale = math.sqrt(2 * common**2 + 1)
    latent = (_effects(rng, clusters, common) + _effects(rng, moments, common) + rng.normal(size=n)) / scale
    latent2 = (_effects(rng, clusters, common) + rng.normal(size=n)) / math.sqrt(common**2 + 1)
    ttft = np.where(latent > _normal_quantile(1 - late), 12.0, 1.0)
    speed = np.where(latent2 < _normal_quantile(slow), 10.0, 30.0)
    return sent, clusters, ttft, speed


def _effects(rng: np.random.Generator, groups: Array, scale: float) -> Array:
    _, index = np.unique(groups, return_inverse=True)
    drawn: Array = rng.normal(0, scale, size=index.max() + 1)[index]
    return drawn


def _normal_quantile(share: float) -> float:
    low, high = -9.0, 9.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(-middle / math.sqrt(2)) < share else (low, middle)
    return low


def first_verdict(
    sent: Array,
    clusters: Array,
    ttft: Array,
    speed: Array,
    rule: SequentialRule = RULE,
    looks_s: Iterable[float] = LOOKS_S,
) -> tuple[Verdict | None, float]:
    for now in looks_s:
        seen = sent <= now
        look = Look(sent[seen], clusters[seen], ttft[seen], speed[seen], sent[seen] <= now - 15, float(now))
        if decision := decide(look, TIER, rule):
            return decision.verdict, now
    return None, math.inf


@pytest.mark.parametrize(
    ("late", "slow", "wrong"), [(0.055, 0.05, Verdict.PASS), (0.045, 0.245, Verdict.FAIL)]
)
def test_a_wrong_verdict_is_rarer_than_the_error_rate(late: float, slow: float, wrong: Verdict) -> None:
    rng = np.random.default_rng(11)
    verdicts = [first_verdict(*stream(rng, late=late, slow=slow))[0] for _ in range(60)]
    # 60 trials at 5 %: three standard deviations above it are 8.
    assert verdicts.count(wrong) <= 8


@pytest.mark.parametrize(
    ("late", "slow", "right"),
    [(0.005, 0.05, Verdict.PASS), (0.3, 0.05, Verdict.FAIL), (0.01, 0.6, Verdict.FAIL)],
)
def test_what_is_clear_ends_early(late: float, slow: float, right: Verdict) -> None:
    rng = np.random.default_rng(5)
    ends = [first_verdict(*stream(rng, late=late, slow=slow)) for _ in range(20)]
    assert {verdict for verdict, _ in ends} == {right}
    assert max(now for _, now in ends) < 1_800


def test_ignoring_what_moments_share_would_be_wrong_too_often() -> None:
    """The test data are hard enough: with variances of trajectories alone the error rate does not hold."""
    rng = np.random.default_rng(11)
    alone = RULE._replace(correlation_s=0.1)
    wrong = two_way = 0
    for _ in range(20):
        data = stream(rng, late=0.05, slow=0.05, common=1.5)
        wrong += first_verdict(*data, rule=alone)[0] is not None
        two_way += first_verdict(*data)[0] is not None
    assert wrong > 2 * two_way


def test_what_comes_in_episodes_of_minutes_is_seldom_certain_by_luck_under_the_nightly_rules() -> None:
    """Lateness that keeps the target in the long run fails by mistake, were it taken for that of half a minute."""
    rng = np.random.default_rng(3)
    wrong = {CI_1.id: 0, NIGHTLY_1.id: 0}
    for _ in range(30):
        sent = np.sort(rng.uniform(0, 7_200, 3_000))
        starts = rng.uniform(-1_000, 7_200, rng.poisson(8_200 / 2_400))
        ends = starts + rng.exponential(200, len(starts))
        late = ((sent[:, None] >= starts) & (sent[:, None] < ends)).any(axis=1) & (rng.random(3_000) < 0.6)
        clusters = rng.integers(0, 200, 3_000) * 20 + (sent // 700).astype(np.int64)
        data = sent, clusters, np.where(late, 12.0, 1.0), np.full(3_000, 30.0)
        for rules in (CI_1, NIGHTLY_1):
            rule = RULE._replace(error_rate=0.004, correlation_s=rules.correlation_s or 0)
            verdict, _ = first_verdict(*data, rule=rule, looks_s=(3_000, 4_700, 7_200))
            wrong[rules.id] += verdict is Verdict.FAIL
    assert wrong[CI_1.id] > 2 * wrong[NIGHTLY_1.id]


def test_unfinished_answers_never_decide() -> None:
    n = 5_000
    sent = np.linspace(0, 1_000, n)
    clusters = np.arange(n) % 100
    look = Look(sent, clusters, np.full(n, 1.0), np.full(n, np.nan), np.zeros(n, dtype=bool), 3_000.0)
    assert decide(look, TIER, RULE) is None


def test_first_tokens_that_never_come_are_late_once_their_target_has_passed() -> None:
    n = 2_000
    sent = np.linspace(0, 1_000, n)
    clusters = np.arange(n) % 100
    waiting = Look(sent, clusters, np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, dtype=bool), 1_005.0)
    assert decide(waiting, TIER, RULE) == Decision(Verdict.FAIL, ("ttft_p95",))


def test_few_trajectories_decide_nothing() -> None:
    n = 5_000
    sent = np.linspace(0, 1_000, n)
    look = Look(sent, np.arange(n) % 9, np.full(n, 99.0), np.full(n, 1.0), np.ones(n, dtype=bool), 3_000.0)
    assert decide(look, TIER, RULE) is None


def test_the_boundary_is_narrowest_as_planned_and_wider_than_one_look_needs() -> None:
    widths = {progress: boundary(progress, 0.01) for progress in (0.05, 0.3, 1, 3, 50)}
    assert min(widths, key=widths.__getitem__) in (0.3, 1, 3)
    assert min(widths.values()) > 2.326


def test_two_way_variance_is_the_plain_sum_for_independent_requests() -> None:
    residuals = np.random.default_rng(0).normal(size=2_000)
    own, two = np.arange(2_000), np.arange(2_000)[::-1].copy()
    assert two_way_variance(residuals, own, two) == pytest.approx(float(residuals @ residuals), rel=1e-2)
