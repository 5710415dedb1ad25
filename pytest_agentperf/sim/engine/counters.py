"""What all replicas of an engine write to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_agentperf.sim.events import EngineEvent, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.sim.engine.sequence import Sequence

# A named tuple's own constructor is Python code, and costs twice as much; members of an enum are slow to find.
_make: Final[Callable[[type[EngineEvent], tuple[int, Sequence, EventKind, int]], EngineEvent]] = tuple.__new__
_SCHEDULED: Final = EventKind.SCHEDULED
_TOKENS: Final = EventKind.TOKENS
_FINISHED: Final = EventKind.FINISHED


class Counters:
    """Events not yet read, requests that have not ended, and sums."""

    __slots__ = (
        "admissions",
        "events",
        "every_chunk",
        "live",
        "preemptions",
        "prefix_hits",
        "prefix_queries",
        "prompt_tokens",
    )

    def __init__(self, *, every_chunk: bool) -> None:
        """`every_chunk=False`: of requests only their ends are events."""
        self.events: list[EngineEvent] = []
        self.live: dict[int, Sequence] = {}
        self.admissions = 0
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.prompt_tokens = 0
        self.every_chunk = every_chunk

    def scheduled(self, sequence: Sequence, now_ns: int) -> None:
        """Take note that a sequence is admitted for the first time, with what the cache knew of it computed."""
        sequence.cached_tokens = cached = sequence.computed
        self.prefix_queries += sequence.prompt
        self.prefix_hits += cached
        if self.every_chunk:
            self.events.append(EngineEvent(now_ns, sequence, _SCHEDULED, cached))

    def emit(self, sequence: Sequence, count: int, now_ns: int) -> None:
        """Let the first `count` tokens of a sequence be out."""
        reported = sequence.reported
        if not reported:
            sequence.first_ns = now_ns
            sequence.first_tokens = count
        sequence.reported = count
        if self.every_chunk:
            self.events.append(EngineEvent(now_ns, sequence, _TOKENS, count - reported))

    def finished(self, sequence: Sequence, now_ns: int) -> None:
        """Take note of a sequence's end."""
        length = sequence.length
        if length > sequence.reported and (self.every_chunk or not sequence.reported):
            self.emit(sequence, length, now_ns)
        self.events.append(_make(EngineEvent, (now_ns, sequence, _FINISHED, length)))
        del self.live[sequence.request_id]
