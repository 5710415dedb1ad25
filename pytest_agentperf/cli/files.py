"""The files that commands are given and write: leaderboards by name, and errors that say what to do."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.files import new_file
from pytest_agentperf.results.published import PUBLISHED_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator


def leaderboard_path(name: str) -> Path:
    """Return what a name means: a file, the leaderboard in a run's folder, or `published`; raises ConfigError."""
    path = Path(name)
    if name == "published" and not path.exists():
        return PUBLISHED_FILE
    if path.is_dir():
        found = sorted(path.glob("leaderboard*.json"))
        if not found:
            raise ConfigError("there is no leaderboard in it", where=name, remedy="name a leaderboard.json")
        return found[0]
    return path


def write_text(path: Path, text: str, *, remedy: str = "name another file") -> None:
    """Write a file, in place of an older one; raises ConfigError."""
    with writing(path, remedy=remedy), new_file(path, replace=True) as file:
        file.write(text.encode())


@contextmanager
def writing(where: Path | str, *, remedy: str = "name another file") -> Iterator[None]:
    """Turn what keeps a file from being written into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror or error}", where=str(where), remedy=remedy
        ) from None


@contextmanager
def showing(what: str, where: str) -> Iterator[None]:
    """Turn what a suite or a system lacks into a ConfigError: the leaderboard's models leave both open."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"a suite or a system in it lacks what {what} shows: {error}",
            where=where,
            remedy="hold it against the schema: agentperf schema",
        ) from None
