"""Whether a system answers worse under load: exact tests on questions with checkable answers.

The same questions are asked twice, alone and under load, and judged in pairs (McNemar's exact test, one-sided): under
the hypothesis that load changes nothing, a question that is right once only is right under load as often as not. Where
the suite gives a reference, the score under load is held against it too (exact binomial test), each at half the error
rate, so that both together err no more often than it says.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy.typing as npt

ALONE = 0
"""The number of agents beside which the questions are asked at one agent: they are that agent."""
RIGHT, WRONG, UNANSWERED = "1", "0", "-"
_STEPS = 1_000


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccuracyScore(_Model):
    """One asking of all questions. What got no answer counts as wrong."""

    questions: str
    """The name of the set."""
    questions_digest: str
    marks: str
    """One character per question, in the set's order, round after round: 1 right, 0 wrong, - unanswered."""
    concurrency: int
    """How many questions were in flight at once, beside the phase's agents."""
    output_tokens_mean: float | None
    cut: int
    """Answers that ended for their length."""

    @property
    def asked(self) -> int:
        """Return how many answers were asked for."""
        return len(self.marks)

    @property
    def right(self) -> int:
        """Return how many were right."""
        return self.marks.count(RIGHT)

    @property
    def share(self) -> float:
        """Return the share of right answers."""
        return self.right / len(self.marks) if self.marks else 0.0


class Reference(_Model):
    """What the model is known to reach on the set."""

    score: float
    source: str
    output_tokens_mean: float | None = None


class Comparison(_Model):
    """A score under load beside what it is held against."""

    score: float
    against: float
    p_value: float
    """How often a score as low, or lower, would come about if there were no drop."""
    error_rate: float
    detectable_drop: float | None
    """The smallest drop that would have been found with the ruleset's power; None: none at all would have."""
    output_tokens_drift: float | None
    """How much longer answers were, as a share: shorter ones buy capacity, too."""

    @property
    def dropped(self) -> bool:
        """Return whether the drop is no chance, at the error rate."""
        return self.p_value <= self.error_rate


class AccuracyResult(_Model):
    """What the accuracy under load says about a capacity."""

    status: Literal["verified", "dropped", "not measured"]
    reason: str | None = None
    phase: int | None = None
    """The accuracy phase under load."""
    alone: Comparison | None = None
    """Against the score at one agent."""
    reference: Comparison | None = None

    def __str__(self) -> str:
        return self.status if self.reason is None else f"{self.status}: {self.reason}"


def not_measured(reason: str) -> AccuracyResult:
    """Return the result of a capacity whose accuracy nobody looked at."""
    return AccuracyResult(status="not measured", reason=reason)


def judge_accuracy(
    alone: AccuracyScore,
    loaded: AccuracyScore,
    reference: Reference | None,
    *,
    n_agents: int,
    phase: int,
    alpha: float,
    power: float,
) -> AccuracyResult:
    """Compare a score under load with that at one agent, and with the reference where there is one."""
    rate = alpha if reference is None else alpha / 2
    worse = sum(a == RIGHT != b for a, b in zip(alone.marks, loaded.marks, strict=True))
    better = sum(b == RIGHT != a for a, b in zip(alone.marks, loaded.marks, strict=True))
    paired = Comparison(
        score=loaded.share,
        against=alone.share,
        p_value=paired_p_value(worse, better),
        error_rate=rate,
        detectable_drop=paired_detectable_drop(loaded.asked, min(worse, better), alpha=rate, power=power),
        output_tokens_drift=_drift(loaded.output_tokens_mean, alone.output_tokens_mean),
    )
    against = None
    if reference is not None:
        against = Comparison(
            score=loaded.share,
            against=reference.score,
            p_value=binomial_p_value(loaded.right, loaded.asked, reference.score),
            error_rate=rate,
            detectable_drop=binomial_detectable_drop(loaded.asked, reference.score, alpha=rate, power=power),
            output_tokens_drift=_drift(loaded.output_tokens_mean, reference.output_tokens_mean),
        )
    held = [(f"{alone.right} at one", paired)]
    if against is not None:
        held.append((f"{against.against:.1%} in the reference", against))
    reasons = [
        f"{loaded.right} of {loaded.asked} answers were right at {n_agents} agents, {what} "
        f"(p = {found.p_value:.2g}, limit {found.error_rate:g})"
        for what, found in held
        if found.dropped
    ]
    return AccuracyResult(
        status="dropped" if reasons else "verified",
        reason="; ".join(reasons) or None,
        phase=phase,
        alone=paired,
        reference=against,
    )


def paired_p_value(worse: int, better: int) -> float:
    """Return how often at least `worse` of all that changed got worse, were it a coin's decision."""
    return _upper_tail(worse, worse + better, 0.5)


def binomial_p_value(right: int, asked: int, expected: float) -> float:
    """Return how often `right` or fewer of `asked` are right at the expected share."""
    return float(_pmf(asked, expected)[: right + 1].sum()) if asked else 1.0


def paired_detectable_drop(asked: int, noise: int, *, alpha: float, power: float) -> float | None:
    """Return the smallest drop of the share of right answers that the paired test finds with that power.

    `noise`: how many questions change by chance in either direction, as many as changed against the trend.
    """
    drops = range(1, asked - 2 * noise + 1)
    # The power grows with the drop.
    found = bisect_left(drops, power, key=lambda dropped: _paired_power(asked, dropped, noise, alpha))
    return drops[found] / asked if found < len(drops) else None


def binomial_detectable_drop(asked: int, expected: float, *, alpha: float, power: float) -> float | None:
    """Return the smallest drop below the expected share that the binomial test finds with that power."""
    below = np.cumsum(_pmf(asked, expected))
    rejected = int(np.searchsorted(below, alpha, side="right"))  # this many or more right answers pass
    if rejected == 0:
        return None
    drops = [expected * step / _STEPS for step in range(1, _STEPS + 1)]
    found = bisect_left(drops, power, key=lambda drop: float(_pmf(asked, expected - drop)[:rejected].sum()))
    return drops[found] if found < len(drops) else None


def _paired_power(asked: int, drop: int, noise: int, alpha: float) -> float:
    changes = _pmf(asked, (drop + 2 * noise) / asked)
    getting_worse = (drop + noise) / (drop + 2 * noise)
    found = 0.0
    for changed in np.flatnonzero(changes > 1e-9).tolist():
        least = _least_worse(changed, alpha)
        if least is not None:
            found += float(changes[changed]) * _upper_tail(least, changed, getting_worse)
    return found


def _least_worse(changed: int, alpha: float) -> int | None:
    """Return how many of those that changed must have got worse for the test to reject, None if all are too few."""
    tail = np.cumsum(_pmf(changed, 0.5)[::-1])
    rejected = int(np.searchsorted(tail, alpha, side="right"))
    return changed - rejected + 1 if rejected else None


def _upper_tail(least: int, n: int, p: float) -> float:
    return min(1.0, float(_pmf(n, p)[least:].sum()))


def _pmf(n: int, p: float) -> npt.NDArray[np.float64]:
    """Return the binomial probabilities of 0 to n."""
    if p <= 0 or p >= 1:
        sure = np.zeros(n + 1)
        sure[n if p >= 1 else 0] = 1.0
        return sure
    k = np.arange(n + 1)
    log_factorial = np.cumsum(np.log(np.maximum(k, 1)))
    logs = log_factorial[n] - log_factorial - log_factorial[::-1] + k * math.log(p) + (n - k) * math.log1p(-p)
    found: npt.NDArray[np.float64] = np.exp(logs)
    return found


def _drift(tokens: float | None, before: float | None) -> float | None:
    return tokens / before - 1 if tokens is not None and before else None
