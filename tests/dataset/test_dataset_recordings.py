"""Real agentperf-local replays, read again here by the plainest means and compared turn by turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_support import METADATA

from pytest_agentperf.dataset import ReplayDataset, fit_trajectory, prepare_dataset, write_dataset
from pytest_agentperf.dataset.estimate import prompt_bytes
from pytest_agentperf.dataset.truncate import estimate_tokens_at_most

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories"
REPLAYS = ("agentperf_replay", "agentperf_replay_mini")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not at {DATA}")


def plain_rows(replay: str, trajectory_id: str) -> list[dict[str, Any]]:
    text = (DATA / replay / "traces" / f"{trajectory_id}.jsonl").read_bytes().decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


@pytest.mark.parametrize(("replay", "turns"), [("agentperf_replay", 58), ("agentperf_replay_mini", 6)])
def test_every_turn_is_what_was_recorded(replay: str, turns: int) -> None:
    source = ReplayDataset(DATA / replay)
    checked = 0
    for trajectory_id in source.ids():
        found = source.load(trajectory_id)
        rows = plain_rows(replay, trajectory_id)
        assert len(found.turns) == len(rows)
        for turn, row in zip(found.turns, rows, strict=True):
            tools = [] if turn.tools_index is None else list(found.tool_sets[turn.tools_index])
            # As text, so that the order of keys counts too: chat templates print it.
            assert json.dumps(found.request_messages(turn)) == json.dumps(row["messages"])
            assert json.dumps(tools) == json.dumps(row["tools"])
            assert turn.tool_delay_ns == round(row["simulated_tool_delay_ms_after"] * 1e6)
            assert turn.prompt_tokens == row.get("recorded_prompt_tokens")
            assert turn.output_tokens == row["target_output_tokens"]
            calls = row["recorded_tool_calls_after"]
            assert [call.id for call in turn.tool_calls] == [call["tool_call_id"] for call in calls]
            assert [call.name for call in turn.tool_calls] == [call["tool_name"] for call in calls]
            assert [call.duration_ns for call in turn.tool_calls] == [
                round(c["duration_ms"] * 1e6) for c in calls
            ]
            checked += 1
    assert checked == turns


@pytest.mark.parametrize("replay", REPLAYS)
def test_messages_are_stored_once(replay: str) -> None:
    source = ReplayDataset(DATA / replay)
    for trajectory_id in source.ids():
        found = source.load(trajectory_id)
        distinct = {json.dumps(m) for row in plain_rows(replay, trajectory_id) for m in row["messages"]}
        assert len(found.messages) == len(distinct)
        assert max(len(turn.message_runs) for turn in found.turns) <= 4


@pytest.mark.parametrize("replay", REPLAYS)
def test_conversion_keeps_everything(replay: str, tmp_path: Path) -> None:
    source = ReplayDataset(DATA / replay)
    store = write_dataset(tmp_path / "set", map(source.load, source.ids()), METADATA)
    store.verify()
    assert store.digest == source.digest
    for trajectory_id in source.ids():
        assert store.load(trajectory_id) == source.load(trajectory_id)


def test_recorded_prompts_have_fewer_tokens_than_estimated() -> None:
    source = ReplayDataset(DATA / "agentperf_replay")
    for trajectory_id in source.ids():
        found = source.load(trajectory_id)
        for turn, size in zip(found.turns, prompt_bytes(found), strict=True):
            assert turn.prompt_tokens is not None
            assert turn.prompt_tokens <= estimate_tokens_at_most(size)


@pytest.mark.parametrize("limit", [1_000, 1_545, 6_400, 8_192, 16_384, 44_051])
def test_truncation_of_recordings(limit: int) -> None:
    source = ReplayDataset(DATA / "agentperf_replay")
    fitting = []
    for trajectory_id in source.ids():
        counts = [row["recorded_prompt_tokens"] for row in plain_rows("agentperf_replay", trajectory_id)]
        expected = next((k for k, count in enumerate(counts) if count > limit), len(counts))
        assert len(fit_trajectory(source.load(trajectory_id), max_prompt_tokens=limit).turns) == expected
        if expected:
            fitting.append(trajectory_id)
    if fitting:
        found = prepare_dataset(source, lambda _: None, max_prompt_tokens=limit, history_reasoning="all")
        assert list(found.ids) == fitting
