"""Draws from the standard normal distribution."""

from __future__ import annotations

import random
from typing import Final

_AT_ONCE: Final = 256


class NormalDraws:
    """A seeded sequence of draws, made many at a time: one by one each would cost a request twice as much."""

    __slots__ = ("_left", "_random")

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._left: list[float] = []

    def draw(self) -> float:
        """Return the next one."""
        if not self._left:
            gauss = self._random.gauss
            self._left = [gauss() for _ in range(_AT_ONCE)]
            self._left.reverse()
        return self._left.pop()
