from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_support import BASH, METADATA, message, row, trajectory, write_replay

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset import ReplayDataset, open_dataset, write_dataset

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_become_turns(tmp_path: Path) -> None:
    rows = [row(0), row(1, recorded_completion_tokens=None, tools=[], recorded_tool_calls_after=[])]
    source = open_dataset(write_replay(tmp_path / "replay", rows))
    found = source.load("task")
    assert (source.name, list(source.ids())) == ("tiny replay", ["task"])
    assert [found.request_messages(turn) for turn in found.turns] == [one["messages"] for one in rows]
    assert found.tool_sets == ((BASH,),)
    assert [turn.tools_index for turn in found.turns] == [0, None]
    assert [turn.tool_delay_ns for turn in found.turns] == [12_500_000, 12_500_000]
    assert [turn.prompt_tokens for turn in found.turns] == [100, 101]
    assert [turn.output_tokens for turn in found.turns] == [5, 6]
    assert found.turns[0].tool_calls == (ToolCall("c", "bash", 12_500_000),)


def test_the_digest_survives_conversion(tmp_path: Path) -> None:
    source = ReplayDataset(write_replay(tmp_path / "replay", [row(0), row(1)]))
    store = write_dataset(tmp_path / "set", (source.load(name) for name in source.ids()), METADATA)
    assert store.digest == source.digest
    store.verify()


def test_unicode_line_separators_do_not_split_a_row(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\x1cfour"
    data = json.dumps(row(0, messages=[message("user", text)]), ensure_ascii=False).encode()
    source = ReplayDataset(
        write_replay(tmp_path / "r", data, model_calls=1, tool_calls=1, total_recorded_tool_delay_ms=12.5)
    )
    assert source.load("task").messages[0]["content"] == text


def test_totals_tolerate_rounding(tmp_path: Path) -> None:
    source = ReplayDataset(write_replay(tmp_path / "r", [row(0)], total_recorded_tool_delay_ms=12.500004))
    assert len(source.load("task").turns) == 1


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row(0, version=2)], r"task\.jsonl:1: replay version is 2"),
        ([row(0, version=True)], r"task\.jsonl:1: replay version is True"),
        ([row(0), row(1, task_id="other")], r"task\.jsonl:2: row of task 'other'"),
        ([row(0), row(0)], r"task\.jsonl:2: turn 0 follows turn 0"),
        ([row(0, messages=[])], r"task\.jsonl:1: messages"),
        ([row(0, messages=[{"content": "x"}])], "needs a 'role'"),
        ([row(0, messages="hello")], "messages"),
        ([row(0, tools={})], "tools"),
        ([row(0, simulated_tool_delay_ms_after=-1.0)], "simulated_tool_delay_ms_after"),
        ([row(0, recorded_prompt_tokens="many")], "recorded_prompt_tokens"),
    ],
)
def test_broken_rows(tmp_path: Path, rows: list[dict[str, Any]], problem: str) -> None:
    source = ReplayDataset(write_replay(tmp_path / "r", rows))
    with pytest.raises(DatasetError, match=problem) as caught:
        source.load("task")
    assert caught.value.remedy


GOOD = json.dumps(row(0)).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (GOOD + b"\n{oops}\n", r"task\.jsonl:2: not JSON"),
        (GOOD + GOOD + b"\n", r"task\.jsonl:1: not JSON: Extra data"),
        (b"\n\n" + GOOD[:-1] + b"\n", r"task\.jsonl:3: not JSON"),
        (b"# comment\n" + GOOD, r"task\.jsonl:1: not JSON"),
        (GOOD.replace(b"turn 0", b"turn \xff"), r"task\.jsonl:1: not UTF-8"),
        (GOOD.replace(b'"turn 0"', b"1e999"), r"task\.jsonl:1: a message or tool list that JSON cannot hold"),
        (b"[" * 200_000, r"task\.jsonl:1: nested too deeply"),
        (b'"text"\n', r"task\.jsonl:1: replay version is None"),
    ],
)
def test_broken_lines(tmp_path: Path, data: bytes, problem: str) -> None:
    source = ReplayDataset(write_replay(tmp_path / "r", data))
    with pytest.raises(DatasetError, match=problem):
        source.load("task")


def test_long_lines_are_not_read_to_their_end(tmp_path: Path) -> None:
    directory = write_replay(tmp_path / "r", GOOD + b"\n" + b" " * 100_000)
    with pytest.raises(DatasetError, match=r"task\.jsonl:2: line longer than 50000 bytes"):
        ReplayDataset(directory, max_row_bytes=50_000).load("task")


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"model_calls": 3}, "declares model_calls 3, the rows of .* have 2"),
        ({"tool_calls": 1}, "declares tool_calls 1, the rows of .* have 2"),
        ({"total_recorded_tool_delay_ms": 30.0}, r"declares total_recorded_tool_delay_ms 30\.0"),
    ],
)
def test_totals_that_differ(tmp_path: Path, declared: dict[str, Any], problem: str) -> None:
    source = ReplayDataset(write_replay(tmp_path / "r", [row(0), row(1)], **declared))
    with pytest.raises(DatasetError, match=problem) as caught:
        source.load("task")
    assert str(caught.value.where).endswith("manifest.json: tasks[0]")


@pytest.mark.parametrize("trace", ["../task.jsonl", "traces/../../x", "/etc/passwd", "traces\\..\\x", "a\0b"])
def test_traces_may_not_escape(tmp_path: Path, trace: str) -> None:
    with pytest.raises(DatasetError, match="leads out of"):
        ReplayDataset(write_replay(tmp_path / "r", [row(0)], trace=trace))


@pytest.mark.parametrize("trace", ["traces/none.jsonl", "traces", "."])
def test_missing_traces(tmp_path: Path, trace: str) -> None:
    with pytest.raises(DatasetError, match="is missing"):
        ReplayDataset(write_replay(tmp_path / "r", [row(0)], trace=trace))


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        ({"version": 2, "name": "x", "tasks": []}, "replay version is 2"),
        ({"version": 1, "name": "x", "tasks": []}, "tasks"),
        ({"version": 1, "tasks": [{}]}, "name"),
        ({"version": 1, "name": "x", "tasks": [{"task_id": "t"}]}, r"tasks\.0\.trace"),
        ([], "replay version is None"),
    ],
)
def test_broken_manifests(tmp_path: Path, manifest: object, problem: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DatasetError, match=problem):
        ReplayDataset(tmp_path)


def test_two_tasks_of_one_name(tmp_path: Path) -> None:
    path = write_replay(tmp_path / "r", [row(0)]) / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["tasks"] *= 2
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"tasks\[1\]: two tasks named 'task'"):
        ReplayDataset(tmp_path / "r")


def test_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no task '\.\./x'"):
        ReplayDataset(write_replay(tmp_path / "r", [row(0)])).load("../x")


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        ReplayDataset(tmp_path)


def test_open_dataset_prefers_the_internal_format(tmp_path: Path) -> None:
    assert open_dataset(write_dataset(tmp_path / "set", [trajectory()], METADATA).directory).name == "tiny"


def test_open_dataset_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "web app"}', encoding="utf-8")
    for path, state in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path, "is not a dataset"),
        (tmp_path / "web", "is not a dataset"),
    ):
        with pytest.raises(DatasetError, match=rf"{state}: looked for dataset\.yaml .* and manifest\.json"):
            open_dataset(path)
