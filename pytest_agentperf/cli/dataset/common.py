"""What the subcommands share: opening the dataset they are given, writing the one they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.printable import counted
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.config.bundled import find_dataset
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.ports import RecordedSource
from pytest_agentperf.dataset.default import make_available
from pytest_agentperf.dataset.documents import DatasetMetadata
from pytest_agentperf.dataset.open import open_dataset
from pytest_agentperf.dataset.store import DatasetStore, write_dataset

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory

UNSTATED = "not stated"


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Define the dataset argument."""
    parser.add_argument("dataset", metavar="DATASET", help="a dataset's folder, or bundled:NAME")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Define where the new dataset goes."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the new dataset's folder; must not exist yet"
    )


def open_named(name: str) -> TrajectorySource:
    """Open the dataset of the command line; raises ConfigError or DatasetError."""
    path = find_dataset(name, relative_to=Path.cwd())
    return open_dataset(make_available(path))


def require_new(out: Path) -> None:
    """Refuse a folder that exists before the work instead of after it; raises DatasetError."""
    if out.exists() or out.is_symlink():
        raise DatasetError(
            "exists", where=str(out), remedy="choose a new --out; datasets are never overwritten"
        )


def metadata_of(source: TrajectorySource) -> DatasetMetadata:
    """Return what a dataset states about itself; a replay states only its name."""
    if isinstance(source, DatasetStore):
        return DatasetMetadata(**source.metadata.model_dump(include=set(DatasetMetadata.model_fields)))
    return DatasetMetadata(
        name=source.name, version="1", licence=UNSTATED, provenance=f"converted from {source.name}"
    )


def derived(source: TrajectorySource, how: str, *, traced: bool = True) -> DatasetMetadata:
    """Return the metadata of a dataset made from `source`: how, and, where `traced`, from which content."""
    old = metadata_of(source)
    origin = f" (from sha256:{source.digest[:16]}…)" if traced else ""
    return old.model_copy(update={"provenance": f"{old.provenance.rstrip()} {how}{origin}."})


class TrackedSource:
    """A source that tells a progress bar what was loaded."""

    def __init__(self, source: TrajectorySource, progress: Progress) -> None:
        self._source = source
        self._progress = progress

    @property
    def name(self) -> str:
        """Return the dataset's name."""
        return self._source.name

    @property
    def digest(self) -> str:
        """Return the dataset's digest."""
        return self._source.digest

    def ids(self) -> Sequence[str]:
        """Return the ids of all trajectories."""
        return self._source.ids()

    def load(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory."""
        self._progress.advance()
        return self._source.load(trajectory_id)

    def load_recorded(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory, with what its recording said besides where that was kept."""
        self._progress.advance()
        return load_recorded(self._source, trajectory_id)


def load_recorded(source: TrajectorySource, trajectory_id: str) -> Trajectory:
    """Return one trajectory with all that is kept of its recording: what a new dataset is made from."""
    if isinstance(source, RecordedSource):
        return source.load_recorded(trajectory_id)
    return source.load(trajectory_id)


def load_all(source: TrajectorySource, what: str, ids: Sequence[str] | None = None) -> Iterator[Trajectory]:
    """Yield all trajectories, or those of `ids`, with progress."""
    ids = source.ids() if ids is None else ids
    with Progress(what, len(ids)) as progress:
        tracked = TrackedSource(source, progress)
        yield from map(tracked.load_recorded, ids)


def write_and_report(
    out: Path, trajectories: Iterable[Trajectory], metadata: DatasetMetadata, *, shown: str | None = None
) -> DatasetStore:
    """Write a dataset and print what it holds, under the name `shown` where `out` is not where it will stand."""
    store = write_dataset(out, trajectories, metadata)
    found = store.statistics
    print(
        f"wrote {shown or out}: {trajectories_text(found.trajectories)}, {counted(found.turns, 'turn')}\n"
        f"digest sha256:{store.digest}"
    )
    return store


def trajectories_text(number: int) -> str:
    """Return a number of trajectories."""
    return counted(number, "trajectory", "trajectories")
