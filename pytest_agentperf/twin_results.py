"""What a leaderboard's file says of a deployment that its model can be held against."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.twin import Observation, observation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry


class Measured(NamedTuple):
    """A deployment's phases and capacities."""

    phases: tuple[Observation, ...]
    capacities: dict[str, int]
    accelerators: int


def read_entry(path: Path, *, suite: str | None, system: str) -> Entry:
    """Return the one entry of a suite, of the system if there are several; raises ConfigError."""
    board = read_leaderboard(path)
    entries = [one for one in board.entries if suite is None or one.suite["name"] == suite]
    if len(entries) > 1:
        entries = [one for one in entries if one.system["name"] == system] or entries
    if len(entries) != 1:
        known = ", ".join(f"{one.suite['name']} on {one.system['name']}" for one in board.entries)
        raise ConfigError(
            f"{len(entries)} entries fit; there are: {known or 'none'}",
            where=str(path),
            remedy="name the suite with --suite, or give the leaderboard of one run",
        )
    return entries[0]


def measured(entry: Entry, deployment: str, *, at_most: int) -> Measured | None:
    """Return what is known of a deployment: its capacities and the phases that tell most; None if no phase counts."""
    phases: dict[int, Observation] = {}
    for result in entry.phases:
        # The last one at a number is the one that confirmed it.
        if result.deployment == deployment and _counts(result.kind) and not result.invalid and result.metrics:
            phases[result.n_agents] = observation(result)
    if not phases:
        return None
    tiers = [tier for tier in entry.tiers if tier.deployment == deployment and tier.agents]
    capacities = {
        tier.tier.name: tier.agents for tier in tiers if tier.agents and tier.complete and not tier.at_least
    }
    chosen = nearest(sorted(phases), sorted(set(capacities.values())), at_most)
    accelerators = next((tier.accelerators for tier in tiers), 0)
    return Measured(tuple(phases[n] for n in chosen), capacities, accelerators)


def _counts(kind: str) -> bool:
    return kind not in ("warmup", "accuracy")


def nearest(numbers: Sequence[int], capacities: Sequence[int], at_most: int) -> list[int]:
    """Choose numbers of agents: the fewest, for an unloaded system, then those around the capacities, in turn."""
    if len(numbers) <= at_most:
        return list(numbers)
    chosen = {numbers[0]}
    queues = [
        sorted(numbers, key=lambda n, c=capacity: abs(math.log(n / c)))  # type: ignore[misc]
        for capacity in capacities or [numbers[-1]]
    ]
    for rank in range(len(numbers)):
        for queue in queues:
            if len(chosen) < at_most:
                chosen.add(queue[rank])
    return sorted(chosen)
