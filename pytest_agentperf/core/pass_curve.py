"""How likely each number of agents is to pass, from repeated phases, and the capacity that follows, with its doubt."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RESAMPLES = 1_000
_CONFIDENCE = 0.95


class Point(NamedTuple):
    """One number of agents, tried with several seeds."""

    n_agents: int
    passes: int
    trials: int
    probability: float
    """Of PASS, by isotonic regression: no more agents pass more often than fewer."""


class PassCurve(NamedTuple):
    """What brute force says of a capacity."""

    points: tuple[Point, ...]
    crossing: float
    """Where PASS and FAIL are equally likely, interpolated between the numbers tried; the least of them minus its
    step where none passes half the time, the largest where all do."""
    low: float
    high: float
    """Of the crossing, with 95 % confidence: seeds resampled, and never narrower than the numbers tried allow."""
    all_pass_up_to: int
    """The largest number up to which every seed passed; 0 if not even the least did."""
    none_pass_from: int
    """The least number from which on no seed passed; beyond the largest if that did."""
    at_least: bool
    """Whether even the largest number passes half the time: the capacity may be any larger."""

    @property
    def capacity(self) -> int:
        """Return the most agents that rather pass than fail."""
        return math.floor(self.crossing)

    def contains(self, agents: int, *, step: int = 1) -> bool:
        """Return whether a search's answer is right: within a step of a sharp edge, inside the band otherwise."""
        return self.all_pass_up_to - step <= agents < self.none_pass_from + step


def pass_curve(verdicts: Mapping[int, Sequence[bool | None]]) -> PassCurve:
    """Fit the verdicts of each number of agents, one per seed and in the same order; None: no verdict.

    Raises ValueError if a number has no verdict at all.
    """
    numbers = sorted(verdicts)
    if not numbers:
        raise ValueError("no number of agents was tried")
    seeds = max(len(found) for found in verdicts.values())
    counts = [_count(verdicts[n], range(len(verdicts[n]))) for n in numbers]
    for n, (_, trials) in zip(numbers, counts, strict=True):
        if not trials:
            raise ValueError(f"{n} agents have no verdict")
    fitted = decreasing_fit(counts)
    crossing = _crossing(numbers, fitted)
    # Whole seeds, since one seed's answers at neighbouring numbers have much in common.
    generator = random.Random(0)
    found = []
    for _ in range(_RESAMPLES):
        chosen = [generator.randrange(seeds) for _ in range(seeds)]
        resampled = [_count(verdicts[n], chosen) for n in numbers]
        found.append(_crossing(numbers, decreasing_fit(resampled)))
    found.sort()
    cut = round((1 - _CONFIDENCE) / 2 * _RESAMPLES)
    half = _spacing(numbers, crossing) / 2
    all_pass = 0
    for n, (passes, trials) in zip(numbers, counts, strict=True):
        if passes < trials:
            break
        all_pass = n
    none_pass = numbers[-1] + 1
    for n, (passes, _) in zip(reversed(numbers), reversed(counts), strict=True):
        if passes:
            break
        none_pass = n
    return PassCurve(
        points=tuple(
            Point(n, passes, trials, p)
            for n, (passes, trials), p in zip(numbers, counts, fitted, strict=True)
        ),
        crossing=crossing,
        low=max(0.0, min(found[cut], crossing - half)),
        high=max(found[-1 - cut], crossing + half),
        all_pass_up_to=all_pass,
        none_pass_from=none_pass,
        at_least=fitted[-1] >= 0.5,
    )


def decreasing_fit(counts: Sequence[tuple[int, int]]) -> list[float]:
    """Return the non-increasing probabilities that fit (passes, trials) best: pool adjacent violators."""
    pools: list[list[float]] = []
    for passes, trials in counts:
        pools.append([passes, trials, 1])
        while len(pools) > 1 and pools[-1][0] * pools[-2][1] > pools[-2][0] * pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return [pool[0] / pool[1] if pool[1] else 0.0 for pool in pools for _ in range(int(pool[2]))]


def _count(verdicts: Sequence[bool | None], chosen: Sequence[int] | range) -> tuple[int, int]:
    kept = [verdicts[i] for i in chosen if i < len(verdicts) and verdicts[i] is not None]
    return sum(map(bool, kept)), len(kept)


def _crossing(numbers: Sequence[int], probabilities: Sequence[float]) -> float:
    """Return where the probability falls below one half."""
    below = next((i for i, p in enumerate(probabilities) if p < 0.5), None)
    if below is None:
        return float(numbers[-1])
    if below == 0:
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return max(0.0, float(numbers[0] - step))
    (n0, p0), (n1, p1) = ((numbers[i], probabilities[i]) for i in (below - 1, below))
    return n0 + (n1 - n0) * (p0 - 0.5) / (p0 - p1)


def _spacing(numbers: Sequence[int], at: float) -> int:
    """Return how far apart the numbers around a place lie."""
    for low, high in pairwise(numbers):
        if low <= at <= high:
            return high - low
    return numbers[1] - numbers[0] if len(numbers) > 1 else 1
