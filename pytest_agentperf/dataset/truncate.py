"""Cutting trajectories to the context the model under test has, at turn boundaries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.estimate import prompt_bytes
from pytest_agentperf.dataset.histories import pool_histories

if TYPE_CHECKING:
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


def fit_trajectory(trajectory: Trajectory, *, max_prompt_tokens: int) -> Trajectory:
    """Return the trajectory up to its first turn whose prompt exceeds the limit; maybe with no turns at all.

    Where no prompt length was recorded, a token per 2.5 bytes of JSON is assumed, so as to cut rather too
    early.
    """
    return Fitting(max_prompt_tokens).fit(trajectory)


def estimate_tokens_at_most(size_bytes: int) -> int:
    """Return more tokens than a prompt of that size is likely to have: one per 2.5 bytes, rounded up.

    Recorded agent prompts have 3.0 to 4.8 bytes of JSON per token.
    """
    return -(-size_bytes * 2 // 5)


class Fitting:
    """Fits the trajectories of a dataset one after the other, and counts what it cuts."""

    def __init__(self, max_prompt_tokens: int) -> None:
        self._max_prompt_tokens = max_prompt_tokens
        self.longest_prompt_tokens = 0
        self._kept = self._cut = self._dropped = self._turns_dropped = self._estimated = 0

    def fit(self, trajectory: Trajectory) -> Trajectory:
        """Return what `fit_trajectory` does."""
        turns = self._turns_that_fit(trajectory)
        dropped = len(trajectory.turns) - turns
        self._turns_dropped += dropped
        if turns == 0:
            self._dropped += 1
        elif dropped:
            self._cut += 1
        else:
            self._kept += 1
        return _first_turns(trajectory, turns) if dropped else trajectory

    def report(self) -> FitReport:
        """Return what was done so far."""
        return FitReport(self._kept, self._cut, self._dropped, self._turns_dropped, self._estimated)

    def _turns_that_fit(self, trajectory: Trajectory) -> int:
        sizes: list[int] | None = None
        for k, turn in enumerate(trajectory.turns):
            tokens = turn.prompt_tokens
            if tokens is None:
                sizes = prompt_bytes(trajectory) if sizes is None else sizes
                tokens = estimate_tokens_at_most(sizes[k])
                self._estimated += 1
            if tokens > self._max_prompt_tokens:
                return k
            self.longest_prompt_tokens = max(self.longest_prompt_tokens, tokens)
        return len(trajectory.turns)


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
