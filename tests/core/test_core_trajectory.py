from __future__ import annotations

from typing import Any

import pytest

from pytest_agentperf.core.trajectory import Trajectory, Turn

MESSAGES = tuple({"role": "user", "content": str(i)} for i in range(5))


def trajectory(*turns: Turn, **changes: Any) -> Trajectory:
    return Trajectory(**{"id": "t1", "messages": MESSAGES, "turns": turns, **changes})


def test_a_request_is_its_runs_of_messages_in_order() -> None:
    turn = Turn(message_runs=((0, 2), (4, 5), (2, 3)), tool_delay_ns=0)
    assert list(turn.message_indices()) == [0, 1, 4, 2]
    found = trajectory(turn).request_messages(turn)
    assert [message["content"] for message in found] == ["0", "1", "4", "2"]


def test_all_messages_and_zero_delay_are_fine() -> None:
    trajectory(Turn(((0, 5),), 0), Turn(((4, 5),), 1))
    trajectory(Turn(((0, 1),), 0, tools_index=0), tool_sets=(({"name": "f"},),))


@pytest.mark.parametrize("run", [(0, 0), (2, 2), (3, 2), (-1, 2), (0, 6), (5, 6)])
def test_a_run_outside_the_messages_is_refused(run: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"trajectory 't1', turn 1: message run .* outside 0\.\.5"):
        trajectory(Turn(((0, 1),), 0), Turn(((0, 1), run), 0))


def test_a_turn_without_messages_is_refused() -> None:
    with pytest.raises(ValueError, match="turn 0: no messages"):
        trajectory(Turn((), 0))


@pytest.mark.parametrize("index", [-1, 1])
def test_a_tool_set_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"turn 0: tools_index {index} outside 0..1"):
        trajectory(Turn(((0, 1),), 0, tools_index=index), tool_sets=(({"name": "f"},),))


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="turn 0: negative tool delay"):
        trajectory(Turn(((0, 1),), -1))


def test_an_id_is_needed() -> None:
    with pytest.raises(ValueError, match="needs an id"):
        trajectory(id="")
