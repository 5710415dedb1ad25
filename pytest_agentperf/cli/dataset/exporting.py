"""`agentperf dataset export`: a dataset in another tool's format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import (
    TrackedSource,
    add_dataset,
    open_named,
    require_new,
    trajectories_text,
)
from pytest_agentperf.cli.dataset.printable import counted
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.dataset.exports import write_aiperf_mooncake, write_aiperf_multi_turn, write_replay

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.dataset.exports.aiperf import AiperfExport

HELP = "write a dataset in another tool's format"

_FORMATS: dict[str, Callable[[TrajectorySource, Path], AiperfExport | None]] = {
    "agentperf-replay": write_replay,
    "aiperf-mooncake": write_aiperf_mooncake,
    "aiperf-multi-turn": write_aiperf_multi_turn,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)
    parser.add_argument("--to", required=True, choices=tuple(_FORMATS), help="the format")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="the new folder (agentperf-replay) or file (aiperf-…); must not exist yet",
    )


def run(args: argparse.Namespace) -> int:
    """Export, and say what was written."""
    require_new(args.out)
    source = open_named(args.dataset)
    ids = source.ids()
    with Progress("exporting", len(ids)) as progress:
        done = _FORMATS[args.to](TrackedSource(source, progress), args.out)
    if done is None:
        print(f"wrote {args.out}: {trajectories_text(len(ids))} as {args.to}")
    else:
        print(
            f"wrote {args.out}: {counted(done.sessions, 'session')}, {counted(done.turns, 'turn')} as {args.to}"
        )
        if done.turns_left_out:
            print(f"left out, because they add no text of their own: {counted(done.turns_left_out, 'turn')}")
    return 0
