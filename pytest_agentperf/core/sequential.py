"""When a phase may end early: as soon as a verdict is certain, however often one looks.

A percentile keeps its target exactly if the share of requests beyond the target keeps the percentile's share. That
share is a mean over trajectories, and a confidence sequence for means tells at every look whether it is certainly
above or below, at one error rate for all looks together: the asymptotic confidence sequence of Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of
Statistics 52(6), 2024), which has the one-sided normal mixture of Howard et al. (2021) for its boundary. Quantiles by
their indicator functions are those of Howard and Ramdas, "Sequential estimation of quantiles" (Bernoulli 28(3), 2022).

Requests are correlated in two ways: within a trajectory, and with all others of the same moments, which share the
server's queue. The variance is that of both (two-way clustering: Cameron, Gelbach and Miller, 2011).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from pytest_agentperf.core.verdict import Decision, Verdict

if TYPE_CHECKING:
    from pytest_agentperf.core.latency import FloatArray
    from pytest_agentperf.core.slo import SloTier

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# So many independent requests beyond the target are to be expected at its edge: with fewer, sums are not yet normal.
_BEYOND_MIN = 10
# The approximation needs so many trajectories, and so many moments.
_CLUSTERS_MIN = 10
# Where the boundary is narrowest: about as many requests decide.
_REQUESTS_PLANNED = 5_000


class Look(NamedTuple):
    """What is known of the requests sent since the window opened, finished or not; one entry a request."""

    t_sent_s: FloatArray
    """Since the window opened."""
    clusters: IntArray
    """Which trajectory of which agent, numbered from 0."""
    ttft_s: FloatArray
    """∞ for failures; NaN while no token has come."""
    speed_tok_s: FloatArray
    """0 for failures; NaN for answers of one token, and while the answer is not over."""
    ended: BoolArray
    now_s: float


class SequentialRule(NamedTuple):
    """How sure to be."""

    error_rate: float
    """Of a wrong PASS, and of a wrong FAIL, over all looks of a phase."""
    correlation_s: float
    """Requests sent within such a time share the state of the server."""
    ttft_share: float
    """So many of the TTFTs are to keep the target: 0.95 for P95."""
    speed_share: float
    """So many of the speeds may lie below theirs: 0.25 for P25."""
    horizon_s: float
    """Most answers have ended so long after they were sent; younger requests say nothing of the speed yet."""


def decide(look: Look, tier: SloTier, rule: SequentialRule) -> Decision | None:
    """Return PASS or FAIL once it is certain at the rule's error rate, None before.

    PASS needs both metrics to be certain; FAIL is certain once one of them is.
    """
    late = look.t_sent_s <= look.now_s - tier.ttft_p95_s
    over = ~(look.ttft_s <= tier.ttft_p95_s)
    ttft = _Share(over[late], look.clusters[late], look.t_sent_s[late], 1 - rule.ttft_share, rule)

    old = look.t_sent_s <= look.now_s - rule.horizon_s
    old &= ~(look.ended & np.isnan(look.speed_tok_s))
    slow = look.speed_tok_s < tier.output_speed_p25_tok_s
    # What is still under way may turn out either way: each side is judged as if it turned out against it.
    open_ = old & ~look.ended
    clusters, sent = look.clusters[old], look.t_sent_s[old]
    speed_at_worst = _Share((slow | open_)[old], clusters, sent, rule.speed_share, rule)
    speed_at_best = _Share((slow & ~open_)[old], clusters, sent, rule.speed_share, rule)

    if ttft.certainly_below(rule.error_rate) and speed_at_worst.certainly_below(rule.error_rate):
        return Decision(Verdict.PASS)
    half = rule.error_rate / 2
    violated = []
    if speed_at_best.certainly_above(half):
        violated.append("output_speed_p25")
    if ttft.certainly_above(half):
        violated.append("ttft_p95")
    return Decision(Verdict.FAIL, tuple(violated)) if violated else None


class _Share:
    """The share of requests beyond a target, against the share that may be."""

    def __init__(
        self, beyond: BoolArray, clusters: IntArray, sent_s: FloatArray, allowed: float, rule: SequentialRule
    ) -> None:
        n = len(beyond)
        self._below_se = self._above_se = 0.0
        self._progress = 1.0
        if not n:
            return
        moments = (sent_s // rule.correlation_s).astype(np.int64)
        if min(len(np.unique(clusters)), len(np.unique(moments))) < _CLUSTERS_MIN:
            return
        seen = (np.count_nonzero(beyond) + 1) / (n + 2)
        variance = two_way_variance(beyond - seen, clusters, moments)
        # What is judged is a share as large as allowed. Where fewer were seen their variance was smaller too, by
        # the same luck: so only what correlation adds to it is taken from the data.
        inflation = max(1.0, variance / (n * seen * (1 - seen)))
        excess = np.count_nonzero(beyond) - n * allowed
        self._progress = n / _REQUESTS_PLANNED
        if n * allowed / inflation >= _BEYOND_MIN:
            self._above_se = excess / math.sqrt(inflation * n * allowed * (1 - allowed))
            self._below_se = -self._above_se
        elif seen > allowed:
            # Too few to tell that there are fewer than allowed, but perhaps enough of them to tell that there are
            # more: then their own variance counts, which is the larger one.
            self._above_se = excess / math.sqrt(
                inflation * n * max(seen * (1 - seen), allowed * (1 - allowed))
            )

    def certainly_below(self, error_rate: float) -> bool:
        return self._below_se > boundary(self._progress, error_rate)

    def certainly_above(self, error_rate: float) -> bool:
        return self._above_se > boundary(self._progress, error_rate)


def boundary(progress: float, error_rate: float) -> float:
    """Return how many standard errors a mean may lie off at any look, narrowest at a `progress` of about 1."""
    # The tuning of Waudby-Smith et al. (eq. 3.11), for one side.
    log_ = 2 * math.log(1 / (2 * error_rate))
    scaled = progress * (log_ + math.log1p(log_))
    return math.sqrt(2 * (1 + 1 / scaled) * math.log1p(math.sqrt(scaled + 1) / (2 * error_rate)))


def two_way_variance(residuals: FloatArray, clusters: IntArray, moments: IntArray) -> float:
    """Return the variance of the sum of `residuals` (n,), correlated within clusters and within moments.

    `clusters` and `moments` (n,) are small numbers from 0.
    """
    by_cluster, by_moment = _squares(residuals, clusters), _squares(residuals, moments)
    _, both = np.unique(clusters * (int(moments.max()) + 1) + moments, return_inverse=True)
    # Never below either of them: the difference can be, by chance.
    return max(by_cluster, by_moment, by_cluster + by_moment - _squares(residuals, both.reshape(-1)))


def _squares(residuals: FloatArray, groups: IntArray) -> float:
    sums = np.bincount(groups, weights=residuals)
    n = int(np.count_nonzero(np.bincount(groups)))
    return n / max(1, n - 1) * float(sums @ sums)
