"""How long steps take: the time of a rank's prompt tokens, and its line of time over steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.sim.engine.parameters import PoolParameters
    from pytest_agentperf.sim.engine.rank import Rank


def time_chunks(p: PoolParameters, rank: Rank, total: int) -> None:
    """Set how long the rank's prompt tokens take in the next step, `total` in all, and by how much that grows."""
    rank.chunk_tokens = total
    slowdown = p.prefill_slowdown_per_token
    if not slowdown or not total:
        rank.chunk_ns = p.per_prefill_token_ns * total
        rank.chunk_growth_ns = 0.0
        return
    weighted = sum(n * (1 + slowdown * (s.computed + n / 2)) for s, n in rank.chunks)
    rank.chunk_ns = p.per_prefill_token_ns * weighted
    rank.chunk_growth_ns = p.per_prefill_token_ns * slowdown * total**2


def step_lines(p: PoolParameters, ranks: Iterable[Rank], step: int) -> list[tuple[float, float]]:
    """Return what could decide the time after `step`: nanoseconds of the next step, and by how much they grow."""
    lines = []
    for rank in ranks:
        if rank.running:
            memory_ns = p.base_ns + p.per_context_token_ns * rank.context_at(step)
            compute_ns = p.per_sequence_ns * rank.decoding + rank.chunk_ns
            memory_growth_ns = p.per_context_token_ns * rank.rate
            if p.overlap:
                lines += [(memory_ns, memory_growth_ns), (compute_ns, rank.chunk_growth_ns)]
            else:
                lines.append((memory_ns + compute_ns, memory_growth_ns + rank.chunk_growth_ns))
    return lines
