from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from results_support import S, columns, phase

from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.core.records import INT_COLUMNS, TEXT_COLUMNS
from pytest_agentperf.core.server_metrics import ServerReading, ServerSeriesBuilder, summarise
from pytest_agentperf.results.artifact import store_phase, write_leaderboard
from pytest_agentperf.results.files import new_file
from pytest_agentperf.results.records_file import write_records

if TYPE_CHECKING:
    from pathlib import Path


def board() -> Leaderboard:
    return Leaderboard(created_utc="2026-06-12T00:00:00+00:00", entries=())


def test_records_are_read_in_one_line(tmp_path: Path) -> None:
    records = columns(good=2, failed=1)
    write_records(tmp_path / "r.parquet", phase(records, window_open_ns=S, window_close_ns=2 * S), records)
    frame = pd.read_parquet(tmp_path / "r.parquet")
    assert list(frame.columns) == [*INT_COLUMNS, *TEXT_COLUMNS, "in_window"]
    assert frame["t_sent_ns"].tolist() == [0, S, 2 * S]
    assert frame["in_window"].tolist() == [False, True, False], "half open: [open, close)"
    assert frame["failure"].isna().tolist() == [True, True, False]
    assert frame["failure_detail"].iloc[2] == "HTTP 503: busy"
    assert frame["t_first_ns"].isna().tolist() == [False, False, True]
    schema = pq.read_schema(tmp_path / "r.parquet")
    assert {str(schema.field(name).type) for name in INT_COLUMNS} == {"int64"}
    # What was missing is null, never the -1 of memory.
    assert not (frame.select_dtypes("number") < 0).any().any()


def test_records_of_no_request(tmp_path: Path) -> None:
    records = columns(good=0)
    write_records(tmp_path / "r.parquet", phase(records), records)
    assert len(pd.read_parquet(tmp_path / "r.parquet")) == 0


def test_a_phase_is_stored_under_its_number(tmp_path: Path) -> None:
    records = columns()
    stored = store_phase(tmp_path / "run", phase(records, phase=7, n_agents=12), records)
    assert stored.records == "requests/007-ramp-12.parquet"
    assert (tmp_path / "run" / stored.records).is_file()
    content = (tmp_path / "run" / stored.records).read_bytes()
    assert stored.digests == {stored.records: hashlib.sha256(content).hexdigest()}
    assert [path.name for path in (tmp_path / "run" / "requests").iterdir()] == ["007-ramp-12.parquet"]
    with pytest.raises(FileExistsError):
        store_phase(tmp_path / "run", phase(records, phase=7, n_agents=12), records)
    # Warm-ups of one deployment have one number, and are told apart by their attempts.
    again = store_phase(tmp_path / "run", phase(records, phase=0, kind="warmup", attempt=2), records)
    assert again.records == "requests/000-warmup-4-2.parquet"


def test_the_servers_readings_lie_beside_the_records(tmp_path: Path) -> None:
    builder = ServerSeriesBuilder()
    builder.add(ServerReading(S, ("vllm",), {"running": 2.0}))
    builder.add(ServerReading(2 * S, ("vllm",), {"running": 3.0, "waiting": 0.0}))
    series = builder.build()
    records, summary = columns(), summarise(series, open_ns=S, close_ns=2 * S)
    stored = store_phase(tmp_path, phase(records, server=summary), records, server=series)
    assert stored.server is not None
    assert stored.server.samples == "server/001-ramp-4.parquet"
    frame = pd.read_parquet(tmp_path / stored.server.samples)
    assert frame["running"].tolist() == [2, 3]
    assert frame["waiting"].isna().tolist() == [True, False]
    assert frame["t_ns"].tolist() == [S, 2 * S]
    assert frame["preemptions"].isna().all()


def test_a_leaderboard_is_written_once(tmp_path: Path) -> None:
    path = write_leaderboard(tmp_path / "run", board())
    text = path.read_text(encoding="utf-8")
    assert Leaderboard.model_validate_json(text) == board()
    assert text.startswith('{\n  "schema": "agentperf-leaderboard/2",')
    with pytest.raises(FileExistsError):
        write_leaderboard(tmp_path / "run", board().model_copy(update={"created_utc": "later"}))
    assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["leaderboard.json"]
    later = board().model_copy(update={"created_utc": "later"})
    write_leaderboard(tmp_path / "run", later, replace=True)
    assert Leaderboard.model_validate_json(path.read_text(encoding="utf-8")) == later


def test_half_a_file_never_shows(tmp_path: Path) -> None:
    def stopped_half_way() -> None:
        with new_file(tmp_path / "a") as file:
            file.write(b"half")
            assert not (tmp_path / "a").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_records_that_were_not_finished_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def stopped_half_way(table: object, file: Any, **_: object) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(pq, "write_table", stopped_half_way)
    records = columns()
    with pytest.raises(type(error)):
        write_records(tmp_path / "r.parquet", phase(records), records)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_even_if_nothing_can_be_removed_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def half() -> None:
        with new_file(tmp_path / "a") as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.unlink", read_only)
    with pytest.raises(OSError, match="No space left"):
        half()


def test_content_then_name_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is synced when it has the new name: else a power failure could take that away."""
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, (tmp_path / "a").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with new_file(tmp_path / "a") as file:
        file.write(b"whole")
    assert synced == [("file", False), ("folder", True)]


@pytest.mark.parametrize(("number", "matters"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_file_systems_that_cannot_sync_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, matters: bool
) -> None:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    def write() -> None:
        with new_file(tmp_path / "a") as file:
            file.write(b"whole")

    monkeypatch.setattr(os, "fsync", fsync)
    if matters:
        with pytest.raises(OSError, match=os.strerror(number)):
            write()
    else:
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
