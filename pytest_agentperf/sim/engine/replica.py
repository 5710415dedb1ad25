"""One replica: ranks whose steps are synchronised, advanced from one scheduling change to the next.

    begin ─► a stretch of steps in which no rank's batch changes ─► turn: who ends, who joins ─► begin …
                       ▲                                    │
                       └── cut at the next step's end, when someone arrives or leaves

A step lasts as long as its slowest rank. Within a stretch its time grows evenly with the context, so that the end of
any step has a closed form, and nothing is done per token.
"""

from __future__ import annotations

import sys
from heapq import heappop, heappush
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pytest_agentperf.sim.engine.chunk_plan import ChunkPlan
from pytest_agentperf.sim.engine.draws import NormalDraws
from pytest_agentperf.sim.engine.energy import EnergyMeter
from pytest_agentperf.sim.engine.rank import Rank
from pytest_agentperf.sim.engine.scheduling import schedule
from pytest_agentperf.sim.engine.sequence import NEVER
from pytest_agentperf.sim.engine.step_time import step_lines
from pytest_agentperf.sim.engine.stretch import Stretch, crossing_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.sim.engine.counters import Counters
    from pytest_agentperf.sim.engine.parameters import PoolParameters
    from pytest_agentperf.sim.engine.rank import PrefixCache
    from pytest_agentperf.sim.engine.sequence import Sequence
    from pytest_agentperf.sim.engine.speculation import AcceptedTokens

_by_order: Final = itemgetter(0)


class Replica:
    """Ranks in step; `wake_ns` says when `wake` has something to do next."""

    def __init__(
        self,
        parameters: PoolParameters,
        counters: Counters,
        *,
        start_ns: int,
        tokens_per_chunk: int,
        open_cache: Callable[[int, int], PrefixCache],
        accepted: AcceptedTokens | None,
        seed: int,
    ) -> None:
        self.parameters = parameters
        self.wake_ns: int | None = None
        self.handed_over: list[Sequence] = []
        """Sequences that go on elsewhere: prompts computed here, or preempted where none are computed."""
        self._counters = counters
        self._accepted = accepted
        self._draws = NormalDraws(seed)
        self.ranks = [
            Rank(
                self,
                parameters,
                open_cache(parameters.kv_blocks, parameters.block_tokens),
                accepted.mean if accepted is not None else 1.0,
            )
            for _ in range(parameters.ranks)
        ]
        self._meter = EnergyMeter(parameters, start_ns)
        self._stretch = Stretch(parameters.jitter_cv, start_ns)
        self._step = 0  # steps that had ended when the stretch began
        self._idle = True
        self._final_steps: list[int] = []  # at whose ends someone may finish, the next one first
        self._finishing: dict[
            int, list[tuple[int, Sequence]]
        ] = {}  # final step: who, with the order of admission
        self._between = ChunkPlan(tokens_per_chunk, counters)

    # What the engine tells

    def arrive(self, sequence: Sequence, rank: Rank, now_ns: int) -> bool:
        """Queue a sequence at a rank; it joins at the end of the step in flight if it can.

        Return whether that changed when to wake, or who is handed over.
        """
        sequence.rank = rank
        rank.in_flight += 1
        waiting = rank.waiting
        waiting.append(sequence)
        wake_ns = self.wake_ns
        if self._idle:
            self._begin(now_ns)
        elif (
            len(waiting) == 1
            and len(rank.running) < self.parameters.max_batch
            and rank.chunk_tokens < self.parameters.prefill_tokens_per_step
        ):
            self._cut(now_ns)
        else:
            return False
        return self.wake_ns != wake_ns or bool(self.handed_over)

    def cancel(self, sequence: Sequence, now_ns: int) -> None:
        """Drop a sequence that waits or runs here."""
        rank = sequence.rank
        if sequence.request_id not in rank.running:
            rank.waiting.remove(sequence)
            rank.blocked_at = NEVER
        else:
            done = self._stretch.steps_by(now_ns)
            if sequence.request_id in rank.prefilling:
                sequence.computed += done * next((n for s, n in rank.chunks if s is sequence), 0)
            done += self._step
            rank.charge(done + 1)
            rank.leave(sequence, done, done + 1)
        rank.in_flight -= 1
        self._look_at_queue(rank, now_ns)

    def release(self, sequence: Sequence, now_ns: int) -> None:
        """Free the blocks of a sequence that was handed over, now that they are copied."""
        rank = sequence.rank
        rank.cache.release(sequence, sequence.blocks)
        rank.in_flight -= 1
        if rank.waiting:
            self._look_at_queue(rank, now_ns)

    def wake(self, now_ns: int) -> None:
        """Do what falls due at `wake_ns`, which is now."""
        stretch = self._stretch
        if self._between.steps:
            step = self._between.steps[0]
            if step <= self._step + stretch.steps and stretch.end_of(step - self._step) == now_ns:
                self._between.emit(now_ns)
        if stretch.end_ns == now_ns:
            self._turn(now_ns)
        else:
            self._set_wake()

    # Gauges and counters at a moment up to which the replica has been advanced

    def generated_tokens(self, now_ns: int) -> int:
        """Return the tokens generated by `now_ns`."""
        step = self._step + self._stretch.steps_by(now_ns)
        return sum(r.generated + int(r.rate * step - r.rate_offset) for r in self.ranks)

    def used_blocks(self, now_ns: int) -> int:
        """Return the blocks held at `now_ns`, those of the step in flight included."""
        if not self._idle:
            step = self._step + self._stretch.steps_by(now_ns) + 1
            for rank in self.ranks:
                rank.charge(step)
        return sum(rank.cache.used for rank in self.ranks)

    def power_w(self, now_ns: int) -> float:
        """Return the power of the step in flight."""
        return self._meter.power_w(self._stretch, now_ns)

    def energy_j(self, now_ns: int) -> float:
        """Return the energy from the start to `now_ns`."""
        return self._meter.energy_j(self._stretch, now_ns)

    # The end of a stretch

    def _turn(self, now_ns: int) -> None:
        stretch = self._stretch
        steps = stretch.steps
        self._meter.end(stretch, steps, now_ns)
        self._step = step = self._step + steps
        final_steps = self._final_steps
        while final_steps and final_steps[0] <= step:
            ending = self._finishing.pop(heappop(final_steps))
            if len(ending) > 1:
                ending.sort(key=_by_order)
            for _, sequence in ending:
                if sequence.final_step == step:
                    self._finish(sequence, now_ns)
        if self.parameters.prefills:
            for rank in self.ranks:
                if rank.chunks:
                    self._end_chunks(rank, steps, now_ns)
        self._begin(now_ns)

    def _end_chunks(self, rank: Rank, steps: int, now_ns: int) -> None:
        chunks = rank.chunks
        rank.chunks = []
        prefilling, cache, counters = rank.prefilling, rank.cache, self._counters
        sends_first, decodes = self.parameters.sends_first, self.parameters.decodes
        for sequence, tokens in chunks:
            request_id = sequence.request_id
            if prefilling.get(request_id) is not sequence:
                continue
            sequence.computed += tokens * steps
            if cache.sees_while_computed:
                cache.computed(sequence)
            if sequence.computed < sequence.target:
                continue
            del prefilling[request_id]
            sequence.emitted = count = sequence.emitted + 1
            rank.generated += 1
            if count == 1:
                counters.prompt_tokens += sequence.prompt
                if sends_first:
                    counters.emit(sequence, 1, now_ns)
            if count == sequence.length:
                self._finish(sequence, now_ns)
            elif decodes:
                self._between.catch_up(sequence, now_ns)
                self.join(sequence, rank, now_ns)
            else:
                del rank.running[request_id]
                self.handed_over.append(sequence)

    def _finish(self, sequence: Sequence, now_ns: int) -> None:
        rank = sequence.rank
        step = self._step
        if rank.charged < step and sequence.final_step != NEVER:
            rank.charge(step)
        rank.leave(sequence, step, step)
        rank.in_flight -= 1
        self._counters.finished(sequence, now_ns)

    # The beginning of a stretch

    def _begin(self, now_ns: int) -> None:
        p = self.parameters
        step = self._step
        growth_limit = sys.maxsize
        chunk_steps = sys.maxsize
        slowest_ns = -1.0
        slowest_growth_ns = 0.0
        sequences = 0
        context = rate = chunk_ns = chunk_growth_ns = 0.0
        running = False
        base_ns, per_sequence_ns, per_context_ns = p.base_ns, p.per_sequence_ns, p.per_context_token_ns
        overlap = p.overlap
        for rank in self.ranks:
            if rank.waiting or rank.prefilling or rank.chunk_tokens or rank.safe_step <= step:
                steps = schedule(rank, step, now_ns, self._counters)
                if steps < chunk_steps:
                    chunk_steps = steps
            if not rank.running:
                continue
            running = True
            if rank.safe_step < growth_limit:
                growth_limit = rank.safe_step
            compute_ns = own_chunk_ns = rank.chunk_ns
            memory_ns = base_ns
            growth_ns = memory_growth_ns = 0.0
            if decoding := rank.decoding:
                own_rate = rank.rate
                tokens = rank.joined_tokens + own_rate * step - rank.rate_offset
                sequences += decoding
                context += tokens
                rate += own_rate
                memory_ns += per_context_ns * tokens
                compute_ns += per_sequence_ns * decoding
                memory_growth_ns = per_context_ns * own_rate
            if own_chunk_ns:
                chunk_ns += own_chunk_ns
                growth_ns = rank.chunk_growth_ns
                chunk_growth_ns += growth_ns
            if not overlap:
                ns = memory_ns + compute_ns
                growth_ns += memory_growth_ns
            elif memory_ns >= compute_ns:
                ns = memory_ns
                growth_ns = memory_growth_ns
            else:
                ns = compute_ns
            if ns > slowest_ns:
                slowest_ns, slowest_growth_ns = ns, growth_ns
        if not running:
            self._idle = True
            self.wake_ns = None
            self._stretch.begin(now_ns, 0, 0.0, 0.0, 0.0)
            self._meter.idle()
            return
        self._idle = False
        limit = growth_limit - step
        if chunk_steps < limit:
            limit = chunk_steps
        final_steps, finishing = self._final_steps, self._finishing
        while final_steps:
            final = final_steps[0]
            if any(sequence.final_step == final for _, sequence in finishing[final]):
                if final - step < limit:
                    limit = final - step
                break
            # All who would have ended there have left.
            del finishing[heappop(final_steps)]
        if limit > 1 and (len(self.ranks) > 1 or overlap):
            limit = int(
                min(limit, crossing_steps(step_lines(p, self.ranks, step), slowest_ns, slowest_growth_ns))
            )
        self._stretch.begin(
            now_ns,
            limit,
            p.overhead_ns + slowest_ns,
            slowest_growth_ns,
            self._draws.draw() if p.jitter_cv else 0.0,
        )
        self._meter.begin(sequences, context, rate, chunk_ns, chunk_growth_ns)
        self._set_wake()

    def join(self, sequence: Sequence, rank: Rank, now_ns: int) -> None:
        """Let a sequence decode from the next step on; a first token that the prefill kept back goes out before."""
        if not sequence.reported:
            self._counters.emit(sequence, 1, now_ns)
        left = sequence.length - sequence.emitted
        steps = left if self._accepted is None else self._accepted.draw_steps(left, self._draws.draw())
        rank.join(sequence, self._step, steps)
        final = sequence.final_step
        finishing = self._finishing.get(final)
        if finishing is None:
            self._finishing[final] = [(sequence.order, sequence)]
            heappush(self._final_steps, final)
        else:
            finishing.append((sequence.order, sequence))
        if self._counters.every_chunk:
            self._between.plan(sequence)

    # Time

    def _look_at_queue(self, rank: Rank, now_ns: int) -> None:
        if not self._idle:
            self._cut(now_ns)
        elif rank.waiting:
            self._begin(now_ns)

    def _cut(self, now_ns: int) -> None:
        """End the stretch with the step in flight."""
        stretch = self._stretch
        if stretch.steps > 1:
            steps = stretch.steps_by(now_ns) + 1
            if steps < stretch.steps:
                stretch.shorten(steps)
                self._set_wake()

    def _set_wake(self) -> None:
        stretch = self._stretch
        chunk_steps = self._between.steps
        if chunk_steps and chunk_steps[0] - self._step < stretch.steps:
            self.wake_ns = stretch.end_of(chunk_steps[0] - self._step)
        else:
            self.wake_ns = stretch.end_ns
