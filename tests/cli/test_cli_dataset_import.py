"""`agentperf dataset import`: recordings in, a whole dataset or nothing out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cli_dataset_support import replay

from pytest_agentperf.cli import main
from pytest_agentperf.dataset import DatasetStore, ReplayDataset
from pytest_agentperf.dataset.formats import READERS, agentperf_replay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main(["dataset", "import", *map(str, arguments)])


def test_a_recording_becomes_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ReplayDataset(replay(tmp_path / "recorded", "a", "b"))
    assert run("recorded", "--out", "set") == 0
    store = DatasetStore(tmp_path / "set")
    store.verify()
    assert store.digest == source.digest
    assert store.metadata.name == "set"
    assert store.metadata.provenance == "Imported from 1 recording (agentperf-replay)."
    assert store.metadata.tokenizer is None
    out = capsys.readouterr().out
    assert "wrote set: 2 trajectories, 4 turns, from 1 recording" in out
    assert f"digest sha256:{store.digest}" in out


def test_a_folder_is_searched_and_ids_stay_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(tmp_path / "many" / "first", "a")
    replay(tmp_path / "many" / "second", "a")
    (tmp_path / "many" / "notes.txt").write_text("no recording", encoding="utf-8")
    assert run("many", "--out", "set") == 0
    assert DatasetStore(tmp_path / "set").ids() == ("a", "a+2")
    assert "in no known format: 1 file (notes.txt)" in capsys.readouterr().err


def test_what_the_user_states_is_kept(tmp_path: Path) -> None:
    replay(tmp_path / "recorded", "a")
    assert (
        run("recorded", "--out", "set", "--name", "ours", "--version", "3", "--licence", "MIT",
            "--provenance", "our agents, May") == 0
    )  # fmt: skip
    metadata = DatasetStore(tmp_path / "set").metadata
    assert (metadata.name, metadata.version, metadata.licence, metadata.provenance) == (
        "ours",
        "3",
        "MIT",
        "our agents, May",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to import"),
        (("recorded",), "no place for the dataset"),
        (("recorded", "--out", "there"), "exists"),
        (("nowhere", "--out", "set"), "does not exist"),
        (("recorded", "--out", "set", "--format", "nonsense"), "no recording format named 'nonsense'"),
        (("recorded", "--out", "set", "--name", ""), "--name"),
        (("notes.txt", "--out", "set"), "no recording in a known format"),
        (("broken", "--out", "set"), "a.jsonl:1"),
    ],
)
def test_bad_input_writes_nothing(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(tmp_path / "recorded", "a")
    replay(tmp_path / "broken", "a", broken=True)
    (tmp_path / "there").mkdir()
    (tmp_path / "notes.txt").write_text("no recording", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_broken_recordings_can_be_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(tmp_path / "many" / "good", "a")
    replay(tmp_path / "many" / "bad", "b", broken=True)
    assert run("many", "--out", "set", "--skip-broken") == 0
    assert DatasetStore(tmp_path / "set").ids() == ("a",)
    captured = capsys.readouterr()
    assert "broken: " in captured.err
    assert "b.jsonl:1" in captured.err
    assert "from 1 recording\n" in captured.out


def test_nothing_but_broken_recordings_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(tmp_path / "bad", "b", broken=True)
    assert run("bad", "--out", "set", "--skip-broken") == 2
    assert "no model request" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_an_interrupt_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(tmp_path / "recorded", "a", "b")
    real = agentperf_replay.read

    def interrupted(*arguments: Any) -> Iterator[Any]:
        yield next(iter(real(*arguments)))
        raise KeyboardInterrupt

    monkeypatch.setattr(agentperf_replay, "read", interrupted)
    assert run("recorded", "--out", "set") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["recorded"]
    assert capsys.readouterr().out == ""


def test_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list-formats") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [reader.NAME for reader in READERS]
    assert all(reader.TITLE in line for reader, line in zip(READERS, lines, strict=True))


def test_delays_not_recorded_follow_the_seed(tmp_path: Path) -> None:
    # The recorded delays of a replay are its own: no seed changes them.
    replay(tmp_path / "recorded", "a")
    digests = set()
    for seed in (1, 2):
        assert run("recorded", "--out", f"set{seed}", "--delay-seed", seed) == 0
        digests.add(DatasetStore(tmp_path / f"set{seed}").digest)
    assert len(digests) == 1
