"""Writes the evidence of a run as one archive: its files, what it was configured with, and a digest of each."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.journal import PhaseBrokenOff
from pytest_agentperf.core.leaderboard import SCHEMA
from pytest_agentperf.results.artifact import digest, files_of, leaderboard_name
from pytest_agentperf.results.files import new_file
from pytest_agentperf.results.journal import JOURNAL, read_journal
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.publishable import Publishing
from pytest_agentperf.results.turns_file import turns_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry

FORMAT = "agentperf-bundle/1"
_LEVEL = 6
_FREE = ("logs", "broken-off")
"""Folders whose files are taken as they are, whatever their number."""


def make_bundle(
    folder: Path, path: Path, *, publishable: bool = False, hide: Iterable[str] = ()
) -> list[str]:
    """Write a run directory's bundle; returns what was left out, with the reason.

    `publishable`: without what names hosts, users and paths; `hide` are further ones. Raises ConfigError naming all
    that is missing or cannot be read.
    """
    document, entry = _leaderboard(folder)
    names = _files(folder, entry, document)
    contents = dict(_contents(folder, names, document, entry))
    left_out: list[str] = []
    if publishable:
        publishing = Publishing(entry, hide)
        contents, left_out = publishing.apply(contents)
    manifest = {
        "schema": FORMAT,
        "publishable": publishable,
        "left_out": left_out,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in sorted(contents.items())
        },
    }
    try:
        with new_file(path) as file:
            _write(file, {"manifest.json": _json(manifest), **contents})
    except OSError as error:
        raise ConfigError(
            f"the bundle cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="name another file with -o: none is overwritten",
        ) from None
    return left_out


def _leaderboard(folder: Path) -> tuple[Path, Entry]:
    found = [
        folder / leaderboard_name(rehearsal=rehearsal)
        for rehearsal in (False, True)
        if (folder / leaderboard_name(rehearsal=rehearsal)).is_file()
    ]
    if len(found) != 1:
        raise ConfigError(
            "it has no leaderboard" if not found else "it has two leaderboards",
            where=str(folder),
            remedy="name the directory of a run; `agentperf recover` writes the leaderboard of one that was killed",
        )
    board = read_leaderboard(found[0])
    if len(board.entries) != 1:
        raise ConfigError(
            f"its leaderboard has {len(board.entries)} entries, those of a run have one",
            where=str(found[0]),
            remedy="bundle the directories of the runs one by one",
        )
    if json.loads(found[0].read_bytes())["schema"] != SCHEMA:
        raise ConfigError(
            "it was measured by an older version, which did not keep what it takes to check it",
            where=str(found[0]),
            remedy="measure anew",
        )
    return found[0], board.entries[0]


def _files(folder: Path, entry: Entry, document: Path) -> list[str]:
    """Return the names of all files, each of which must be there, whole and readable."""
    problems: list[str] = []
    expected: dict[str, str] = {}
    for phase in entry.phases:
        expected |= {name: phase.digests.get(name, "") for name in files_of(phase)}
    names = [document.name, turns_name(rehearsal=entry.rehearsal), *expected]
    if not entry.rehearsal:
        names.append(JOURNAL)
        if (folder / JOURNAL).is_file():
            for event in read_journal(folder / JOURNAL).events:
                if isinstance(event, PhaseBrokenOff):
                    expected |= event.digests
                    names += event.digests
    names += ["progress.log"] if (folder / "progress.log").is_file() else []
    for place in _FREE:
        names += [str(p.relative_to(folder)) for p in sorted((folder / place).rglob("*")) if p.is_file()]
    for name in dict.fromkeys(names):
        path = folder / name
        try:
            if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
                problems.append(f"{name}: it is a link")
            elif name in expected and digest(path) != expected[name]:
                problems.append(f"{name}: it is not the file that was measured")
            else:
                with path.open("rb") as file:
                    if path.suffix == ".parquet":
                        pq.read_schema(file)
        except OSError as error:
            problems.append(f"{name}: {error.strerror or error}")
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ConfigError(
            "the run's evidence is not whole:\n  " + "\n  ".join(problems),
            where=str(folder),
            remedy="restore these files, or measure anew",
        )
    return list(dict.fromkeys(names))


def _contents(folder: Path, names: list[str], document: Path, entry: Entry) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, (folder / name).read_bytes()
    # As they were resolved, each to be read for itself.
    plain = json.loads(document.read_bytes())["entries"][0]
    for name in ("suite", "system", "ruleset"):
        yield f"configuration/{name}.json", _json(plain[name])
    environment = {
        "software": entry.software,
        "software_digest": entry.digests.software,
        "measured_utc": entry.measured_utc,
        "checks": plain["preflight"],
        "power_source": plain["power_source"],
    }
    yield "environment.json", _json(environment)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _write(file: Any, contents: dict[str, bytes]) -> None:
    """Write a tar.gz archive that depends on names and bytes alone: no times, owners or file modes."""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=_LEVEL) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        first = "manifest.json"
        for name in sorted(contents, key=lambda name: (name != first, name)):
            member = tarfile.TarInfo(name)
            member.size = len(contents[name])
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(contents[name]))
