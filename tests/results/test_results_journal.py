"""The journal on disk: whole lines are believed, half ones forgotten, altered ones named."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from results_support import columns, phase

from pytest_agentperf.core.errors import ConfigError, LoadError
from pytest_agentperf.core.journal import Event, PhaseFinished, RunBegun, RunEnded
from pytest_agentperf.core.leaderboard import DatasetInfo
from pytest_agentperf.core.ruleset import find_ruleset
from pytest_agentperf.results.journal import JOURNAL, FileJournal, read_journal

if TYPE_CHECKING:
    from pathlib import Path

BEGUN = RunBegun(
    created_utc="2026-06-12T00:00:00+00:00", software={"pytest-agentperf": "0"}, suite={"name": "s"},
    suite_path="s.yaml", edition="1", system={"name": "box"}, system_path="box.yaml",
    ruleset=find_ruleset("demo/1", where="a test"), deviations=(), dataset_path="d", digests={}, seed=0,
    dataset=DatasetInfo(name="d", digest="0", trajectories=1, official=False, truncation={}), nonce="n",
    start=None, max_agents=8,
)  # fmt: skip
FINISHED = PhaseFinished(tier="tier1", tokens=9, elapsed_s=1.5, result=phase(columns(failed=1)))
ENDED = RunEnded(elapsed_s=2.0)
EVENTS: tuple[Event, ...] = (BEGUN, FINISHED, ENDED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "run" / JOURNAL
    journal = FileJournal(path)
    for event in EVENTS:
        journal.append(event)
    journal.close()
    return path


def test_it_reads_what_was_written_and_goes_on(path: Path) -> None:
    assert read_journal(path).events == EVENTS
    journal = FileJournal(path)
    assert journal.reopen().events == EVENTS
    journal.append(ENDED)
    journal.close()
    assert read_journal(path).events == (*EVENTS, ENDED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parents[1])} == {0o700}


def test_every_event_is_on_disk_before_anything_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            synced.append(found.st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal = FileJournal(tmp_path / "run" / JOURNAL)
    sizes = []
    for event in EVENTS:
        journal.append(event)
        sizes.append(journal.path.stat().st_size)
    journal.close()
    assert synced == sizes


def test_power_loss_at_any_byte_leaves_the_lines_before(path: Path) -> None:
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    # Every byte of the short last line, and some of the long ones.
    for size in (*range(ends[0], ends[1], 97), *range(ends[1], len(data) + 1)):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        assert read_journal(path).events == EVENTS[:whole]
        journal = FileJournal(path)
        journal.reopen()
        journal.append(ENDED)
        journal.close()
        assert read_journal(path).events == (*EVENTS[:whole], ENDED)


def test_a_last_line_with_a_hole_is_torn(path: Path) -> None:
    """Its last page reached the disk, an earlier one did not."""
    data = path.read_bytes()
    path.write_bytes(data[:-40] + bytes(20) + data[-20:])
    assert read_journal(path).events == EVENTS[:2]


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_line_that_was_changed_is_named(path: Path, line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = lines[line - 1].replace(b'"event":', b'"event": ', 1) if line == 1 else lines[line - 1]
    changed = changed.replace(b'"elapsed_s":', b'"elapsed_s":1')
    assert changed != lines[line - 1]
    path.write_bytes(b"".join([*lines[: line - 1], changed, *lines[line:]]))
    with pytest.raises(ConfigError, match=rf"{JOURNAL}:{line}: the journal is damaged"):
        read_journal(path)


def test_a_line_that_is_missing_is_noticed(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(ConfigError, match=f"{JOURNAL}:2: the journal is damaged"):
        read_journal(path)


@pytest.mark.parametrize("content", [b"", b"not a journal\n", b"half a line"])
def test_what_is_no_journal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{JOURNAL}:1: the journal is damaged"):
        read_journal(tmp_path / JOURNAL)
    with pytest.raises(ConfigError, match="no journal can be read there"):
        read_journal(tmp_path / "none")


def test_two_processes_never_write_one_journal(path: Path) -> None:
    first, second = FileJournal(path), FileJournal(path)
    first.reopen()
    with pytest.raises(LoadError, match="the run still goes on in another process"):
        second.reopen()
    first.close()
    second.reopen()
    second.close()


def test_the_folder_of_another_run_is_left_alone(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another run has written results there"):
        FileJournal(path).append(BEGUN)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a line fits; then there is room again, and the same process goes on."""
    path = tmp_path / "run" / JOURNAL
    journal = FileJournal(path)
    journal.append(BEGUN)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", fails)
        return real(descriptor, data[: len(data) // 2])

    def fails(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LoadError, match="journal cannot be written: No space left on device") as error:
        journal.append(FINISHED)
    assert "--agentperf-resume" in str(error.value)
    monkeypatch.setattr(os, "write", real)
    assert read_journal(path).events == (BEGUN,)
    journal.append(ENDED)
    journal.close()
    assert path.read_bytes().count(b"\n") == 2
    assert read_journal(path).events == (BEGUN, ENDED)


def test_an_interrupt_between_the_writing_and_the_disk_leaves_no_line_that_nobody_knows_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run" / JOURNAL
    journal = FileJournal(path)
    journal.append(BEGUN)

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append(FINISHED)
    journal.append(ENDED)
    journal.close()
    assert read_journal(path).events == (BEGUN, ENDED)
