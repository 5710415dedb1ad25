"""Faults on purpose, so that clients can be tested against them."""

from __future__ import annotations

import random
from typing import NamedTuple


class FaultRates(NamedTuple):
    """How often: `fail` requests answered 503, `cut` streams closed in the middle."""

    fail: float = 0.0
    cut: float = 0.0
    seed: int = 0


class FaultPlan:
    """Draws faults per request, in order of arrival."""

    def __init__(self, rates: FaultRates) -> None:
        self._rates = rates
        self._random = random.Random(rates.seed)

    def fails(self) -> bool:
        """Return whether this request is answered 503."""
        return self._random.random() < self._rates.fail

    def cut_after(self, tokens: int) -> int | None:
        """Return after how many of its tokens this answer is cut off; None lets it end."""
        draw, place = self._random.random(), self._random.random()
        return 1 + int(place * (tokens - 1)) if draw < self._rates.cut else None
