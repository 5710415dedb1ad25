"""Which recorded reasoning a request's history carries, as the model's API documents it.

The policy belongs to the suite. Token counts stay those of the recording, which is an upper bound once text
is gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_agentperf.dataset.histories import pool_histories

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Message, Trajectory, Turn

HistoryReasoning = Literal["none", "current_turn", "all"]

_FIELD = "reasoning_content"


class _Variant(NamedTuple):
    """A stored message, as recorded or without its reasoning."""

    message_index: int
    stripped: bool


def trim_reasoning(trajectory: Trajectory, policy: HistoryReasoning) -> Trajectory:
    """Return the trajectory with the reasoning text of assistant messages kept as the policy says.

    `none` drops it everywhere, `all` keeps it. `current_turn` keeps it after the last user message of each
    request: the next user message makes it disappear, so one message may be sent with it first and without
    it later.
    """
    if policy == "all" or not any(_has_reasoning(message) for message in trajectory.messages):
        return trajectory
    histories = [_variants(trajectory, turn, policy) for turn in trajectory.turns]
    pool = pool_histories(histories)
    return replace(
        trajectory,
        messages=tuple(_message(trajectory, variant) for variant in pool.order),
        turns=tuple(
            replace(turn, message_runs=runs) for turn, runs in zip(trajectory.turns, pool.runs, strict=True)
        ),
    )


def _has_reasoning(message: Message) -> bool:
    return message.get("role") == "assistant" and _FIELD in message


def _variants(trajectory: Trajectory, turn: Turn, policy: HistoryReasoning) -> list[_Variant]:
    indices = list(turn.message_indices())
    keep_from = len(indices)
    if policy == "current_turn":
        users = (
            at
            for at in reversed(range(len(indices)))
            if trajectory.messages[indices[at]].get("role") == "user"
        )
        keep_from = next(users, -1) + 1
    return [
        _Variant(i, stripped=at < keep_from and _has_reasoning(trajectory.messages[i]))
        for at, i in enumerate(indices)
    ]


def _message(trajectory: Trajectory, variant: _Variant) -> Message:
    message = trajectory.messages[variant.message_index]
    return {name: value for name, value in message.items() if name != _FIELD} if variant.stripped else message
