"""Which sequence says something in which step, between its first token and its end."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from pytest_agentperf.sim.engine.sequence import NEVER

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.counters import Counters
    from pytest_agentperf.sim.engine.sequence import Sequence


class ChunkPlan:
    """The chunks to come of one replica; they change nothing in its batch."""

    __slots__ = ("_counters", "_due", "_tokens_per_chunk", "steps")

    def __init__(self, tokens_per_chunk: int, counters: Counters) -> None:
        self.steps: list[int] = []
        """Steps at whose end there is something to emit, the next one first."""
        self._tokens_per_chunk = tokens_per_chunk
        self._counters = counters
        self._due: dict[int, list[tuple[int, Sequence]]] = {}

    def plan(self, sequence: Sequence) -> None:
        """Plan the next chunk of a sequence that decodes; the last one comes with its end."""
        count = sequence.reported + self._tokens_per_chunk
        if count >= sequence.length:
            return
        step = sequence.join_step - (sequence.emitted - count) * sequence.steps // sequence.left
        if step >= sequence.final_step:
            return
        due = self._due.get(step)
        if due is None:
            self._due[step] = due = []
            heappush(self.steps, step)
        due.append((sequence.order, sequence))

    def emit(self, now_ns: int) -> None:
        """Emit what is due at the end of the next step, in order of admission."""
        step = heappop(self.steps)
        for order, sequence in sorted(self._due.pop(step), key=lambda due: due[0]):
            if sequence.final_step != NEVER and sequence.order == order:
                self._counters.emit(sequence, sequence.emitted_at(step), now_ns)
                self.plan(sequence)

    def catch_up(self, sequence: Sequence, now_ns: int) -> None:
        """Emit the chunk that a sequence is about to owe as it begins to decode again."""
        if sequence.emitted - sequence.reported >= self._tokens_per_chunk:
            self._counters.emit(sequence, sequence.emitted, now_ns)
