"""What a dataset's requests weigh: tokens and tool delays per turn, all that a rehearsal needs of it."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.steady_start import TurnLoad
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX_TOKENS = 80
"""Of the isolation prefix: 128 hex characters, of which tokenizers make one token per 1.5 to 2."""


class TurnTokens(NamedTuple):
    """One request."""

    prompt: int
    """With the isolation prefix."""
    shared: int
    """Leading tokens that an earlier turn of the trajectory sent too: what a prefix cache can have."""
    output: int | None
    """The recorded answer's, None where it was not recorded."""


class TokenTable:
    """The turns of every trajectory, and the tool delay after each."""

    def __init__(
        self,
        turns: Mapping[str, Sequence[TurnTokens]],
        tool_delays_ns: Mapping[str, Sequence[int]],
        *,
        estimated: int,
    ) -> None:
        """`estimated`: of how many turns the prompt was not recorded, and its tokens were estimated from bytes."""
        self.turns = dict(turns)
        self.estimated = estimated
        self._tool_delays_ns = dict(tool_delays_ns)
        self._prompts: dict[str, tuple[array[int], array[int]]] = {}

    def prompts(self, trajectory: str) -> tuple[Sequence[int], Sequence[int]]:
        """Return `prompt` and `shared` of all turns of a trajectory, packed, as they are read at random."""
        found = self._prompts.get(trajectory)
        if found is None:
            turns = self.turns[trajectory]
            found = array("q", (turn.prompt for turn in turns)), array("q", (turn.shared for turn in turns))
            self._prompts[trajectory] = found
        return found

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        """Return the delay after each turn of a trajectory."""
        return self._tool_delays_ns[trajectory]

    def turn_loads(self) -> dict[str, list[TurnLoad]]:
        """Return what every turn weighs in a steady state."""
        return {
            trajectory: [
                TurnLoad(turn.prompt, turn.output, delay_ns / NS_PER_S)
                for turn, delay_ns in zip(turns, self._tool_delays_ns[trajectory], strict=True)
            ]
            for trajectory, turns in self.turns.items()
        }

    def without_output(self) -> tuple[str, int] | None:
        """Return the first turn, as trajectory and number in it, whose answer's length was not recorded."""
        for trajectory, turns in self.turns.items():
            for number, turn in enumerate(turns):
                if turn.output is None:
                    return trajectory, number
        return None
