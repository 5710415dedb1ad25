from __future__ import annotations

import gzip
import json
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dataset_support import METADATA, built, message, request, requests, trajectory
from hypothesis import given, settings

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.dataset import (
    DatasetMetadata,
    DatasetStore,
    dataset_digest,
    trajectory_digest,
    write_dataset,
)
from pytest_agentperf.dataset.documents import encode_trajectory
from pytest_agentperf.dataset.reading import MAX_DURATION_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.dataset.histories import RecordedRequest


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return write_dataset(tmp_path / "set", [trajectory("t2"), trajectory("t1")], METADATA)


def packed(store: DatasetStore, trajectory_id: str = "t1") -> Path:
    return store.directory / "trajectories" / f"{trajectory_id}.json.gz"


def packed_bytes(content: bytes) -> bytes:
    # Without a time in it: these are names of tests too, and xdist's workers must agree on them.
    return gzip.compress(content, mtime=0)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(gzip.decompress(path.read_bytes()))
    change(document)
    path.write_bytes(gzip.compress(json.dumps(document).encode()))


@settings(max_examples=30, deadline=None)
@given(requests())
def test_what_is_written_is_read(recorded: list[RecordedRequest]) -> None:
    original = built("t", recorded)
    with tempfile.TemporaryDirectory() as directory:
        store = write_dataset(Path(directory) / "set", [original], METADATA)
        store.verify()
        found = store.load("t")
    assert found == original
    assert store.digest == dataset_digest([("t", trajectory_digest(original))])


def test_a_store_states_its_metadata_and_lists_its_ids(store: DatasetStore) -> None:
    assert (store.name, store.metadata.version, store.metadata.licence) == ("tiny", "1", "Apache-2.0")
    assert list(store.ids()) == ["t1", "t2"]
    assert (store.statistics.trajectories, store.statistics.turns) == (2, 6)
    assert store.statistics.languages == {"Python": 2}
    assert store.load("t1") == trajectory("t1")


def test_unpaired_surrogates_survive(tmp_path: Path) -> None:
    original = built("t", [request(message("user", "broken \ud83d emoji"))])
    assert write_dataset(tmp_path / "set", [original], METADATA).load("t") == original


def test_equal_content_gives_equal_files(tmp_path: Path, store: DatasetStore) -> None:
    other = write_dataset(tmp_path / "other", [trajectory("t1"), trajectory("t2")], METADATA)
    assert packed(other).read_bytes() == packed(store).read_bytes()
    assert other.digest == store.digest


def test_another_compression_is_the_same_dataset(store: DatasetStore) -> None:
    edit(packed(store), lambda document: None)
    store.verify()


def test_verify_notices_a_changed_trajectory(store: DatasetStore) -> None:
    edit(packed(store), lambda document: document["messages"][1].update(content="other"))
    with pytest.raises(DatasetError, match="has digest"):
        store.verify()


def test_an_existing_directory_is_never_overwritten(store: DatasetStore) -> None:
    before = packed(store).read_bytes()
    with pytest.raises(DatasetError, match="exists"):
        write_dataset(store.directory, [trajectory("t3")], METADATA)
    assert packed(store).read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="two trajectories"):
        write_dataset(tmp_path / "set", [trajectory("a"), trajectory("A")], METADATA)
    assert list(tmp_path.iterdir()) == []


def test_a_written_dataset_is_readable_by_others(store: DatasetStore) -> None:
    assert store.directory.stat().st_mode & stat.S_IXUSR
    assert (store.directory.stat().st_mode & 0o777) == (
        (store.directory / "trajectories").stat().st_mode & 0o777
    )


@pytest.mark.parametrize("bad", ["../t", "a/b", ".hidden", "-flag", "a\0b", "ä", "x" * 201, "a b"])
def test_ids_that_are_no_file_names_cannot_be_written(tmp_path: Path, bad: str) -> None:
    with pytest.raises(DatasetError, match="cannot be a file name"):
        write_dataset(tmp_path / "set", [trajectory(bad)], METADATA)


@pytest.mark.parametrize(
    "lossy",
    [
        Trajectory("t", ({"role": "user", "content": (1, 2)}, {"content": "no role"}), (Turn(((0, 2),), 0),)),
        Trajectory("t", ({"role": "user"},), (Turn(((0, 1),), round(MAX_DURATION_MS * 1e6) + 10**6),)),
    ],
)
def test_what_the_reader_would_refuse_is_not_written(tmp_path: Path, lossy: Trajectory) -> None:
    with pytest.raises(DatasetError):
        write_dataset(tmp_path / "set", [lossy], METADATA)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("bad", ["../../etc/passwd", "t1/../t1", "", "T1", "t3"])
def test_unknown_ids_are_refused_before_any_path_is_built(store: DatasetStore, bad: str) -> None:
    with pytest.raises(DatasetError, match="no trajectory"):
        store.load(bad)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"not gzip", "not a complete gzip file"),
        (packed_bytes(encode_trajectory(trajectory("t1")))[:-20], "not a complete gzip file"),
        (packed_bytes(b""), "not JSON"),
        (packed_bytes(b'{"schema":\n oops}'), r"t1\.json\.gz:2: not JSON"),
        (packed_bytes(b'{"id": "\xff"}'), "not UTF-8"),
        (packed_bytes(b'{"id": NaN}'), "NaN is not JSON"),
        (packed_bytes(b"1" * 5000), "not JSON"),
        (packed_bytes(nested(200_000)), "nested too deeply"),
        (packed_bytes(b"[]"), "t1.json.gz: "),
        (packed_bytes(encode_trajectory(trajectory("t2"))), "holds trajectory 't2'"),
    ],
)
def test_broken_trajectory_files(store: DatasetStore, content: bytes, problem: str) -> None:
    packed(store).write_bytes(content)
    with pytest.raises(DatasetError, match=problem) as caught:
        store.load("t1")
    assert str(packed(store)) in str(caught.value.where)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d.update(schema="agentperf-trajectory/2"), "schema"),
        (lambda d: d.pop("turns"), "turns"),
        (lambda d: d["messages"].append({"content": "x"}), "needs a 'role'"),
        (lambda d: d["turns"][0].update(messages=[[0, 99]]), r"message run 0\.\.99 outside"),
        (lambda d: d["turns"][0].update(messages=[]), "no messages"),
        (lambda d: d["turns"][0].update(messages=[[0, 1, 2]]), r"turns\.0\.messages\.0"),
        (lambda d: d["turns"][0].update(tools=5), "tools_index 5 outside"),
        (lambda d: d["turns"][1].update(tool_delay_ms=-1), r"turns\.1\.tool_delay_ms"),
        (lambda d: d["turns"][1].update(tool_delay_ms=1e300), r"turns\.1\.tool_delay_ms"),
        (lambda d: d["turns"][0].update(prompt_tokens=True), r"turns\.0\.prompt_tokens"),
        (lambda d: d["turns"][0].update(prompt_tokens=-4), r"turns\.0\.prompt_tokens"),
    ],
)
def test_documents_outside_the_schema(
    store: DatasetStore, change: Callable[..., object], problem: str
) -> None:
    edit(packed(store), change)
    with pytest.raises(DatasetError, match=problem):
        store.load("t1")


def test_decompression_is_bounded(store: DatasetStore) -> None:
    packed(store).write_bytes(gzip.compress(b" " * 5_000_000))
    small = DatasetStore(store.directory, max_trajectory_bytes=1_000_000)
    with pytest.raises(DatasetError, match="larger than 1000000 bytes"):
        small.load("t1")
    assert small.load("t2")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(schema="agentperf-dataset/9"), "schema is 'agentperf-dataset/9'"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d.pop("licence"), "licence"),
        (lambda d: d.update(version=1), "version"),
        (lambda d: d.update(digest="sha256:12"), "digest"),
        (lambda d: d.update(tokenizer="x", estimated="utf8 bytes / 4"), "exclude each other"),
        (lambda d: d["statistics"].update(trajectories=3), "declares 3 trajectories, 2 are there"),
    ],
)
def test_dataset_yaml_outside_the_schema(
    store: DatasetStore, change: Callable[..., object], problem: str
) -> None:
    path = store.directory / "dataset.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(DatasetError, match=problem):
        DatasetStore(store.directory)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"schema: x\n: [", r"dataset\.yaml:\d: not YAML"),
        (b"\xff\xfe", "not YAML"),
        (b"when: 2026-99-99", "not YAML"),
        (b"- a list", "schema is None"),
        (b"a: &a [x]\nschema: [*a, *a]", "schema is a list"),
        (nested(3_000), "not YAML|nested"),
        (b"#" * 2_000_000, "larger than"),
    ],
)
def test_broken_dataset_yaml(store: DatasetStore, content: bytes, problem: str) -> None:
    (store.directory / "dataset.yaml").write_bytes(content)
    with pytest.raises(DatasetError, match=problem):
        DatasetStore(store.directory)


def test_foreign_files_are_named_and_hidden_ones_ignored(store: DatasetStore) -> None:
    (store.directory / "trajectories" / ".DS_Store").touch()
    assert len(DatasetStore(store.directory).ids()) == 2
    (store.directory / "trajectories" / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"unexpected file 'notes\.txt'"):
        DatasetStore(store.directory)


def test_missing_parts(tmp_path: Path, store: DatasetStore) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        DatasetStore(tmp_path / "nowhere")
    packed(store).unlink()
    with pytest.raises(DatasetError, match="declares 2 trajectories, 1 are there"):
        DatasetStore(store.directory)
    with pytest.raises(DatasetError, match="no such file"):
        store.load("t1")


def test_metadata_is_not_part_of_the_digest(tmp_path: Path, store: DatasetStore) -> None:
    renamed = DatasetMetadata(name="other", version="2", licence="MIT", provenance="elsewhere")
    other = write_dataset(tmp_path / "other", [trajectory("t1"), trajectory("t2")], renamed)
    assert other.digest == store.digest
