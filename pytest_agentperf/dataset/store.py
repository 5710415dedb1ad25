"""The internal dataset format: `dataset.yaml` and one gzipped JSON document per trajectory."""

from __future__ import annotations

import contextlib
import gzip
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import yaml

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import dataset_digest, source_digest, trajectory_digest
from pytest_agentperf.dataset.documents import (
    DATASET_SCHEMA,
    DatasetDocument,
    DatasetMetadata,
    DatasetStatistics,
    RecordedDocument,
    StatisticsCollector,
    TrajectoryDocument,
    encode_recorded,
    encode_trajectory,
)
from pytest_agentperf.dataset.publish import written_whole
from pytest_agentperf.dataset.reading import (
    MAX_JSON_BYTES,
    brief,
    is_file,
    parse_json,
    read_bytes,
    read_gzip,
    validate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory

DATASET_FILE = "dataset.yaml"
TRAJECTORIES_DIR = "trajectories"
RECORDED_DIR = "recorded"
_SUFFIX = ".json.gz"
_DIGEST_PREFIX = "sha256:"
_MAX_YAML_BYTES = 2**20
# An id is a file name: no separators, no leading dot or dash, room for the suffix.
_FILE_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]{0,199}")
_DAMAGED = "the dataset is damaged or from another version: write or fetch it again"


class DatasetStore:
    """A dataset in the internal format; trajectories are read when asked for, and not kept.

    Opening reads `dataset.yaml` and lists the directory. `digest` is the declared one;
    `verify` compares.
    """

    def __init__(self, directory: Path, *, max_trajectory_bytes: int = MAX_JSON_BYTES) -> None:
        self.directory = directory
        self._max_trajectory_bytes = max_trajectory_bytes
        self._document = _read_document(directory / DATASET_FILE)
        self._ids = _list_ids(directory / TRAJECTORIES_DIR)
        declared = self._document.statistics.trajectories
        if len(self._ids) != declared:
            raise DatasetError(
                f"declares {declared} trajectories, {len(self._ids)} are there",
                where=str(directory / DATASET_FILE),
                remedy=_DAMAGED,
            )

    @property
    def name(self) -> str:
        """Return the dataset's name."""
        return self._document.name

    @property
    def digest(self) -> str:
        """Return the declared SHA-256 (hex) of the content."""
        return self._document.digest.removeprefix(_DIGEST_PREFIX)

    @property
    def metadata(self) -> DatasetMetadata:
        """Return what `dataset.yaml` states about origin, licence and token counts."""
        return self._document

    @property
    def statistics(self) -> DatasetStatistics:
        """Return the statistics `dataset.yaml` states."""
        return self._document.statistics

    def ids(self) -> Sequence[str]:
        """Return the ids of all trajectories, sorted."""
        return self._ids

    def load(self, trajectory_id: str) -> Trajectory:
        """Read one trajectory; raises DatasetError naming the file if it is unknown or broken."""
        folder = self.directory / TRAJECTORIES_DIR
        # Only listed names are opened, so that no id can lead out of the directory.
        if trajectory_id not in self._ids:
            raise DatasetError(
                f"no trajectory {trajectory_id!r}", where=str(folder), remedy="use an id that ids() lists"
            )
        path = folder / f"{trajectory_id}{_SUFFIX}"
        trajectory = _decode(read_gzip(path, max_bytes=self._max_trajectory_bytes), where=str(path))
        if trajectory.id != trajectory_id:
            raise DatasetError(f"holds trajectory {trajectory.id!r}", where=str(path), remedy=_DAMAGED)
        return trajectory

    def load_recorded(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory with what its recording said besides, where that was kept."""
        trajectory = self.load(trajectory_id)
        path = self.directory / RECORDED_DIR / f"{trajectory_id}{_SUFFIX}"
        if not is_file(path):
            return trajectory
        value = parse_json(
            read_gzip(path, max_bytes=self._max_trajectory_bytes), where=str(path), first_line=1
        )
        document = validate(RecordedDocument, value, where=str(path), remedy=_DAMAGED)
        return replace(trajectory, recorded=document.recorded())

    def verify(self) -> None:
        """Read everything and raise DatasetError unless it has the declared digest."""
        self.check_digest(source_digest(self))

    def check_digest(self, found: str) -> None:
        """Raise DatasetError unless the content's digest, found by reading all of it, is the declared one."""
        if found != self.digest:
            raise DatasetError(
                f"content has digest {found}, dataset.yaml declares {self.digest}",
                where=str(self.directory),
                remedy="trajectories were changed after the dataset was written: fetch it again",
            )


def _decode(data: bytes, *, where: str) -> Trajectory:
    value = parse_json(data, where=where, first_line=1)
    document = validate(TrajectoryDocument, value, where=where, remedy=_DAMAGED)
    try:
        return document.trajectory()
    except ValueError as error:
        raise DatasetError(str(error), where=where, remedy=_DAMAGED) from error


def _read_document(path: Path) -> DatasetDocument:
    data = read_bytes(path, max_bytes=_MAX_YAML_BYTES)
    try:
        value = yaml.safe_load(data.decode("utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DatasetError(f"not YAML: {error.problem}", where=f"{path}{line}", remedy=_DAMAGED) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DatasetError(f"not YAML: {error}", where=str(path), remedy=_DAMAGED) from error
    # Before the fields: another version has other fields, and the user should hear about the version.
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != DATASET_SCHEMA:
        raise DatasetError(
            f"schema is {brief(schema)}, this version reads {DATASET_SCHEMA!r}",
            where=str(path),
            remedy="use the pytest-agentperf version that wrote it, or convert it",
        )
    return validate(DatasetDocument, value, where=str(path), remedy="see docs/datasets.md for the format")


def _list_ids(folder: Path) -> tuple[str, ...]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise DatasetError(f"cannot be listed: {error}", where=str(folder), remedy=_DAMAGED) from error
    ids = []
    for name in names:
        # Desktop systems drop files such as .DS_Store anywhere.
        if name.startswith("."):
            continue
        trajectory_id = name.removesuffix(_SUFFIX)
        if trajectory_id == name or not _FILE_SAFE_ID.fullmatch(trajectory_id):
            raise DatasetError(
                f"unexpected file {name!r}", where=str(folder), remedy="remove it, or fetch the dataset again"
            )
        ids.append(trajectory_id)
    return tuple(sorted(ids))


def write_dataset(
    directory: Path,
    trajectories: Iterable[Trajectory],
    metadata: DatasetMetadata | Callable[[], DatasetMetadata],
) -> DatasetStore:
    """Write a new dataset and open it; raises DatasetError if `directory` exists.

    All files are built beside it and appear with one rename, `dataset.yaml` written last: no reader ever
    sees half a dataset. Trajectories are taken one at a time; metadata may be a function that is called after the last.
    """
    with written_whole(directory) as built:
        _build(built, trajectories, metadata)
    return DatasetStore(directory)


def _build(
    directory: Path,
    trajectories: Iterable[Trajectory],
    metadata: DatasetMetadata | Callable[[], DatasetMetadata],
) -> None:
    folder = directory / TRAJECTORIES_DIR
    folder.mkdir(parents=True)
    digests: list[tuple[str, str]] = []
    # Folded, because two ids that differ only in case would be one file on macOS.
    seen: set[str] = set()
    collector = StatisticsCollector()
    for trajectory in trajectories:
        if trajectory.id.casefold() in seen:
            raise DatasetError(
                f"two trajectories named {trajectory.id!r}", remedy="give every trajectory its own id"
            )
        seen.add(trajectory.id.casefold())
        digests.append((trajectory.id, _write_trajectory(folder, trajectory)))
        collector.add(trajectory)
    if callable(metadata):
        metadata = metadata()
    document = {
        "schema": DATASET_SCHEMA,
        **metadata.model_dump(include=set(DatasetMetadata.model_fields)),
        "statistics": collector.statistics().model_dump(),
        "digest": _DIGEST_PREFIX + dataset_digest(digests),
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    (directory / DATASET_FILE).write_text(text, encoding="utf-8", newline="\n")


def _write_trajectory(folder: Path, trajectory: Trajectory) -> str:
    where = f"trajectory {trajectory.id!r}"
    if not _FILE_SAFE_ID.fullmatch(trajectory.id):
        raise DatasetError(
            "its id cannot be a file name",
            where=where,
            remedy="use up to 200 letters, digits and . _ - + = @, not opening with a dot or a dash",
        )
    digest = trajectory_digest(trajectory)
    with contextlib.suppress(ValueError, RecursionError):
        data = encode_trajectory(trajectory)
        # Read back what will be written: a dataset that its own reader refuses must not come to be.
        if trajectory_digest(_decode(data, where=where)) == digest:
            _write_gzip(folder / f"{trajectory.id}{_SUFFIX}", data)
            _write_recorded(folder.parent / RECORDED_DIR, trajectory)
            return digest
    raise DatasetError(
        "cannot be stored without loss", where=where, remedy="its messages must be plain, finite JSON"
    )


def _write_recorded(folder: Path, trajectory: Trajectory) -> None:
    # In a file of its own, which nobody who replays the trajectory has to read.
    if trajectory.recorded is not None:
        data = encode_recorded(trajectory.recorded)
        folder.mkdir(exist_ok=True)
        _write_gzip(folder / f"{trajectory.id}{_SUFFIX}", data)


def _write_gzip(path: Path, data: bytes) -> None:
    # No name and no time in the header, so that equal content gives equal files.
    with (
        path.open("xb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed,
    ):
        packed.write(data)
