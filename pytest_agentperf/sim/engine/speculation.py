"""How many decoding steps an answer takes when drafts are accepted or not.

Of `draft_tokens` drafts each is accepted with the same probability if those before it were, and the target model adds
one token of its own: a step yields 1 to draft_tokens + 1 tokens (Leviathan et al., ICML 2023). The number of steps that
yield a whole answer is drawn at once, from the normal distribution that renewal theory gives it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.config.engine import Speculation


class AcceptedTokens:
    """The distribution of the tokens of a step."""

    __slots__ = ("_most", "_overshoot", "_spread", "mean")

    def __init__(self, speculation: Speculation) -> None:
        rate, drafts = speculation.acceptance_rate, speculation.draft_tokens
        # P(more than i tokens) = rate ** i for i up to `drafts`.
        tails = [rate**i for i in range(drafts + 1)]
        self.mean = sum(tails)
        square = sum((2 * i + 1) * tail for i, tail in enumerate(tails))
        variance = square - self.mean**2
        self._most = drafts + 1
        # Tokens that the last step yields beyond the answer's end, on average: the lattice's excess.
        self._overshoot = (square / self.mean - 1) / 2
        self._spread = math.sqrt(variance / self.mean**3)

    def draw_steps(self, tokens: int, draw: float) -> int:
        """Return in how many steps `tokens` tokens come out; `draw` is one from the standard normal distribution."""
        steps = (tokens + self._overshoot) / self.mean + self._spread * math.sqrt(tokens) * draw
        drawn, fewest = round(steps), -(-tokens // self._most)
        if drawn < fewest:
            return fewest
        return drawn if drawn < tokens else tokens
