"""One attention rank: its queue, its batch, its KV cache.

Decoding sequences need another block every `period` steps, each at its own phase. The rank counts sequences by phase,
and charges the blocks of many steps at once when something else happens to its cache, in the order in which they
would have been taken one by one.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Protocol

from pytest_agentperf.sim.engine.sequence import NEVER

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.parameters import PoolParameters
    from pytest_agentperf.sim.engine.replica import Replica
    from pytest_agentperf.sim.engine.sequence import Sequence


class PrefixCache(Protocol):
    """Blocks of a rank, and what a prompt finds of itself in them."""

    capacity: int
    evictions: int
    changes: int

    @property
    def sees_while_computed(self) -> bool:
        """Return whether others find a prompt's blocks before its request ends."""

    @property
    def used(self) -> int:
        """Return the blocks that sequences hold."""

    @property
    def idle(self) -> int:
        """Return the cached blocks that no sequence holds."""

    def allocate(self, blocks: int) -> bool:
        """Take blocks, evicting idle ones as needed; all or none."""

    def admit(self, sequence: Sequence, hit_limit: int, blocks: int) -> int | None:
        """Take `blocks` blocks, at most `hit_limit` of them found; return how many, None if there is no room."""

    def computed(self, sequence: Sequence) -> None:
        """Take note that more of a prompt is computed."""

    def release(self, sequence: Sequence, blocks: int) -> None:
        """Let go of the blocks of a sequence; what it computed of its prompt stays until it is evicted."""


class Rank:
    """A scheduler's share of the work: first come, first served, within batch, budget and blocks."""

    __slots__ = (
        "_phases",
        "assigned",
        "blocked_at",
        "cache",
        "charged",
        "chunk_growth_ns",
        "chunk_ns",
        "chunk_tokens",
        "chunks",
        "decoding",
        "generated",
        "in_flight",
        "joined_tokens",
        "parameters",
        "period",
        "prefilling",
        "rate",
        "rate_offset",
        "replica",
        "running",
        "safe_step",
        "waiting",
    )

    def __init__(
        self, replica: Replica, parameters: PoolParameters, cache: PrefixCache, tokens_per_step: float
    ) -> None:
        self.replica = replica
        self.cache = cache
        self.parameters = parameters
        self.period = max(1, round(parameters.block_tokens / tokens_per_step))
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}  # in order of admission
        self.prefilling: dict[int, Sequence] = {}
        self.in_flight = 0  # requests that the router sent and that have not ended
        self.assigned = 0  # sessions that the router sent
        self.generated = 0  # tokens, but for those of the sequences that decode, since they joined
        self.blocked_at = NEVER  # cache.changes when the head of the queue last did not fit
        # Prompt tokens of each step in the stretch; more than one sequence only in a stretch of one step.
        self.chunks: list[tuple[Sequence, int]] = []
        self.chunk_tokens = 0
        self.chunk_ns = 0.0
        self.chunk_growth_ns = 0.0
        # Tokens in the decoding sequences after step s: joined_tokens + rate · s − rate_offset.
        self.decoding = 0
        self.joined_tokens = 0
        self.rate = 0.0
        self.rate_offset = 0.0
        self._phases = [0] * self.period
        self.charged = 0  # step up to whose beginning the cache knows of growth
        self.safe_step = sys.maxsize  # no shortage of blocks up to this step

    def context_at(self, step: int) -> float:
        """Return the tokens in the decoding sequences at the end of `step`."""
        return self.joined_tokens + self.rate * step - self.rate_offset

    def join(self, sequence: Sequence, step: int, steps: int) -> None:
        """Let a sequence decode its remaining tokens in `steps` steps after `step`."""
        if self.charged < step:
            self.charge(step)
        emitted = sequence.emitted
        tokens = sequence.prompt + emitted
        left = sequence.length - emitted
        sequence.join_step = step
        sequence.left = left
        sequence.steps = steps
        sequence.final_step = step + steps
        # Dyadic, so that sums of rates and their products with steps are exact.
        sequence.rate = rate = 1 if left == steps else (left << 12) // steps / 4096
        self.decoding += 1
        self.joined_tokens += tokens
        self.rate += rate
        self.rate_offset += rate * step
        # A step stores the KV of the token before it.
        block_tokens = self.parameters.block_tokens
        room = sequence.blocks * block_tokens - tokens + 1
        if left != steps:
            room = -(-room * steps // left)
        first = step + 1 + room
        if first > self.charged + self.period:
            # Within a period of what is charged, or its phase would count once too often.
            first = self.charged + self.period
        sequence.first_growth = first
        sequence.growth_phase = phase = first % self.period
        self._phases[phase] += 1
        self.safe_step = NEVER

    def leave(self, sequence: Sequence, done_step: int, growth_step: int) -> None:
        """Take a sequence out of the batch after `done_step`; it has grown up to `growth_step`."""
        del self.running[sequence.request_id]
        blocks = sequence.blocks
        if sequence.final_step != NEVER:
            whole = done_step == sequence.final_step
            emitted = sequence.length if whole else sequence.emitted_at(done_step)
            self.generated += emitted - sequence.emitted
            grown = growth_step - sequence.first_growth
            if grown >= 0:
                blocks += grown // self.period + 1
            sequence.final_step = NEVER
            self._phases[sequence.growth_phase] -= 1
            self.decoding -= 1
            self.joined_tokens -= sequence.prompt + sequence.emitted
            self.rate -= sequence.rate
            self.rate_offset -= sequence.rate * sequence.join_step
            sequence.emitted = emitted
        else:
            self.prefilling.pop(sequence.request_id, None)
        self.cache.release(sequence, blocks)

    def charge(self, step: int) -> None:
        """Take the blocks that decoding needed up to the beginning of `step`; there must be no shortage."""
        steps = step - self.charged
        if steps <= 0:
            return
        if self.decoding:
            blocks = 0
            if steps >= self.period:
                cycles, steps = divmod(steps, self.period)
                blocks = cycles * self.decoding
            if steps:
                blocks += self._growth(self.charged + 1, steps)
            if blocks:
                self.cache.allocate(blocks)
        self.charged = step

    def _growth(self, first_step: int, steps: int) -> int:
        first = first_step % self.period
        last = first + steps
        if steps == 1:
            return self._phases[first]
        wrapped = last - self.period
        if wrapped <= 0:
            return sum(self._phases[first:last])
        return sum(self._phases[first:]) + sum(self._phases[:wrapped])

    def look_ahead(self) -> None:
        """Set `safe_step`, from the growth that is charged, to a step up to which blocks suffice."""
        if not self.decoding:
            self.safe_step = sys.maxsize
            return
        room = self.cache.capacity - self.cache.used
        step = self.charged
        cycles = room // self.decoding
        if cycles:
            step += cycles * self.period
        else:
            while (room := room - self._phases[(step + 1) % self.period]) >= 0:
                step += 1
        self.safe_step = step

    def make_room(self, step: int) -> list[Sequence]:
        """Take the blocks that `step` needs, one by one; return whom the youngest had to leave for."""
        preempted: list[Sequence] = []
        phase = step % self.period
        growing = [s for s in self.running.values() if s.final_step != NEVER and s.growth_phase == phase]
        grown = set()
        for sequence in growing:
            while sequence.final_step != NEVER and not self.cache.allocate(1):
                youngest = next(reversed(self.running.values()))
                self._preempt(youngest, step - 1, step if youngest.request_id in grown else step - 1)
                preempted.append(youngest)
            if sequence.final_step != NEVER:
                grown.add(sequence.request_id)
        self.charged = step
        return preempted

    def _preempt(self, sequence: Sequence, done_step: int, growth_step: int) -> None:
        self.leave(sequence, done_step, growth_step)
        sequence.target = sequence.prompt + sequence.emitted
        self.blocked_at = NEVER
