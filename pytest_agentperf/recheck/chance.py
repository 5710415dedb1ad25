"""Exact tests on marks of answers, made again: how likely a drop is by chance, and which one would have been found."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.recheck.findings import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_STEPS = 1_000
"""A drop below a reference is told in so many parts of it."""
_NEVER = 1e-12
_TIE = 1e-9
"""Powers so near to the wanted one may fall on either side, by rounding."""


def paired_p(worse: int, better: int) -> float:
    """Return how often as many of all that changed get worse by the toss of a coin: McNemar's exact test."""
    n = worse + better
    return float(sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n)


def below_p(right: int, asked: int, expected: float) -> float:
    """Return how often so few are right at the expected share: the exact binomial test."""
    return math.fsum(_binomial(asked, expected)[: right + 1].tolist())


def paired_drop_problems(told: float | None, asked: int, noise: int, alpha: float, power: float) -> list[str]:
    """Return what is wrong with the smallest drop that is said to be found with that power."""

    def found(drop: int) -> float:
        weights = _binomial(asked, (drop + 2 * noise) / asked)
        share = (drop + noise) / (drop + 2 * noise)
        return math.fsum(
            float(weights[changed]) * math.fsum(_binomial(changed, share)[_least(changed, alpha) :].tolist())
            for changed in np.flatnonzero(weights > _NEVER).tolist()
        )

    return _problems(told, asked - 2 * noise, lambda drop: drop / asked, found, power)


def reference_drop_problems(
    told: float | None, asked: int, expected: float, alpha: float, power: float
) -> list[str]:
    """Return what is wrong with the smallest drop below a reference that is said to be found with that power."""
    rejected = int(np.sum(np.cumsum(_binomial(asked, expected)) <= alpha))

    def found(step: int) -> float:
        return math.fsum(_binomial(asked, expected - expected * step / _STEPS)[:rejected].tolist())

    return _problems(told, _STEPS if rejected else 0, lambda step: expected * step / _STEPS, found, power)


def _problems(
    told: float | None,
    most: int,
    drop_of: Callable[[int], float],
    found: Callable[[int], float],
    power: float,
) -> list[str]:
    """Hold a drop to what it says of itself: it is found that surely, and the next smaller one is not."""
    if told is None:
        missed = most < 1 or found(most) < power + _TIE
        return [] if missed else ["no drop is said to be detectable, and one is"]
    step = next((step for step in range(1, most + 1) if math.isclose(drop_of(step), told)), None)
    if step is None:
        return [f"detectable_drop is {shown(told)}, which is no drop of so many answers"]
    if found(step) < power - _TIE:
        return [f"detectable_drop is {shown(told)}, and that is found at {found(step):.1%} only"]
    if step > 1 and found(step - 1) >= power + _TIE:
        return [f"detectable_drop is {shown(told)}, and {shown(drop_of(step - 1))} would be found as well"]
    return []


def _least(changed: int, alpha: float) -> int:
    """Return how many of those that changed must have got worse for the paired test to reject: more than all, never."""
    beyond = np.cumsum(_binomial(changed, 0.5)[::-1])
    return changed + 1 - int(np.sum(beyond <= alpha))


@cache
def _log_factorial(k: int) -> float:
    return math.lgamma(k + 1)


def _binomial(n: int, p: float) -> NDArray[np.float64]:
    """Return how likely 0 to n of n are."""
    if p <= 0 or p >= 1:
        return np.array([float(k == (n if p >= 1 else 0)) for k in range(n + 1)])
    log = [_log_factorial(k) for k in range(n + 1)]
    k = np.arange(n + 1)
    ways = log[n] - np.array(log) - np.array(log[::-1])
    chances: NDArray[np.float64] = np.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
    return chances
