"""`agentperf bundle`: the evidence of a run as one archive."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.results.bundle import make_bundle

if TYPE_CHECKING:
    import argparse

HELP = "write one archive with the evidence of a run: results, records, readings, journal, configuration"
_SUFFIX = ".agentperf.tar.gz"
_COMMON_NAMES = frozenset({"localhost", "root", "user", "ubuntu"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="agentperf-results/SUITE-SYSTEM-TIME")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"where to (default: RUN_DIR{_SUFFIX}); never overwritten",
    )
    parser.add_argument(
        "--publishable",
        action="store_true",
        help="without logs and server messages, names of hosts and users, and paths",
    )
    parser.add_argument(
        "--hide",
        action="append",
        default=[],
        metavar="NAME",
        help="with --publishable: a further host or user, as commands in the system's file may name them; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Write the archive."""
    folder: Path = args.run_dir
    suffix = f"-publishable{_SUFFIX}" if args.publishable else _SUFFIX
    path = args.output or folder.resolve().with_name(folder.resolve().name + suffix)
    left_out = make_bundle(folder, path, publishable=args.publishable, hide=[*args.hide, *_names()])
    for what in left_out:
        print(f"left out: {what}")
    print(f"bundle: {path} ({path.stat().st_size / 1e6:,.1f} MB)")
    return 0


def _names() -> list[str]:
    """Return the names of this machine and user, unless they are everybody's."""
    found = [socket.gethostname()]
    try:
        found.append(getpass.getuser())
    except (OSError, KeyError):  # a user without a name, as in containers
        return [name for name in found if name not in _COMMON_NAMES]
    return [name for name in found if name not in _COMMON_NAMES]
