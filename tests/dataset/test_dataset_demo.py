from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.dataset import DatasetStore, open_dataset, trim_reasoning, write_dataset
from pytest_agentperf.dataset.digest import source_digest
from pytest_agentperf.dataset.estimate import prompt_bytes
from pytest_agentperf.dataset.synthesize import DEMO_METADATA, synthesize_demo

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

DATASETS = Path(__file__).parents[2] / "fixtures" / "datasets"
DEMO = DATASETS / "demo-v1"


@pytest.fixture(scope="module")
def demo() -> list[Trajectory]:
    store = open_dataset(DEMO)
    return [store.load(trajectory_id) for trajectory_id in store.ids()]


def test_the_committed_demo_is_what_the_generator_makes(tmp_path: Path) -> None:
    committed = DatasetStore(DEMO)
    committed.verify()
    made = write_dataset(tmp_path / "demo", synthesize_demo(), DEMO_METADATA)
    assert made.digest == committed.digest == source_digest(made)
    assert (made.directory / "dataset.yaml").read_bytes() == (DEMO / "dataset.yaml").read_bytes()
    assert list(made.ids()) == list(committed.ids())
    # Compressed bytes may differ between zlib versions.
    for path in (DEMO / "trajectories").iterdir():
        other = made.directory / "trajectories" / path.name
        assert gzip.decompress(other.read_bytes()) == gzip.decompress(path.read_bytes())


def test_the_script_writes_to_a_given_directory(tmp_path: Path) -> None:
    script = DATASETS / "generate_demo.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "demo")], check=True, cwd=DATASETS.parents[1],
                   env={"PYTHONPATH": str(DATASETS.parents[1]), "PYTHONHASHSEED": "7"})  # fmt: skip
    assert DatasetStore(tmp_path / "demo").digest == DatasetStore(DEMO).digest


def test_another_seed_gives_other_trajectories() -> None:
    assert next(synthesize_demo(2)).messages != next(synthesize_demo(1)).messages


def test_shape(demo: list[Trajectory]) -> None:
    turns = [turn for one in demo for turn in one.turns]
    assert len(demo) == 24
    assert {len(one.turns) for one in demo} == {3, 4, 5}
    assert 3.5 <= len(turns) / len(demo) <= 4.5
    assert all(1_400 <= (turn.prompt_tokens or 0) <= 6_500 for turn in turns)
    assert all(8 <= (turn.output_tokens or 0) <= 48 for turn in turns)
    assert all(20_000_000 <= turn.tool_delay_ns <= 400_000_000 for turn in turns)
    assert 60e6 <= statistics.median(turn.tool_delay_ns for turn in turns) <= 100e6
    assert sum(path.stat().st_size for path in DEMO.rglob("*.*")) < 1_000_000
    languages = [one.language for one in demo]
    assert languages.count("Python") > languages.count("TypeScript") > languages.count("Go")
    assert {"Rust", "Java", "C++"} <= set(languages)


def test_prompt_counts_are_the_declared_estimate(demo: list[Trajectory]) -> None:
    assert DatasetStore(DEMO).metadata.estimated == "utf8 bytes / 4"
    assert DatasetStore(DEMO).metadata.tokenizer is None
    for one in demo:
        assert [turn.prompt_tokens for turn in one.turns] == [size // 4 for size in prompt_bytes(one)]


def test_requests_are_well_formed_chats(demo: list[Trajectory]) -> None:
    for one in demo:
        for turn in one.turns:
            messages = one.request_messages(turn)
            assert [m["role"] for m in messages[:2]] == ["system", "user"]
            assert messages[-1]["role"] in ("user", "tool")
            waiting: list[str] = []
            for m in messages[2:]:
                if m["role"] == "assistant":
                    assert not waiting
                    assert m["reasoning_content"]
                    waiting = [call["id"] for call in m["tool_calls"]]
                    for call in m["tool_calls"]:
                        json.loads(call["function"]["arguments"])
                else:
                    assert m["tool_call_id"] == waiting.pop(0)
            assert not waiting


def test_recorded_calls_are_those_of_the_next_request(demo: list[Trajectory]) -> None:
    for one in demo:
        tool_names = {tool["function"]["name"] for tool in one.tool_sets[0]}
        for turn, after in zip(one.turns, one.turns[1:], strict=False):
            answer = [m for m in one.request_messages(after) if m["role"] == "assistant"][-1]
            assert [call["id"] for call in answer["tool_calls"]] == [call.id for call in turn.tool_calls]
            assert {call.name for call in turn.tool_calls} <= tool_names


def test_some_histories_are_not_append_only(demo: list[Trajectory]) -> None:
    assert any(len(turn.message_runs) > 1 for one in demo for turn in one.turns)


def test_no_template_gap_is_left_open(demo: list[Trajectory]) -> None:
    texts = [json.dumps(m) for one in demo for m in one.messages]
    words = ("noun", "Noun", "verb", "Verb", "field", "Field", "bug", "number", "small", "project", "symptom")
    assert not [text for text in texts if any(f"@{word}@" in text or f"{{{word}}}" in text for word in words)]


def test_reasoning_can_be_trimmed(demo: list[Trajectory]) -> None:
    for one in demo:
        assert trim_reasoning(one, "current_turn") == one
        assert not any("reasoning_content" in m for m in trim_reasoning(one, "none").messages)
