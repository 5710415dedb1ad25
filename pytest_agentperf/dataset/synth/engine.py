"""Synthesising a dataset: plans first, then their text, in as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from pytest_agentperf.dataset.documents import DatasetMetadata
from pytest_agentperf.dataset.synth.plan import TrajectoryPlan, plan_trajectories
from pytest_agentperf.dataset.synth.profiles import Profile, profile_named
from pytest_agentperf.dataset.synth.story import write_trajectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_agentperf.core.trajectory import Trajectory

# Below this, starting processes takes longer than they save.
_FEW_TRAJECTORIES = 8
_AHEAD_PER_WORKER = 4


def synthesize(
    profile: Profile | str,
    *,
    trajectories: int,
    seed: int,
    max_context_tokens: int | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Trajectory]:
    """Yield trajectories in order of their ids, the same for any number of workers.

    `progress` is called with the number made so far and the number to make. Only a few trajectories per worker are in
    memory at a time.
    """
    chosen = profile_named(profile) if isinstance(profile, str) else profile
    plans = plan_trajectories(
        chosen, trajectories=trajectories, seed=seed, max_context_tokens=max_context_tokens
    )
    write = partial(write_trajectory, profile=chosen.name, seed=seed)
    count = min(workers or os.cpu_count() or 1, trajectories)
    made = (
        map(write, plans)
        if count <= 1 or trajectories < _FEW_TRAJECTORIES
        else _parallel(write, plans, count)
    )
    for done, trajectory in enumerate(made, 1):
        yield trajectory
        if progress is not None:
            progress(done, trajectories)


def _parallel(
    write: Callable[[TrajectoryPlan], Trajectory], plans: Iterator[TrajectoryPlan], workers: int
) -> Iterator[Trajectory]:
    # Spawned, since the caller may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[Future[Trajectory]] = deque()
        try:
            for plan in plans:
                waiting.append(pool.submit(write, plan))
                if len(waiting) >= workers * _AHEAD_PER_WORKER:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def synthesis_metadata(
    profile: Profile, *, trajectories: int, seed: int, max_context_tokens: int | None = None
) -> DatasetMetadata:
    """Return what `dataset.yaml` states about a synthesised dataset."""
    context = max_context_tokens or profile.max_context_tokens
    return DatasetMetadata(
        name=profile.name,
        version="1",
        licence="Apache-2.0",
        provenance=(
            f"Synthesised by pytest-agentperf: profile {profile.name}, {trajectories} trajectories, seed {seed}, contexts "
            f"of up to {context} tokens. No recording, no model and no foreign code is behind it."
        ),
        estimated="calibrated bytes per token",
    )
