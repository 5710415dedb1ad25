from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dataset_support import METADATA, message, row, trajectory
from dataset_support import write_replay as recorded_replay
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset import DatasetStore, ReplayDataset, write_dataset
from pytest_agentperf.dataset.digest import canonical_json
from pytest_agentperf.dataset.exports import write_aiperf_mooncake, write_aiperf_multi_turn, write_replay
from pytest_agentperf.dataset.formats import agentperf_replay
from pytest_agentperf.dataset.formats.base import ImportContext

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories"


class Held:
    """A source of trajectories in memory."""

    name = "held"
    digest = "0" * 64

    def __init__(self, *held: Trajectory) -> None:
        self._held = {one.id: one for one in held}

    def ids(self) -> list[str]:
        return sorted(self._held)

    def load(self, trajectory_id: str) -> Trajectory:
        return self._held[trajectory_id]

    load_recorded = load


def imported(replay: Path, folder: Path) -> DatasetStore:
    return write_dataset(folder, agentperf_replay.read(replay, ImportContext()), METADATA)


def canonical(path: Path) -> list[bytes]:
    return [canonical_json(json.loads(line)) for line in path.read_bytes().split(b"\n") if line]


def assert_same_replay(one: Path, other: Path) -> None:
    manifests = [json.loads((path / "manifest.json").read_bytes()) for path in (one, other)]
    assert canonical_json(manifests[0]) == canonical_json(manifests[1])
    for task in manifests[0]["tasks"]:
        assert canonical(one / task["trace"]) == canonical(other / task["trace"])


@pytest.mark.parametrize("replay", ["agentperf_replay", "agentperf_replay_mini"])
def test_a_real_replay_comes_out_as_it_went_in(replay: str, tmp_path: Path) -> None:
    if not (DATA / replay).is_dir():
        pytest.skip(f"{DATA / replay} is not there")
    store = imported(DATA / replay, tmp_path / "set")
    write_replay(store, tmp_path / "out")
    assert_same_replay(DATA / replay, tmp_path / "out")
    # And once more, which is what "lossless" promises.
    again = imported(tmp_path / "out", tmp_path / "again")
    assert again.digest == store.digest == ReplayDataset(DATA / replay).digest
    write_replay(ReplayDataset(tmp_path / "out"), tmp_path / "out2")
    assert_same_replay(tmp_path / "out", tmp_path / "out2")


def test_fields_of_any_shape_survive(tmp_path: Path) -> None:
    rows = [
        row(0, tools=[], extra={"z": 1, "a": [None, 1.0, True]}, recorded_total_tokens=105),
        row(1, simulated_tool_delay_ms_after=12, recorded_tool_calls_after=[]),
        row(2, recorded_completion_tokens=None, conversation_id="other", conversation_idx=0),
    ]
    del rows[1]["tools"], rows[1]["recorded_tool_calls_after"], rows[2]["recorded_prompt_tokens"]
    replay = recorded_replay(tmp_path / "in", rows)
    write_replay(imported(replay, tmp_path / "set"), tmp_path / "out")
    assert_same_replay(replay, tmp_path / "out")


def test_what_was_recorded_besides_is_read_by_exports_alone(tmp_path: Path) -> None:
    store = imported(recorded_replay(tmp_path / "in", [row(0), row(1)]), tmp_path / "set")
    assert (tmp_path / "set" / "recorded" / "task.json.gz").is_file()
    assert store.load("task").recorded is None
    store.verify()
    recorded = store.load_recorded("task").recorded
    assert recorded is not None
    assert recorded.turns[0]["turn_id"] == "task:0000"
    assert "system" not in json.dumps(recorded.turns), "messages are kept once"
    (tmp_path / "set" / "recorded" / "task.json.gz").write_bytes(b"no gzip")
    assert len(store.load("task").turns) == 2
    with pytest.raises(DatasetError, match=r"task\.json\.gz"):
        store.load_recorded("task")


def test_the_trajectory_decides(tmp_path: Path) -> None:
    store = imported(recorded_replay(tmp_path / "in", [row(0), row(1)]), tmp_path / "set")
    before = store.load_recorded("task")
    turn = replace(
        before.turns[0], tool_delay_ns=2_000_000, prompt_tokens=7, output_tokens=None, tool_calls=()
    )
    changed = replace(before, turns=(turn,))
    write_replay(Held(changed), tmp_path / "out", name="mine")
    source = ReplayDataset(tmp_path / "out")
    assert source.name == "mine"
    assert source.load("task").turns == changed.turns
    written = json.loads((tmp_path / "out" / "traces" / "task.jsonl").read_bytes())
    assert list(written)[:3] == ["version", "turn_id", "task_id"]
    assert "target_output_tokens" not in written


def test_a_part_of_a_replay_has_a_manifest_of_its_own(tmp_path: Path) -> None:
    replay = recorded_replay(tmp_path / "in", [row(0)])
    manifest = json.loads((replay / "manifest.json").read_bytes())
    manifest["tasks"].append({**manifest["tasks"][0], "task_id": "b", "trace": "traces/b.jsonl"})
    (replay / "manifest.json").write_text(json.dumps(manifest))
    (replay / "traces" / "b.jsonl").write_text(json.dumps(row(0, task_id="b")))
    store = imported(replay, tmp_path / "set")
    write_replay(Held(store.load_recorded("b")), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert (found["name"], len(found["tasks"])) == ("held", 1)
    write_replay(store, tmp_path / "both")
    assert_same_replay(replay, tmp_path / "both")


def test_a_renamed_trajectory_gets_ids_of_its_own(tmp_path: Path) -> None:
    store = imported(recorded_replay(tmp_path / "in", [row(0)]), tmp_path / "set")
    one = store.load_recorded("task")
    write_replay(Held(one, replace(one, id="task+2")), tmp_path / "out")
    source = ReplayDataset(tmp_path / "out")
    assert list(source.ids()) == ["task", "task+2"]
    assert source.load("task+2").turns == one.turns


def test_a_dataset_of_another_origin(tmp_path: Path) -> None:
    one = trajectory("t1")
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "bash", "arguments": '{"command": "ls"}'},
    }
    messages = (*one.messages, message("assistant", "", tool_calls=[call]))
    last = replace(one.turns[-1], message_runs=((0, len(messages)),))
    write_replay(Held(replace(one, messages=messages, turns=(*one.turns[:-1], last))), tmp_path / "out")
    rows = [json.loads(line) for line in canonical(tmp_path / "out" / "traces" / "t1.jsonl")]
    assert [one["conversation_idx"] for one in rows] == [0, 1, 2]
    assert rows[1]["recorded_tool_calls_after"][0] == {
        "duration_ms": 1.5,
        "action_index": 0,
        "step": 2,
        "tool_call_id": "call_1",
        "tool_name": "bash",
        "action": {"command": "ls"},
    }
    assert len(ReplayDataset(tmp_path / "out").load("t1").turns) == 3


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=25)
@given(
    extra=st.dictionaries(st.text(min_size=1).map("x_".__add__), values, max_size=4), delay=st.floats(0, 9e6)
)
def test_any_foreign_field_survives(
    extra: dict[str, Any], delay: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    replay = recorded_replay(folder / "in", [extra | row(0, simulated_tool_delay_ms_after=delay)], **extra)
    write_replay(imported(replay, folder / "set"), folder / "out")
    assert_same_replay(replay, folder / "out")


def test_exports_overwrite_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out.jsonl").touch()
    with pytest.raises(DatasetError, match="exists"):
        write_replay(Held(trajectory()), tmp_path / "out")
    with pytest.raises(DatasetError, match="exists"):
        write_aiperf_mooncake(Held(trajectory()), tmp_path / "out.jsonl")
    broken = replace(trajectory(), messages=({"role": "user", "content": float("nan")},) * 8)
    for write in (write_replay, write_aiperf_mooncake):
        with pytest.raises(DatasetError, match="JSON cannot hold"):
            write(Held(broken), tmp_path / "new")
    with pytest.raises(DatasetError, match="no turn"):
        write_aiperf_multi_turn(Held(replace(trajectory(), turns=())), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.jsonl"]


def test_a_file_that_came_meanwhile_stays(tmp_path: Path) -> None:
    class Late(Held):
        def load(self, trajectory_id: str) -> Trajectory:
            (tmp_path / "out").write_text("mine")
            return super().load(trajectory_id)

    with pytest.raises(DatasetError, match="exists"):
        write_aiperf_mooncake(Late(trajectory()), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_mooncake_rows_are_the_requests(tmp_path: Path) -> None:
    one = trajectory()
    assert write_aiperf_mooncake(Held(one), tmp_path / "out.jsonl") == (1, 3, 0)
    rows = [json.loads(line) for line in canonical(tmp_path / "out.jsonl")]
    assert [found["messages"] for found in rows] == [one.request_messages(turn) for turn in one.turns]
    assert [found.get("delay") for found in rows] == [None, 1.5, 1.5]
    assert all(found["output_length"] == 7 and found["tools"] for found in rows)


def test_multi_turn_sessions_hold_what_was_new(tmp_path: Path) -> None:
    one = trajectory()
    retried = replace(one, turns=(one.turns[0], one.turns[0], one.turns[1]))
    assert write_aiperf_multi_turn(Held(retried), tmp_path / "out.jsonl") == (1, 2, 1)
    (session,) = (json.loads(line) for line in canonical(tmp_path / "out.jsonl"))
    assert session["turns"] == [
        {"role": "system", "text": "s"},
        {"text": "u", "output_length": 7},
        {"text": "out0", "output_length": 7, "delay": 3},
    ]


def test_aiperf_reads_them(tmp_path: Path) -> None:
    models = pytest.importorskip("aiperf.dataset.loader.models", reason="aiperf is not installed")
    source = ReplayDataset(DATA / "agentperf_replay") if DATA.is_dir() else Held(trajectory())
    write_aiperf_mooncake(source, tmp_path / "a.jsonl")
    for line in canonical(tmp_path / "a.jsonl"):
        found = json.loads(line)
        assert models.MooncakeTrace.model_validate(found).messages == found["messages"]
    write_aiperf_multi_turn(source, tmp_path / "b.jsonl")
    for line in canonical(tmp_path / "b.jsonl"):
        models.MultiTurn.model_validate(json.loads(line))
