"""Who is in a rank's next step: growth, then prompts that are under way, then the queue."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_agentperf.sim.engine.step_time import time_chunks

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.counters import Counters
    from pytest_agentperf.sim.engine.rank import Rank
    from pytest_agentperf.sim.engine.sequence import Sequence


def schedule(rank: Rank, step: int, now_ns: int, counters: Counters) -> int:
    """Set up the step after `step`; return for how many steps that holds."""
    preempted = _grow(rank, step, counters)
    steps = 1 if preempted else sys.maxsize
    # Who had to leave does not come back at once, unless nobody is left who could ever make room.
    admits = not (preempted and rank.running) and rank.blocked_at != rank.cache.changes
    if rank.parameters.prefills:
        steps = _fill(rank, steps, now_ns, counters, admits=admits)
    elif admits:
        _take_in(rank, now_ns, counters)
    rank.look_ahead()
    return steps


def _take_in(rank: Rank, now_ns: int, counters: Counters) -> None:
    """Let sequences that wait begin to decode, whose prompts were computed elsewhere."""
    waiting, running, cache = rank.waiting, rank.running, rank.cache
    max_batch, block_tokens = rank.parameters.max_batch, rank.parameters.block_tokens
    while waiting and len(running) < max_batch:
        sequence = waiting[0]
        blocks = -(-sequence.target // block_tokens)
        if not cache.allocate(blocks):
            rank.blocked_at = cache.changes
            break
        waiting.popleft()
        counters.admissions = sequence.order = counters.admissions + 1
        sequence.blocks = blocks
        running[sequence.request_id] = sequence
        rank.replica.join(sequence, rank, now_ns)


def _fill(rank: Rank, steps: int, now_ns: int, counters: Counters, *, admits: bool) -> int:
    """Share out the step's prompt tokens, to the oldest request first; return for how many steps that holds."""
    p = rank.parameters
    budget = p.prefill_tokens_per_step
    chunks = rank.chunks = []
    waiting, running, prefilling = rank.waiting, rank.running, rank.prefilling
    shares_early = rank.cache.sees_while_computed
    under_way = iter(prefilling.values())
    while budget:
        sequence = next(under_way, None)
        if sequence is None:
            if not (admits and waiting and len(running) < p.max_batch):
                break
            sequence = waiting[0]
            if not _admit(sequence, rank, now_ns, counters):
                rank.blocked_at = rank.cache.changes
                break
            waiting.popleft()
        tokens = sequence.target - sequence.computed
        if tokens < budget or chunks or steps == 1 or shares_early:
            steps = 1
            if tokens > budget:
                tokens = budget
        else:
            # The whole budget is its own for as many steps.
            steps, tokens = tokens // budget, budget
        chunks.append((sequence, tokens))
        budget -= tokens
    time_chunks(p, rank, p.prefill_tokens_per_step - budget)
    return steps


def _grow(rank: Rank, step: int, counters: Counters) -> bool:
    """Take the blocks that decoding needs in the step after `step`; return whether someone had to make room."""
    if rank.safe_step <= step:
        rank.charge(step)
        rank.look_ahead()
        if rank.safe_step <= step:
            preempted = rank.make_room(step + 1)
            counters.preemptions += len(preempted)
            if rank.parameters.prefills:
                rank.waiting.extendleft(preempted)
            else:
                rank.replica.handed_over.extend(preempted)
            return bool(preempted)
    rank.charge(step + 1)
    return False


def _admit(sequence: Sequence, rank: Rank, now_ns: int, counters: Counters) -> bool:
    """Let a sequence's prompt be computed, but for what the cache has of it; return whether there is room."""
    block_tokens, target = rank.parameters.block_tokens, sequence.target
    blocks = -(-target // block_tokens)
    # The last token is computed even on a full hit: its output is what the first token is drawn from.
    hits = rank.cache.admit(sequence, (target - 1) // block_tokens, blocks)
    if hits is None:
        return False
    counters.admissions = sequence.order = counters.admissions + 1
    sequence.blocks = blocks
    sequence.computed = hits * block_tokens
    rank.running[sequence.request_id] = rank.prefilling[sequence.request_id] = sequence
    if sequence.cached_tokens is None:
        counters.scheduled(sequence, now_ns)
    return True
