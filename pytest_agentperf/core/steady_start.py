"""Where agents begin so that a phase stands in its steady state at once: in the midst of trajectories.

Agents that all begin at first turns have short contexts for the length of a trajectory, twenty minutes and more. At a
moment of the steady state an agent is within a turn with a probability in proportion to how long the turn lasts; so
starts are drawn like that. They are stratified by context length (systematic sampling: Madow 1949), so that the sum
of the contexts, which most of an engine's step time hangs on, is nearly the steady state's mean in every phase, and
not that of a sample of N.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# Where no answer's length was recorded they are taken to be alike, and so the number does not matter much.
_OUTPUT_TOKENS = 150
_TTFT_S = 1.0


class TurnLoad(NamedTuple):
    """What a turn weighs."""

    context_tokens: int
    output_tokens: int | None
    tool_delay_s: float


def steady_starts(
    seed: int,
    n_agents: int,
    turns: Mapping[str, Sequence[TurnLoad]],
    *,
    output_speed_tok_s: float,
    tool_delay_max_s: float,
    attempt: int = 0,
) -> tuple[tuple[str, int], ...]:
    """Return a trajectory and a turn of it for each agent, the same ones for the same arguments.

    `output_speed_tok_s` is about what the answers come at. A further `attempt` has starts of its own: a phase that
    was not certain is followed by another sample, and not by the same one.
    """
    places = sorted(
        (
            turn.context_tokens,
            trajectory,
            number,
            _TTFT_S
            + (turn.output_tokens or _OUTPUT_TOKENS) / output_speed_tok_s
            + min(turn.tool_delay_s, tool_delay_max_s),
        )
        for trajectory, loads in turns.items()
        for number, turn in enumerate(loads)
    )
    ends = list(accumulate(place[3] for place in places))
    again = f" {attempt}" if attempt else ""
    generator = random.Random(f"steady starts {seed} {n_agents}{again}")
    offset = generator.random()
    starts: list[tuple[str, int]] = []
    index = 0
    for stratum in range(n_agents):
        position = (stratum + offset) / n_agents * ends[-1]
        while index < len(places) - 1 and ends[index] <= position:
            index += 1
        starts.append((places[index][1], places[index][2]))
    generator.shuffle(starts)
    return tuple(starts)
