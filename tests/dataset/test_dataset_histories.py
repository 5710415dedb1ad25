from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from dataset_support import built, message, request, requests, trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import canonical_json, dataset_digest, trajectory_digest
from pytest_agentperf.dataset.histories import RecordedRequest, pool_histories

if TYPE_CHECKING:
    from collections.abc import Sequence


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), max_size=8))
def test_pooling_reproduces_every_history(histories: list[list[int]]) -> None:
    pool = pool_histories(histories)
    assert [[pool.order[i] for run in runs for i in range(*run)] for runs in pool.runs] == histories
    assert len(set(pool.order)) == len(pool.order)


@settings(max_examples=50)
@given(requests())
def test_a_built_trajectory_sends_what_was_recorded(recorded: list[RecordedRequest]) -> None:
    found = built("t", recorded)
    assert len(found.turns) == len(recorded)
    for turn, one in zip(found.turns, recorded, strict=True):
        assert [canonical_json(m) for m in found.request_messages(turn)] == [
            canonical_json(m) for m in one.messages
        ]
        tools = None if turn.tools_index is None else list(found.tool_sets[turn.tools_index])
        assert canonical_json(tools) == canonical_json(one.tools)
        assert turn.tool_delay_ns == one.tool_delay_ns
        assert (turn.prompt_tokens, turn.output_tokens, turn.tool_calls) == one[3:6]


def test_a_replaced_status_line_costs_one_run_not_one_per_turn() -> None:
    history = [message("system", "s")]
    recorded = []
    for k in range(20):
        recorded.append(request(*history, message("user", f"Tool-call turn {k + 1} of 20")))
        history = [*history, message("assistant", f"a{k}"), message("tool", f"r{k}")]
    found = built("t", recorded)
    assert max(len(turn.message_runs) for turn in found.turns) <= 3


def test_equal_looking_values_stay_different_messages() -> None:
    values: Sequence[object] = (1, True, 1.0)
    found = built("t", [request({"role": "user", "content": value}) for value in values])
    assert len(found.messages) == 3


def test_the_digest_ignores_how_messages_are_pooled() -> None:
    one = trajectory()
    order = list(reversed(range(len(one.messages))))
    place = {old: new for new, old in enumerate(order)}
    turns = tuple(
        replace(turn, message_runs=tuple((place[i], place[i] + 1) for i in turn.message_indices()))
        for turn in one.turns
    )
    other = replace(one, messages=tuple(one.messages[i] for i in order), turns=turns)
    assert other != one
    assert trajectory_digest(other) == trajectory_digest(one)


@pytest.mark.parametrize(
    "changed",
    [
        trajectory("t2"),
        trajectory(tokens=(10, 20, 31)),
        trajectory(tokens=(10, 20)),
        built("t1", [request(message("user", "other"))]),
    ],
)
def test_the_digest_sees_content(changed: object) -> None:
    assert trajectory_digest(changed) != trajectory_digest(trajectory())  # type: ignore[arg-type]


def test_the_digest_does_not_depend_on_the_order_of_trajectories() -> None:
    assert dataset_digest([("b", "2"), ("a", "1")]) == dataset_digest([("a", "1"), ("b", "2")])
    assert dataset_digest([("a", "1")]) != dataset_digest([("a", "2")])


@pytest.mark.parametrize("content", [float("nan"), float("inf"), b"bytes"])
def test_what_json_cannot_hold_is_refused(content: object) -> None:
    with pytest.raises(DatasetError, match="JSON cannot hold"):
        built("t", [request({"role": "user", "content": content})])
