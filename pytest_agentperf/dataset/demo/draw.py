"""Deterministic choices that are the same on every Python version and machine."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Draw:
    """A stream of integers from SHA-256 in counter mode; equal labels give equal streams.

    Not `random.Random`: only its `random()` is promised to stay the same between Python versions.
    """

    def __init__(self, *labels: str | int) -> None:
        self._key = "/".join(str(label) for label in labels)
        self._counter = 0

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound); for small bounds the modulus has no bias to speak of."""
        block = hashlib.sha256(f"{self._key}#{self._counter}".encode()).digest()
        self._counter += 1
        return int.from_bytes(block[:8], "big") % bound

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` different positions' options, in drawn order."""
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

    def chance(self, percent: int) -> bool:
        """Return True in `percent` of the cases."""
        return self.below(100) < percent

    def hex(self, digits: int) -> str:
        """Return that many random hex digits."""
        return "".join(self.pick("0123456789abcdef") for _ in range(digits))
