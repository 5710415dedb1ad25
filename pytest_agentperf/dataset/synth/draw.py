"""Faster draws for long texts, integer quantile tables, and sequences that fill a distribution evenly."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.demo.draw import Draw

if TYPE_CHECKING:
    from collections.abc import Sequence

ONE = 1 << 64
"""A fraction of a whole is an integer below this."""


class Stream(Draw):
    """Like `Draw`, with eight draws to a hash: a trajectory's text takes tens of thousands of them."""

    def __init__(self, *labels: str | int) -> None:
        super().__init__(*labels)
        self._words: list[int] = []

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound), for bounds far below 2^32."""
        if not self._words:
            block = hashlib.sha256(f"{self._key}#{self._counter}".encode()).digest()
            self._counter += 1
            self._words = list(struct.unpack(">8I", block))
        return self._words.pop() * bound >> 32

    def fraction(self) -> int:
        """Return a fraction of `ONE`."""
        return (self.below(1 << 32) << 32) | self.below(1 << 32)

    def weighted(self, options: Sequence[tuple[str, int]]) -> str:
        """Return an option in proportion to its weight."""
        rest = self.below(sum(weight for _, weight in options))
        for option, weight in options:
            rest -= weight
            if rest < 0:
                return option
        raise AssertionError("weights do not add up")


class Quantiles(NamedTuple):
    """A distribution as (permille, value) points, in order of the first."""

    points: tuple[tuple[int, int], ...]

    def at(self, fraction: int) -> int:
        """Return the value at a fraction of `ONE`.

        Between two points the square keeps tails thin: small values are more frequent than large ones.
        """
        for (low, low_value), (high, high_value) in zip(self.points, self.points[1:], strict=False):
            if fraction * 1000 < high * ONE:
                part = (fraction * 1000 - low * ONE) * 1024 // ((high - low) * ONE)
                return low_value + (high_value - low_value) * part * part // 1024**2
        return self.points[-1][1]


# The fractional parts of the powers of the plastic number's kin in three dimensions (R3 of the additive recurrences).
_STEPS = (0xD1B54A32D192ED03, 0xABC98388FB8FAC03, 0x8CB92BA72F3D8DD7)


def even_fraction(seed: int, axis: int, number: int) -> int:
    """Return the `number`-th fraction of a sequence whose every stretch fills [0, ONE) evenly.

    Independent draws would need thousands of trajectories for a mean within a few percent.
    """
    start = int.from_bytes(hashlib.sha256(f"even/{seed}/{axis}".encode()).digest()[:8], "big")
    return (start + _STEPS[axis] * number) % ONE
