"""What all replicas of an engine write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.sequence import Sequence
    from pytest_agentperf.sim.events import EngineEvent


class Counters:
    """Events not yet read, requests that have not ended, and sums."""

    __slots__ = (
        "admissions",
        "events",
        "live",
        "preemptions",
        "prefix_hits",
        "prefix_queries",
        "prompt_tokens",
    )

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.live: dict[int, Sequence] = {}
        self.admissions = 0
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.prompt_tokens = 0
