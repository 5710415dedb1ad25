"""How many bytes a request's prompt has: what token estimates start from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.steady_start import TurnLoad
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

BYTES_PER_TOKEN = 4


def prompt_bytes(trajectory: Trajectory) -> list[int]:
    """Return, per turn, the size of its messages and tools as compact UTF-8 JSON."""
    messages = [_utf8_bytes(message) for message in trajectory.messages]
    tool_sets = [_utf8_bytes(tools) for tools in trajectory.tool_sets]
    return [
        sum(messages[i] for i in turn.message_indices())
        + (0 if turn.tools_index is None else tool_sets[turn.tools_index])
        for turn in trajectory.turns
    ]


def turn_loads(trajectory: Trajectory) -> list[TurnLoad]:
    """Return what every turn weighs in a steady state; prompts that were not counted by their bytes."""
    turns = trajectory.turns
    sizes = (
        prompt_bytes(trajectory) if any(turn.prompt_tokens is None for turn in turns) else [0] * len(turns)
    )
    return [
        TurnLoad(
            -(-size // BYTES_PER_TOKEN) if turn.prompt_tokens is None else turn.prompt_tokens,
            turn.output_tokens,
            turn.tool_delay_ns / NS_PER_S,
        )
        for turn, size in zip(turns, sizes, strict=True)
    ]


def _utf8_bytes(value: Any) -> int:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Recordings may hold unpaired surrogates, which plain UTF-8 refuses.
    return len(text.encode("utf-8", "surrogatepass"))
