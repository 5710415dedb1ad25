"""Which worker drives which agents."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def shards(n_agents: int, weights: Sequence[float], limits: Sequence[int]) -> list[list[int]]:
    """Return the agents of each worker, in proportion to its weight (above 0), and no more than its limit.

    Neighbours in the ramp go to different workers. An agent's work depends on its id alone, so that where it runs
    changes nothing of it. Raises ValueError if the limits together are too low.
    """
    if sum(limits) < n_agents:
        raise ValueError(f"{n_agents} agents, and room for {sum(limits)}")
    found: list[list[int]] = [[] for _ in weights]
    # Each agent goes where it leaves the smallest share.
    heap = [(1 / weight, worker) for worker, weight in enumerate(weights) if limits[worker]]
    heapq.heapify(heap)
    for agent in range(n_agents):
        _, worker = heap[0]
        found[worker].append(agent)
        if (carried := len(found[worker])) < limits[worker]:
            heapq.heapreplace(heap, ((carried + 1) / weights[worker], worker))
        else:
            heapq.heappop(heap)
    return found
