"""Cutting trajectories to the context the model under test has, at turn boundaries."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.estimate import prompt_bytes
from pytest_agentperf.dataset.histories import pool_histories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory, Turn


class FitReport(NamedTuple):
    """What fitting a dataset to a context did.

    Kept and cut trajectories remain; dropped ones had no turn that fits. `estimated_counts` is the number
    of turns looked at that have no recorded prompt length.
    """

    trajectories_kept: int
    trajectories_cut: int
    trajectories_dropped: int
    turns_dropped: int
    estimated_counts: int


class _Fit(NamedTuple):
    trajectory: Trajectory
    estimated_counts: int


def fit_trajectory(trajectory: Trajectory, *, max_prompt_tokens: int) -> Trajectory:
    """Return the trajectory up to its first turn whose prompt exceeds the limit; maybe with no turns at all.

    Where no prompt length was recorded, a token per 2.5 bytes of JSON is assumed, so as to cut rather too
    early.
    """
    return _fit(trajectory, max_prompt_tokens).trajectory


def estimate_tokens_at_most(size_bytes: int) -> int:
    """Return more tokens than a prompt of that size is likely to have: one per 2.5 bytes, rounded up.

    Recorded agent prompts have 3.0 to 4.8 bytes of JSON per token.
    """
    return -(-size_bytes * 2 // 5)


def _fit(trajectory: Trajectory, max_prompt_tokens: int) -> _Fit:
    estimated = 0
    sizes: list[int] | None = None
    for k, turn in enumerate(trajectory.turns):
        tokens = turn.prompt_tokens
        if tokens is None:
            sizes = prompt_bytes(trajectory) if sizes is None else sizes
            tokens = estimate_tokens_at_most(sizes[k])
            estimated += 1
        if tokens > max_prompt_tokens:
            return _Fit(_first_turns(trajectory, k), estimated)
    return _Fit(trajectory, estimated)


def _first_turns(trajectory: Trajectory, count: int) -> Trajectory:
    """Keep `count` turns, and of the messages and tool lists only what they use."""
    kept = trajectory.turns[:count]
    pool = pool_histories([list(turn.message_indices()) for turn in kept])
    tools = sorted({turn.tools_index for turn in kept if turn.tools_index is not None})
    new_tools_index: dict[int | None, int | None] = {old: new for new, old in enumerate(tools)}
    turns: list[Turn] = [
        replace(turn, message_runs=runs, tools_index=new_tools_index.get(turn.tools_index))
        for turn, runs in zip(kept, pool.runs, strict=True)
    ]
    return replace(
        trajectory,
        messages=tuple(trajectory.messages[i] for i in pool.order),
        turns=tuple(turns),
        tool_sets=tuple(trajectory.tool_sets[i] for i in tools),
    )


class FittedSource:
    """A source whose trajectories are cut to a prompt limit, without those that have no turn left.

    Name and digest stay the underlying dataset's: the limit belongs to the suite, and the result states it.
    `ids` and `report` read the whole dataset, once; `load` reads only what it returns.
    """

    def __init__(self, source: TrajectorySource, *, max_prompt_tokens: int) -> None:
        self._source = source
        self._max_prompt_tokens = max_prompt_tokens

    @property
    def name(self) -> str:
        """Return the underlying dataset's name."""
        return self._source.name

    @property
    def digest(self) -> str:
        """Return the underlying dataset's digest."""
        return self._source.digest

    def ids(self) -> Sequence[str]:
        """Return the ids that have at least one turn, sorted; raises DatasetError if there are none."""
        return self._survey[0]

    def report(self) -> FitReport:
        """Return what was cut; raises DatasetError if nothing fits."""
        return self._survey[1]

    def load(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory, cut; raises DatasetError if none of its turns fits."""
        fitted = fit_trajectory(self._source.load(trajectory_id), max_prompt_tokens=self._max_prompt_tokens)
        if not fitted.turns:
            raise DatasetError(
                f"no turn of trajectory {trajectory_id!r} fits {self._max_prompt_tokens} prompt tokens",
                where=f"dataset {self.name}",
                remedy="use an id that ids() lists",
            )
        return fitted

    @cached_property
    def _survey(self) -> tuple[tuple[str, ...], FitReport]:
        remaining: list[str] = []
        kept = cut = dropped = turns_dropped = estimated = 0
        for trajectory_id in self._source.ids():
            whole = self._source.load(trajectory_id)
            fit = _fit(whole, self._max_prompt_tokens)
            turns = len(fit.trajectory.turns)
            turns_dropped += len(whole.turns) - turns
            estimated += fit.estimated_counts
            if turns == 0:
                dropped += 1
                continue
            remaining.append(trajectory_id)
            if turns < len(whole.turns):
                cut += 1
            else:
                kept += 1
        if not remaining:
            raise DatasetError(
                f"no trajectory has a turn within {self._max_prompt_tokens} prompt tokens",
                where=f"dataset {self.name}",
                remedy="use a longer context, a smaller max_tokens, or a dataset with shorter prompts",
            )
        return tuple(remaining), FitReport(kept, cut, dropped, turns_dropped, estimated)
