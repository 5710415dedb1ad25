"""Broken and hostile traces end in one DatasetError that names the place, or are skipped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_support import prompt_tokens

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import azure, dynamo, kv_cache_tester, lmcache, mooncake
from pytest_agentperf.dataset.formats.base import ImportContext, Peek

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.dataset.formats.base import Reader

READERS: dict[str, Any] = {r.NAME: r for r in (azure, dynamo, kv_cache_tester, lmcache, mooncake)}

MOONCAKE = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
LMCACHE = {"timestamp": 0, "input": "a", "output": "b", "session_id": "s"}
KV_REQUEST = {"in": 70, "out": 5, "hash_ids": [1], "input_types": ["text"], "output_types": [], "stop": ""}
KV = {"id": "t", "block_size": 64, "requests": [KV_REQUEST], "tool_tokens": 1, "system_tokens": 1}
REPLAY = {"trace_block_size": 16, "input_length": 20, "input_sequence_hashes": [1, 2]}
DYNAMO = {
    "event": {
        "schema": "dynamo.request.trace.v1",
        "event_type": "request_end",
        "event_time_unix_ms": 5,
        "agent_context": {"session_id": "s"},
        "request": {"request_id": "r", "model": "m", "output_tokens": 3, "replay": REPLAY},
    }
}
DOCUMENTS = {"mooncake": MOONCAKE, "lmcache-agent": LMCACHE, "kv-cache-tester": KV, "dynamo-trace": DYNAMO}


def outcome(reader: Reader, path: Path) -> str | None:
    reader.recognises(Peek(path))
    try:
        list(reader.read(path, ImportContext()))
    except DatasetError as error:
        return error.what if str(path) in str(error) else pytest.fail(f"does not name the file: {error}")
    return None


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("new", [None, True, -1, 1.5, "x", [], {}, [[]], 2**70, 10**9, "\ud800", [2**70, 1]])
def test_any_value_may_be_of_another_type(tmp_path: Path, name: str, new: Any) -> None:
    path = tmp_path / "recording.json"
    for place in places(DOCUMENTS[name]):
        path.write_text(json.dumps(changed(DOCUMENTS[name], place, new)) + "\n")
        outcome(READERS[name], path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 100_000 + b"\n",
        b"{\n",
        b"1\n",
        b"\0\n",
        b"\x1f\x8b\x08\0broken",
        b'{"input_length": NaN}\n',
    ],
)
def test_what_is_no_recording_is_one_error(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "recording"
    path.write_bytes(data)
    assert outcome(READERS[name], path) is not None


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_one_error(tmp_path: Path, name: str) -> None:
    assert outcome(READERS[name], tmp_path / "none") == "no such file"


@pytest.mark.parametrize(
    "row", ["1,2", "1,2,3,4", "x,-1,2", "x,1.5,2", "x,99999999,2", f"x,{'9' * 4000},2", "x,²,1", "x,,1"]
)
def test_azure_rows_that_are_none(tmp_path: Path, row: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\nx,9,9\n{row}\n")
    with pytest.raises(DatasetError, match=r"t\.csv:3"):
        list(azure.read(path, ImportContext()))


@pytest.mark.parametrize(
    ("name", "place", "new"),
    [
        ("mooncake", ("hash_ids",), [0]),
        ("mooncake", ("input_length",), 2**40),
        ("kv-cache-tester", ("block_size",), 2**30),
        ("kv-cache-tester", ("block_size",), 1),
        ("kv-cache-tester", ("requests", 0, "in"), 200),
        ("dynamo-trace", ("event", "request", "replay", "trace_block_size"), 2**40),
        ("dynamo-trace", ("event", "request", "replay", "input_length"), 10**12),
    ],
)
def test_lengths_that_blocks_do_not_make_are_refused(
    tmp_path: Path, name: str, place: tuple[Any, ...], new: Any
) -> None:
    path = tmp_path / "recording.json"
    path.write_text(json.dumps(changed(DOCUMENTS[name], place, new)) + "\n")
    assert outcome(READERS[name], path) is not None


def test_agents_nest_as_deep_as_json_does(tmp_path: Path) -> None:
    agent: dict[str, Any] = {"type": "subagent", "requests": [KV_REQUEST]}
    for _ in range(150):
        agent = {"type": "subagent", "requests": [agent]}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({**KV, "requests": [KV_REQUEST, agent]}))
    assert [len(t.turns) for t in kv_cache_tester.read(path, ImportContext())] == [1, 1]


def test_a_trace_with_two_block_sizes_is_refused(tmp_path: Path) -> None:
    other = changed(DYNAMO, ("event", "request", "replay", "trace_block_size"), 32)
    other = changed(other, ("event", "request", "replay", "input_length"), 40)
    path = tmp_path / "t.jsonl"
    path.write_text(f"{json.dumps(DYNAMO)}\n{json.dumps(other)}\n")
    with pytest.raises(DatasetError, match=r"t\.jsonl:2"):
        list(dynamo.read(path, ImportContext()))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 1600), st.integers(0, 40), st.integers(0, 5)),
        max_size=8,
    )
)
def test_any_hash_ids_make_prompts_of_the_recorded_length(
    tmp_path: Path, rows: list[tuple[int, int, int, int]]
) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        for start, tokens, output, stride in rows:
            # Keys that repeat, within a row and at other places of other rows: no honest trace has them.
            keys = [(start + i * stride) % 7 for i in range(-(-tokens // 512))]
            row = {**MOONCAKE, "input_length": tokens, "output_length": output, "hash_ids": keys}
            file.write(json.dumps(row) + "\n")
    found = list(mooncake.read(path, ImportContext()))
    assert sum(len(trajectory.turns) for trajectory in found) == sum(1 for row in rows if row[2])
    for trajectory in found:
        for turn in trajectory.turns:
            messages = trajectory.request_messages(turn)
            assert len(prompt_tokens(messages)) == max(turn.prompt_tokens or 0, 5)
            assert messages[-1]["role"] == "user"
