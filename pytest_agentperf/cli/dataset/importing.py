"""`agentperf dataset import`: recordings of any known format to a dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import UNSTATED, require_new, trajectories_text
from pytest_agentperf.cli.dataset.printable import counted
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.core.errors import ConfigError, DatasetError
from pytest_agentperf.dataset.delays import DelayRules
from pytest_agentperf.dataset.documents import DatasetMetadata
from pytest_agentperf.dataset.formats import READERS
from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.importing import find_recordings, read_recordings, reader_named
from pytest_agentperf.dataset.store import write_dataset
from pytest_agentperf.verify.prompts import open_prompt_counter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.importing import Recording
    from pytest_agentperf.dataset.store import DatasetStore

HELP = "turn recordings of agents into a dataset"

_SHOWN_MAX = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="recordings, or folders of some")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the new dataset's folder; must not exist yet"
    )
    parser.add_argument(
        "--format", metavar="NAME", help="read every PATH as this format (default: by content)"
    )
    parser.add_argument("--list-formats", action="store_true", help="list the formats, and end")
    parser.add_argument("--name", help="the dataset's name (default: its folder's)")
    parser.add_argument("--version", default="1", help="the dataset's version (%(default)s)")
    parser.add_argument("--licence", default=UNSTATED, help="what its users may do (%(default)s)")
    parser.add_argument(
        "--provenance", help="where the recordings come from (default: their formats and number)"
    )
    parser.add_argument(
        "--tokenizer", metavar="DIR", help="count with this tokenizer what the recordings did not count"
    )
    parser.add_argument(
        "--rendering",
        metavar="NAME",
        help="how its model's servers render prompts: template, or a built-in one (default: by its name)",
    )
    parser.add_argument(
        "--delay-seed",
        type=int,
        default=1,
        metavar="N",
        help="seed of tool delays not recorded (%(default)s)",
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave out recordings that cannot be read")


def run(args: argparse.Namespace) -> int:
    """Import, and print a summary; raises ConfigError or DatasetError."""
    if args.list_formats:
        width = max(len(reader.NAME) for reader in READERS)
        for reader in READERS:
            print(f"{reader.NAME:<{width}}  {reader.TITLE}")
        return 0
    if not args.paths or args.out is None:
        raise ConfigError(
            "nothing to import" if not args.paths else "no place for the dataset",
            where="agentperf dataset import",
            remedy="give PATH... --out DIR, or --list-formats",
        )
    for option in ("name", "version", "licence", "provenance"):
        if getattr(args, option) == "":
            raise ConfigError("is empty", where=f"--{option}", remedy="give a text, or leave it out")
    require_new(args.out)
    work = _Import(args)
    work.print_summary(work.write())
    return 0


class _Import:
    """One import: what was found, read, left out."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._unknown: list[Path] = []
        self._broken: list[DatasetError] = []
        self._without_turns = 0
        counter = None
        if args.tokenizer is not None:
            counter = open_prompt_counter(args.tokenizer, rendering=args.rendering)
        self._context = ImportContext(delays=DelayRules(seed=args.delay_seed), counter=counter)
        reader = reader_named(args.format) if args.format is not None else None
        self._recordings = list(find_recordings(args.paths, reader=reader, unknown=self._unknown.append))

    def write(self) -> DatasetStore:
        with Progress("importing", len(self._recordings)) as progress:
            # What was counted is known when all is read, and the metadata is written last.
            return write_dataset(self._args.out, self._trajectories(progress), self._metadata)

    def _trajectories(self, progress: Progress) -> Iterator[Trajectory]:
        broken = self._note_broken if self._args.skip_broken else None
        recordings: Iterable[Recording] = progress.track(self._recordings)
        found = 0
        for trajectory in read_recordings(recordings, self._context, broken=broken):
            if trajectory.turns:
                found += 1
                yield trajectory
            else:
                self._without_turns += 1
        if not found:
            raise DatasetError(
                "no model request in any of these recordings",
                where=", ".join(map(str, self._args.paths)),
                remedy="\n".join([*self._left_out(), *self._context.notes.lines()])
                or "give recordings in which a model answered",
            )

    def _note_broken(self, recording: Recording, error: DatasetError) -> None:
        self._broken.append(error)

    def _metadata(self) -> DatasetMetadata:
        args = self._args
        formats = sorted({recording.reader.NAME for recording in self._recordings})
        return DatasetMetadata(
            name=args.name or args.out.resolve().name,
            version=args.version,
            licence=args.licence,
            provenance=args.provenance
            or f"Imported from {counted(len(self._recordings), 'recording')} ({', '.join(formats)}).",
            # The folder's name, not where it lies.
            tokenizer=Path(args.tokenizer).name if self._context.counted else None,
        )

    def print_summary(self, store: DatasetStore) -> None:
        found = store.statistics
        for line in self._left_out():
            print(line, file=sys.stderr)
        if notes := self._context.notes.lines():
            print("notes:\n" + "\n".join(f"  {line}" for line in notes))
        if self._context.counted:
            print(f"counted with the tokenizer: {self._context.counted:,} of {counted(found.turns, 'turn')}")
        languages = ", ".join(f"{name} {count:,}" for name, count in found.languages.items())
        print(
            f"wrote {self._args.out}: {trajectories_text(found.trajectories)},"
            f" {counted(found.turns, 'turn')}, from"
            f" {counted(len(self._recordings) - len(self._broken), 'recording')}\n"
            f"languages: {languages}\ndigest sha256:{store.digest}"
        )

    def _left_out(self) -> Iterator[str]:
        for error in self._broken[:_SHOWN_MAX]:
            yield f"broken: {error}"
        if len(self._broken) > _SHOWN_MAX:
            yield f"and {counted(len(self._broken) - _SHOWN_MAX, 'more broken recording')}"
        if self._unknown:
            some = ", ".join(path.name for path in self._unknown[:_SHOWN_MAX])
            more = ", …" if len(self._unknown) > _SHOWN_MAX else ""
            yield f"in no known format: {counted(len(self._unknown), 'file')} ({some}{more})"
        if self._without_turns:
            yield f"without a model request: {trajectories_text(self._without_turns)}"
