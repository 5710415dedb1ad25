"""Fitting to a context, and trimming recorded reasoning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from dataset_support import METADATA, built, message, request, trajectory
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset import (
    DatasetStore,
    FitReport,
    fit_trajectory,
    prepare_dataset,
    trim_reasoning,
    write_dataset,
)
from pytest_agentperf.dataset.digest import source_digest
from pytest_agentperf.dataset.estimate import prompt_bytes
from pytest_agentperf.dataset.truncate import estimate_tokens_at_most

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset import HistoryReasoning, PreparedDataset


class MemorySource:
    """A TrajectorySource of given trajectories, which counts what is loaded."""

    name = "memory"
    digest = "d" * 64
    """Never asked for: of some formats it takes a pass over everything."""

    def __init__(self, *trajectories: Trajectory) -> None:
        self._trajectories = {one.id: one for one in trajectories}
        self.loads = 0

    def ids(self) -> Sequence[str]:
        return sorted(self._trajectories)

    def load(self, trajectory_id: str) -> Trajectory:
        self.loads += 1
        return self._trajectories[trajectory_id]


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 50))
def test_all_turns_before_the_first_one_too_long_stay(tokens: list[int], limit: int) -> None:
    whole = trajectory(tokens=tokens)
    fitted = fit_trajectory(whole, max_prompt_tokens=limit)
    kept = next((k for k, count in enumerate(tokens) if count > limit), len(tokens))
    assert len(fitted.turns) == kept
    for before, after in zip(whole.turns, fitted.turns, strict=False):
        assert fitted.request_messages(after) == whole.request_messages(before)
        assert replace(after, message_runs=()) == replace(before, message_runs=())


def test_a_trajectory_that_fits_is_left_alone() -> None:
    whole = trajectory()
    assert fit_trajectory(whole, max_prompt_tokens=30) is whole


def test_a_shorter_turn_after_a_cut_is_dropped_too() -> None:
    assert len(fit_trajectory(trajectory(tokens=(10, 99, 10)), max_prompt_tokens=50).turns) == 1


def test_messages_and_tools_of_dropped_turns_go_too() -> None:
    other = request(message("user", "u"), message("user", "long"), tokens=99)._replace(
        tools=[{"type": "other"}]
    )
    fitted = fit_trajectory(
        built("t", [request(message("user", "u"), tokens=1), other]), max_prompt_tokens=50
    )
    assert [m["content"] for m in fitted.messages] == ["u"]
    assert len(fitted.tool_sets) == 1
    none_left = fit_trajectory(built("t", [other]), max_prompt_tokens=50)
    assert (none_left.messages, none_left.turns, none_left.tool_sets) == ((), (), ())


def test_unknown_lengths_are_estimated_from_bytes() -> None:
    whole = trajectory(tokens=(None, None, None))
    sizes = prompt_bytes(whole)
    second = estimate_tokens_at_most(sizes[1])
    assert sizes == sorted(sizes)
    assert len(fit_trajectory(whole, max_prompt_tokens=second).turns) == 2
    assert len(fit_trajectory(whole, max_prompt_tokens=second - 1).turns) == 1


def test_sizes_are_those_of_utf8() -> None:
    ascii_only = built("t", [request(message("user", "xxx"))._replace(tools=None)])
    assert prompt_bytes(ascii_only) == [len('{"role":"user","content":"xxx"}')]
    for text, extra in (("x€x", 2), ("x\ud800x", 2)):
        assert prompt_bytes(built("t", [request(message("user", text))._replace(tools=None)])) == [
            prompt_bytes(ascii_only)[0] + extra
        ]


def prepared(
    source: TrajectorySource, limit: int = 50, reasoning: HistoryReasoning = "all"
) -> tuple[PreparedDataset, dict[str, Trajectory]]:
    taken: list[Trajectory] = []
    found = prepare_dataset(source, taken.append, max_prompt_tokens=limit, history_reasoning=reasoning)
    assert [one.id for one in taken] == list(found.ids)
    return found, {one.id: one for one in taken}


def test_a_dataset_is_prepared_in_one_pass_that_reports_what_it_did() -> None:
    whole = MemorySource(
        trajectory("cut", tokens=(10, 60, 70)),
        trajectory("dropped", tokens=(60, 60)),
        trajectory("empty", tokens=()),
        trajectory("kept", tokens=(10, 20)),
        trajectory("unknown", tokens=(10, None, 99)),
    )
    found, taken = prepared(whole)
    assert found.ids == ("cut", "kept", "unknown")
    assert found.report == FitReport(
        trajectories_kept=1, trajectories_cut=2, trajectories_dropped=2, turns_dropped=6, estimated_counts=1
    )
    assert whole.loads == 5
    # The dataset's own: what was cut belongs to the suite.
    assert (found.name, found.digest) == ("memory", source_digest(whole))
    assert {name: len(one.turns) for name, one in taken.items()} == {"cut": 1, "kept": 2, "unknown": 1}


def test_nothing_fits() -> None:
    with pytest.raises(DatasetError, match="no trajectory has a turn within 5 prompt tokens"):
        prepared(MemorySource(trajectory()), limit=5)


def test_progress_counts_what_was_read() -> None:
    whole = MemorySource(trajectory("a", tokens=(99,)), trajectory("b"))
    told: list[tuple[int, int]] = []
    prepare_dataset(
        whole,
        lambda _: None,
        max_prompt_tokens=50,
        history_reasoning="all",
        on_progress=lambda *progress: told.append(progress),
    )
    assert told == [(1, 2), (2, 2)]


def test_a_dataset_that_is_not_what_it_declares_is_refused(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "set", [trajectory("a"), trajectory("b")], METADATA)
    assert prepared(store)[0].digest == store.digest
    path = store.directory / "dataset.yaml"
    path.write_text(path.read_text().replace(store.digest, "0" * 64))
    with pytest.raises(DatasetError, match=r"content has digest [0-9a-f]{64}, dataset.yaml declares 0{64}"):
        prepared(DatasetStore(store.directory))


def reasoning_of(found: Trajectory) -> list[list[str]]:
    return [
        [m["reasoning_content"] for m in found.request_messages(turn) if "reasoning_content" in m]
        for turn in found.turns
    ]


def conversation() -> Trajectory:
    """Two user turns: the second user message comes with the third request."""
    first = [message("system", "s"), message("user", "u1")]
    second = [*first, message("assistant", "a1", reasoning_content="r1"), message("tool", "t1")]
    third = [*second, message("assistant", "a2", reasoning_content="r2"), message("user", "u2")]
    fourth = [*third, message("assistant", "a3", reasoning_content="r3"), message("tool", "t3")]
    return built("t", [request(*history) for history in (first, second, third, fourth)])


def test_reasoning_all() -> None:
    whole = conversation()
    assert trim_reasoning(whole, "all") is whole


def test_reasoning_none() -> None:
    found = trim_reasoning(conversation(), "none")
    assert reasoning_of(found) == [[], [], [], []]
    assert len(found.messages) == len(conversation().messages)


def test_reasoning_of_the_current_turn_differs_per_request() -> None:
    found = trim_reasoning(conversation(), "current_turn")
    assert reasoning_of(found) == [[], ["r1"], [], ["r3"]]
    # a1 is sent in both forms; everything else is stored once.
    assert len(found.messages) == len(conversation().messages) + 1


@pytest.mark.parametrize("policy", ["none", "current_turn"])
def test_only_reasoning_is_removed(policy: str) -> None:
    whole = conversation()
    found = trim_reasoning(whole, policy)  # type: ignore[arg-type]
    for before, after in zip(whole.turns, found.turns, strict=True):
        strip = [
            {k: v for k, v in m.items() if k != "reasoning_content"} for m in whole.request_messages(before)
        ]
        got = found.request_messages(after)
        assert [{k: v for k, v in m.items() if k != "reasoning_content"} for m in got] == strip
        assert replace(after, message_runs=()) == replace(before, message_runs=())


def test_a_trajectory_without_reasoning_is_left_alone() -> None:
    whole = built("t", [request(message("user", "u", reasoning_content="not an assistant's"))])
    assert trim_reasoning(whole, "none") is whole


def test_a_prepared_dataset_is_fitted_and_trimmed() -> None:
    whole = MemorySource(trajectory("cut", tokens=(10, 20, 99)), trajectory("dropped", tokens=(99,)))
    found, taken = prepared(whole, reasoning="none")
    assert found.ids == ("cut",)
    assert reasoning_of(taken["cut"]) == [[], []]
    assert found.report.turns_dropped == 2
