"""`agentperf dataset scrub`: a dataset without secrets, people and machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import (
    add_dataset,
    add_out,
    derived,
    load_all,
    open_named,
    require_new,
    write_and_report,
)
from pytest_agentperf.cli.dataset.printable import printable
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.dataset.scrub import ScrubbedSource

if TYPE_CHECKING:
    import argparse

HELP = "replace secrets, people and machines by placeholders, equal ones by equal ones"

_KEY_MIN_BYTES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="a secret of yours: the same gives the same placeholders again (default: drawn, and forgotten)",
    )
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    """Scrub, write, and print how much was replaced where, never what."""
    require_new(args.out)
    key = None if args.key_file is None else _key(args.key_file)
    source = open_named(args.dataset)
    scrubbed = ScrubbedSource(source, key=key)
    # Not the digest of what it was: by it a guess at a secret could be checked.
    metadata = derived(source, "Scrubbed", traced=False)
    write_and_report(args.out, load_all(scrubbed, "scrubbing"), metadata)
    print("\n".join(printable(line) for line in scrubbed.report.lines()) or "nothing was found to replace")
    print("not looked at: ids, name and provenance")
    return 0


def _key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror or error}", where=str(path), remedy="check --key-file"
        ) from error
    if len(key) < _KEY_MIN_BYTES:
        raise ConfigError(
            f"shorter than {_KEY_MIN_BYTES} bytes",
            where=str(path),
            remedy="make one: head -c 32 /dev/urandom > FILE",
        )
    return key
