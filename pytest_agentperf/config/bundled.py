"""Finds suites, systems and datasets by name: the user's own folders first, then those that ship with the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(__file__).resolve().parents[1]
# In the wheel the two folders lie inside the package, in a checkout beside it.
_HOME = _PACKAGE / "bundled" if (_PACKAGE / "bundled").is_dir() else _PACKAGE.parent
SUITES = _HOME / "suites"
SYSTEMS = _HOME / "fixtures" / "systems"
DATASETS = _HOME / "fixtures" / "datasets"
QUESTIONS = _HOME / "fixtures" / "accuracy"
CACHE_VARIABLE = "AGENTPERF_CACHE"
SYNTHETIC = {"aa-agentperf-2026-06": "aa-agentperf-2026-06-500-seed1"}
"""Datasets that are made on first use, and their folders in the cache."""


def bundled_suites() -> Iterator[Path]:
    """Yield the folders of the bundled suites, by name."""
    yield from sorted(path.parent for path in SUITES.glob("*/suite.yaml"))


def system_folders(start: Path) -> list[Path]:
    """Return where a system's name is looked up, the user's own places first."""
    folders = [start / "systems", start / "fixtures" / "systems", SYSTEMS]
    return [folder for i, folder in enumerate(folders) if folder.is_dir() and folder not in folders[:i]]


def find_system_file(name_or_path: str, *, start: Path) -> Path:
    """Return the YAML file of `--system`: a path, or a name looked up in `system_folders`."""
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path)
        path = path if path.is_absolute() else start / path
        if not path.is_file():
            raise ConfigError("no such system file", where=str(path), remedy="check --system's path")
        return path
    folders = system_folders(start)
    for folder in folders:
        if (path := folder / f"{name_or_path}.yaml").is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(
        f"unknown system {name_or_path!r}",
        where="--system",
        remedy=f"one of: {', '.join(known)}; or the path of your own YAML (`agentperf init` writes one)",
    )


def find_dataset(name: str, *, relative_to: Path) -> Path:
    """Return the folder of a dataset: `bundled:NAME`, `synthetic:NAME`, or a path relative to the file that names it.

    That of a synthetic one need not exist yet.
    """
    if name.startswith("synthetic:"):
        if (folder := SYNTHETIC.get(name.removeprefix("synthetic:"))) is None:
            raise ConfigError(
                f"unknown dataset {name!r}",
                where="dataset",
                remedy=f"synthetic ones: {', '.join(SYNTHETIC)}; `agentperf dataset synthesize` makes others",
            )
        return cache_directory() / "datasets" / folder
    if name.startswith("bundled:"):
        known = sorted(path.parent.name for path in DATASETS.glob("*/dataset.yaml"))
        # By list, not by path: `bundled:` and `bundled:../x` are directories too.
        if (wanted := name.removeprefix("bundled:")) not in known:
            raise ConfigError(
                f"unknown dataset {name!r}",
                where="dataset",
                remedy=f"bundled ones: {', '.join(known) or 'none'}; or the path of your own",
            )
        return DATASETS / wanted
    return (relative_to / name).resolve()


def find_questions(name: str, *, relative_to: Path) -> Path:
    """Return the file of a set of questions: `bundled:NAME`, or a path relative to the suite's file."""
    if not name.startswith("bundled:"):
        return (relative_to / name).resolve()
    known = sorted(path.stem for path in QUESTIONS.glob("*.jsonl"))
    if (wanted := name.removeprefix("bundled:")) not in known:
        raise ConfigError(
            f"unknown questions {name!r}",
            where="accuracy.questions",
            remedy=f"bundled ones: {', '.join(known) or 'none'}; or the path of your own",
        )
    return QUESTIONS / f"{wanted}.jsonl"


def cache_directory() -> Path:
    """Return where datasets are kept that were made: AGENTPERF_CACHE, else this platform's directory for caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "pytest-agentperf"
