"""What goes into the engine and what comes out of it; all times are integer nanoseconds."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pytest_agentperf.sim.engine.sequence import Sequence


class EngineRequest(NamedTuple):
    """What the engine knows of a request, whatever its text.

    `shared_tokens` says how many of the prompt's first tokens the session's previous prompt began with, too. Where
    prompts are at hand, `block_hashes` has one chained hash per full block of the prompt, and finds what any
    earlier prompt had in common with it.
    """

    request_id: int
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    session: int = 0
    shared_tokens: int = 0
    block_hashes: Items[int] = ()


class EventKind(Enum):
    """What happened; in parentheses what `EngineEvent.amount` then holds."""

    SCHEDULED = "scheduled"  # first admitted (prompt tokens found in the cache)
    TOKENS = "tokens"  # emitted (tokens in this chunk)
    FINISHED = "finished"  # the last token was emitted (tokens of the answer)
    REJECTED = "rejected"  # can never fit into the cache (blocks it would need)


class EngineEvent(NamedTuple):
    """Something that happened to one request at an exact time."""

    time_ns: int
    sequence: Sequence
    kind: EventKind
    amount: int

    @property
    def request_id(self) -> int:
        """Return which request it happened to."""
        return self.sequence.request_id


class EngineStats(NamedTuple):
    """Gauges and counters at one moment; power and energy are those of all accelerators together."""

    running: int
    waiting: int
    kv_usage: float
    prefix_query_tokens: int
    prefix_hit_tokens: int
    prompt_tokens: int
    generation_tokens: int
    preemptions: int
    energy_j: float
    power_w: float
