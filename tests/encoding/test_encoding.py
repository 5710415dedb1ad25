"""A dataset's way into the files that workers map: read once, never half, and removed whatever happens."""

from __future__ import annotations

import errno
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from virtual_system import DEMO_SET, SHAPES, Watch, demo_set, open_virtual, settings_for

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.errors import DatasetError, LoadError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.dataset import DatasetStore
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.segment_writer import SegmentWriter
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.sim.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.deployed import Deployed


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def encode(path: Path = DEMO_SET, **changes: Any) -> EncodedDataset:
    return EncodedDataset(path, **{"max_prompt_tokens": 100_000, "history_reasoning": "all", **changes})


def test_a_dataset_is_read_once_one_trajectory_at_a_time(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    load, add = DatasetStore.load, SegmentWriter.add

    def loading(store: DatasetStore, name: str) -> Trajectory:
        steps.append(f"load {name}")
        return load(store, name)

    def adding(writer: SegmentWriter, trajectory: Trajectory) -> None:
        steps.append(f"add {trajectory.id}")
        add(writer, trajectory)

    monkeypatch.setattr(DatasetStore, "load", loading)
    monkeypatch.setattr(SegmentWriter, "add", adding)
    with encode() as dataset:
        ids = DatasetStore(DEMO_SET).ids()
        assert dataset.prepared.ids == ids
        assert dataset.prepared.digest == DatasetStore(DEMO_SET).digest
        found = Segments(dataset.folder)
        assert [len(found.tool_delays_ns(name)) for name in ids] == [
            len(load(DatasetStore(DEMO_SET), name).turns) for name in ids
        ]
    assert steps == [step for name in ids for step in (f"load {name}", f"add {name}")]
    assert dataset.closed
    assert list(place.iterdir()) == []


def test_it_is_fitted_and_trimmed() -> None:
    with encode(max_prompt_tokens=2_500, history_reasoning="none") as dataset:
        report = dataset.prepared.report
        assert report.trajectories_cut > 0
        found = Segments(dataset.folder)
        turns = sum(len(found.tool_delays_ns(name)) for name in dataset.prepared.ids)
        store = DatasetStore(DEMO_SET)
        assert turns == store.statistics.turns - report.turns_dropped
        assert not any(b"reasoning_content" in b"".join(found.slices(number)) for number in range(turns))


def broken_demo_set(folder: Path) -> Path:
    shutil.copytree(DEMO_SET, folder)
    (folder / "trajectories" / "demo-07.json.gz").write_bytes(b"not gzip")
    return folder


def test_a_broken_trajectory_is_named_and_nothing_stays(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="demo-07"):
        encode(broken_demo_set(tmp_path / "set"))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("when", ["add", "finish"])
def test_a_full_disk_is_told_with_what_is_needed_and_where(
    place: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real, calls = getattr(SegmentWriter, when), count(1)

    def full(writer: SegmentWriter, *arguments: Any) -> None:
        if when == "finish" or next(calls) == 13:
            writer.size_bytes = 600_000_000
            raise OSError(errno.ENOSPC, "No space left on device")
        real(writer, *arguments)

    monkeypatch.setattr(SegmentWriter, when, full)
    with pytest.raises(LoadError, match="No space left on device") as caught:
        encode()
    # Of 24 trajectories.
    needed = "1,108" if when == "add" else "600"
    assert f"it needs about {needed} MB, 600 MB were reached" in caught.value.what
    assert (caught.value.where or "").startswith(str(place))
    assert "TMPDIR" in (caught.value.remedy or "")
    assert list(place.iterdir()) == []


def test_no_temporary_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(LoadError, match="/nowhere/at/all: the dataset cannot be encoded") as caught:
        encode()
    assert "TMPDIR" in (caught.value.remedy or "")


def test_an_interrupt_leaves_nothing_behind(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(writer: SegmentWriter, trajectory: Trajectory) -> None:
        assert len(list(place.iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(SegmentWriter, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode()
    assert list(place.iterdir()) == []


def test_who_waits_is_told_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    encode(on_progress=lambda *progress: told.append(progress)).close()
    assert told == []
    # A second passes at every look at the clock: one look per trajectory, and one when something is told.
    seconds = count()
    monkeypatch.setattr("pytest_agentperf.encoding.monotonic_ns", lambda: next(seconds) * NS_PER_S)
    encode(on_progress=lambda *progress: told.append(progress)).close()
    assert told[:2] == [(2, 24), (4, 24)]


def test_a_run_encodes_once_and_removes_it_at_its_end(place: Path) -> None:
    settings = settings_for(SHAPES[0], nonce="n", warmup_agents=0)

    def open_(
        name: str, settings: RunSettings, encode: Callable[[], EncodedDataset], clock: BlockingClock
    ) -> Deployed:
        encode()
        return open_virtual(name, settings, lambda: demo_set(settings, print), clock)

    with CapacityRun(settings, Watch(), clock=VirtualClock(), open_=open_) as run:
        run.run_fixed("all", 1)
        (folder,) = place.iterdir()
        run.run_fixed("all", 2)
        assert list(place.iterdir()) == [folder]
        run.close()
        assert list(place.iterdir()) == []
        # What was replayed is still known, and a run that goes on encodes it anew.
        assert len(run.dataset.ids) == 24
        run.run_fixed("all", 2)
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []
