"""Who is in a rank's next step: growth, then prompts that are under way, then the queue."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_agentperf.sim.engine.step_time import time_chunks
from pytest_agentperf.sim.events import EngineEvent, EventKind

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.counters import Counters
    from pytest_agentperf.sim.engine.rank import Rank
    from pytest_agentperf.sim.engine.sequence import Sequence


def schedule(rank: Rank, step: int, now_ns: int, counters: Counters) -> int:
    """Set up the step after `step`, prompt tokens to the oldest request first; return for how many steps that holds."""
    p = rank.replica.parameters
    preempted = _grow(rank, step, counters)
    budget = p.prefill_tokens_per_step
    chunks = rank.chunks = []
    steps = 1 if preempted else sys.maxsize
    shares_early = rank.cache.sees_while_computed
    for sequence in rank.prefilling.values():
        tokens = sequence.target - sequence.computed
        if tokens < budget or chunks or preempted or shares_early:
            steps = 1
            if tokens > budget:
                tokens = budget
        else:
            # The whole budget is its own for as many steps.
            steps, tokens = tokens // budget, budget
        chunks.append((sequence, tokens))
        budget -= tokens
        if not budget:
            break
    waiting = rank.waiting
    while budget and waiting and not preempted and len(rank.running) < p.max_batch:
        sequence = waiting[0]
        if rank.blocked_at == rank.cache.changes:
            break
        if not _admit(sequence, rank, now_ns, counters):
            rank.blocked_at = rank.cache.changes
            break
        waiting.popleft()
        if not p.prefills:
            rank.replica.join(sequence, rank, now_ns)
            continue
        tokens = sequence.target - sequence.computed
        if tokens < budget or chunks or preempted or shares_early:
            steps = 1
            if tokens > budget:
                tokens = budget
        else:
            # The whole budget is its own for as many steps.
            steps, tokens = tokens // budget, budget
        chunks.append((sequence, tokens))
        budget -= tokens
    time_chunks(p, rank, p.prefill_tokens_per_step - budget)
    rank.look_ahead()
    return steps


def _grow(rank: Rank, step: int, counters: Counters) -> bool:
    """Take the blocks that decoding needs in the step after `step`; return whether someone had to make room."""
    if rank.safe_step <= step:
        rank.charge(step)
        rank.look_ahead()
        if rank.safe_step <= step:
            preempted = rank.make_room(step + 1)
            counters.preemptions += len(preempted)
            if rank.replica.parameters.prefills:
                rank.waiting.extendleft(preempted)
            else:
                rank.replica.handed_over.extend(preempted)
            return bool(preempted)
    rank.charge(step + 1)
    return False


def _admit(sequence: Sequence, rank: Rank, now_ns: int, counters: Counters) -> bool:
    p = rank.replica.parameters
    blocks = -(-sequence.target // p.block_tokens)
    # The last token is computed even on a full hit: its output is what the first token is drawn from.
    hits = rank.cache.admit(sequence, (sequence.target - 1) // p.block_tokens if p.prefills else 0, blocks)
    if hits is None:
        return False
    counters.admissions = sequence.order = counters.admissions + 1
    sequence.blocks = blocks
    rank.running[sequence.request_id] = sequence
    if not p.prefills:
        return True
    sequence.computed = hits * p.block_tokens
    rank.prefilling[sequence.request_id] = sequence
    if not sequence.scheduled:
        sequence.scheduled = True
        counters.prefix_queries += sequence.prompt
        counters.prefix_hits += sequence.computed
        event = EngineEvent(now_ns, sequence.request_id, EventKind.SCHEDULED, sequence.computed)
        counters.events.append(event)
    return True
