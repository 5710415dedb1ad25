"""Steps in which nothing changes but the context, which grows evenly: their times in closed form.

Step i of a stretch (from 0) takes first_ns + growth_ns · i, so j steps take j · first_ns + growth_ns · j (j − 1) / 2.
Jitter is drawn once a stretch: its first j steps take a lognormal factor longer whose mean is 1 and whose
coefficient of variation is that of one step divided by √j, as the mean of j independent ones has.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final

# A stretch of two steps must not end before one of one step: true of lognormal factors below this.
MAX_DEVIATION: Final = 4.0


class Stretch:
    """The stretch in flight of one replica; times are those of its start and of its first j steps."""

    __slots__ = ("_cv_squared", "_deviation", "end_ns", "first_ns", "growth_ns", "start_ns", "steps")

    def __init__(self, jitter_cv: float, start_ns: int) -> None:
        self._cv_squared = jitter_cv**2
        self._deviation = 0.0
        self.start_ns = start_ns
        self.steps = 0
        self.first_ns = 0.0
        self.growth_ns = 0.0
        self.end_ns = start_ns

    def begin(self, start_ns: int, steps: int, first_ns: float, growth_ns: float, deviation: float) -> None:
        """Start anew; `deviation` is a draw from the standard normal distribution."""
        self.start_ns = start_ns
        self.steps = steps
        self.first_ns = first_ns
        self.growth_ns = growth_ns
        if deviation:
            deviation = max(-MAX_DEVIATION, min(MAX_DEVIATION, deviation))
        self._deviation = deviation
        self.end_ns = self.end_of(steps)

    def shorten(self, steps: int) -> None:
        """End after fewer steps than planned."""
        self.steps = steps
        self.end_ns = self.end_of(steps)

    def exact_ns(self, steps: int) -> float:
        """Return how long the first steps take without jitter."""
        return steps * (self.first_ns + self.growth_ns * (steps - 1) / 2)

    def end_of(self, steps: int) -> int:
        """Return when the first `steps` steps have ended."""
        ns = steps * (self.first_ns + self.growth_ns * (steps - 1) / 2)
        if self._cv_squared and steps:
            variance = math.log1p(self._cv_squared / steps)
            ns *= math.exp(math.sqrt(variance) * self._deviation - variance / 2)
        return self.start_ns + max(steps, round(ns))

    def steps_by(self, now_ns: int) -> int:
        """Return how many steps have ended by `now_ns`, of those in the stretch."""
        if now_ns >= self.end_ns:
            return self.steps
        if self.steps <= 1:
            return 0
        if self._cv_squared:
            return bisect_right(range(1, self.steps + 1), now_ns, key=self.end_of)
        linear_ns = self.first_ns - self.growth_ns / 2
        elapsed_ns = max(0, now_ns - self.start_ns)
        # The positive root of growth / 2 · j² + linear · j = elapsed, in the form that survives a growth of zero.
        root = math.sqrt(linear_ns * linear_ns + 2 * self.growth_ns * elapsed_ns)
        steps = int(2 * elapsed_ns / (linear_ns + root))
        while self.end_of(steps + 1) <= now_ns:
            steps += 1
        while steps and self.end_of(steps) > now_ns:
            steps -= 1
        return steps


def crossing_steps(lines: list[tuple[float, float]], first_ns: float, growth_ns: float) -> float:
    """Return for how many steps the line (first_ns, growth_ns) stays the highest of all lines."""
    steps = math.inf
    for other_ns, other_growth_ns in lines:
        if other_growth_ns > growth_ns:
            steps = min(steps, (first_ns - other_ns) // (other_growth_ns - growth_ns) + 1)
    return steps
