"""The official default dataset: synthesised on first use, kept in a cache, and checked against a published digest."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import filelock

from pytest_agentperf.config.bundled import CACHE_VARIABLE, cache_directory
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06
from pytest_agentperf.dataset.store import DatasetStore, write_dataset
from pytest_agentperf.dataset.synth import profile_named, synthesis_metadata, synthesize

if TYPE_CHECKING:
    from collections.abc import Callable


class Synthesis(NamedTuple):
    """A dataset that anyone can make again, and the content digest (hex) that it then has."""

    profile: str
    trajectories: int
    seed: int
    digest: str

    @property
    def directory_name(self) -> str:
        """Return the name of its directory in the cache."""
        return f"{self.profile}-{self.trajectories}-seed{self.seed}"


DEFAULT = Synthesis(
    profile="aa-agentperf-2026-06",
    trajectories=500,
    seed=1,
    digest=AA_AGENTPERF_2026_06.dataset_digest,
)


def default_dataset(
    cache_dir: Path | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Return the directory of the default dataset; the first call makes it, which takes some minutes.

    `progress` is called with the number of trajectories made so far and the number to make.
    """
    return cached_synthesis(DEFAULT, cache_dir, progress=progress, workers=workers)


def make_available(path: Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return `path`; where it is the default dataset's place in the cache, see that it is there and whole."""
    if path == cache_directory() / "datasets" / DEFAULT.directory_name:
        return default_dataset(progress=progress)
    return path


def is_to_be_made(path: Path) -> bool:
    """Return whether `make_available` would take minutes."""
    return path == cache_directory() / "datasets" / DEFAULT.directory_name and not path.exists()


def cached_synthesis(
    synthesis: Synthesis,
    cache_dir: Path | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Return the directory of a synthesised dataset, made unless the cache has it.

    Processes that start at once wait for the first. Raises DatasetError where the digest is not the expected one.
    """
    folder = (cache_dir or cache_directory()) / "datasets"
    directory = folder / synthesis.directory_name
    if not directory.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder / f".{synthesis.directory_name}.lock"):
                # Another process may have made it while this one waited.
                if not directory.exists():
                    _make(synthesis, directory, progress, workers)
        except OSError as error:
            raise DatasetError(
                f"cannot be written: {error}",
                where=str(directory),
                remedy=f"check permissions and free space, or set {CACHE_VARIABLE} to another directory",
            ) from error
    _check(DatasetStore(directory), synthesis, remedy=f"remove {directory}; it is then made again")
    return directory


def _make(
    synthesis: Synthesis,
    directory: Path,
    progress: Callable[[int, int], None] | None,
    workers: int | None,
) -> None:
    profile = profile_named(synthesis.profile)
    made = synthesize(
        profile,
        trajectories=synthesis.trajectories,
        seed=synthesis.seed,
        workers=workers,
        progress=progress,
    )
    metadata = synthesis_metadata(profile, trajectories=synthesis.trajectories, seed=synthesis.seed)
    # Checked before it appears under its name, so that the cache never holds a wrong one.
    with tempfile.TemporaryDirectory(prefix=".making-", dir=directory.parent) as scratch:
        store = write_dataset(Path(scratch) / "dataset", made, metadata)
        _check(store, synthesis, remedy="this version of the generator is not the published one: report it")
        store.directory.rename(directory)


def _check(store: DatasetStore, synthesis: Synthesis, *, remedy: str) -> None:
    if store.digest != synthesis.digest:
        raise DatasetError(
            f"has digest {store.digest}, the published one is {synthesis.digest}",
            where=str(store.directory),
            remedy=remedy,
        )
