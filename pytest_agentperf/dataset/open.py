"""Choosing the reader of a dataset by what its directory holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.agentperf_replay import MANIFEST_FILE, ReplayDataset
from pytest_agentperf.dataset.reading import is_file, parse_json, read_bytes
from pytest_agentperf.dataset.store import DATASET_FILE, DatasetStore

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.ports import TrajectorySource


def open_dataset(path: Path) -> TrajectorySource:
    """Open a dataset directory in any format we read; raises DatasetError naming what was looked for."""
    if is_file(path / DATASET_FILE):
        return DatasetStore(path)
    if _is_replay(path / MANIFEST_FILE):
        return ReplayDataset(path)
    raise DatasetError(
        f"{_state(path)}: looked for {DATASET_FILE} (internal format) and "
        f"{MANIFEST_FILE} with 'tasks' (agentperf replay)",
        where=str(path),
        remedy="give the directory that holds one of these files",
    )


def _is_replay(manifest: Path) -> bool:
    if not is_file(manifest):
        return False
    value = parse_json(read_bytes(manifest), where=str(manifest), first_line=1)
    return isinstance(value, dict) and "tasks" in value


def _state(path: Path) -> str:
    try:
        if path.is_dir():
            return "is not a dataset"
        return "is not a directory" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
