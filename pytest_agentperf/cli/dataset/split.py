"""`agentperf dataset split`: a part to tune on and a held-out part, and a commitment to the latter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import (
    TrackedSource,
    add_dataset,
    derived,
    load_all,
    open_named,
    require_new,
    write_and_report,
)
from pytest_agentperf.cli.dataset.printable import printable
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.dataset.commitment import commit, encode
from pytest_agentperf.dataset.publish import written_whole
from pytest_agentperf.dataset.split import PartSource, split_dataset

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from pytest_agentperf.core.ports import TrajectorySource

HELP = "split a dataset into a part to tune on and a held-out part that share no repository and no task"

_COMMITMENT, _OPENING = "commitment.json", "held-out-opening.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)
    parser.add_argument(
        "--held-out", type=float, default=0.3, metavar="SHARE", help="share of the trajectories (%(default)g)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="which groups go where (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new folder for both parts; must not exist yet"
    )


def run(args: argparse.Namespace) -> int:
    """Write both parts, the commitment and its opening; print why each group belongs together."""
    if not 0 < args.held_out < 1:
        raise ConfigError(f"{args.held_out:g}", where="--held-out", remedy="give a share between 0 and 1")
    require_new(args.out)
    source = open_named(args.dataset)
    with Progress("grouping", len(source.ids())) as progress:
        split = split_dataset(TrackedSource(source, progress), held_out_share=args.held_out, seed=args.seed)
    print("\n".join(printable(line) for line in split.lines()))
    with written_whole(args.out) as built:
        _write_part(source, split.tuning_ids(), built, "tuning", args.seed)
        held_out = _write_part(source, split.held_out_ids(), built, "held-out", args.seed)
        commitment, opening = commit(held_out)
        (built / _COMMITMENT).write_bytes(encode(commitment))
        secret = built / _OPENING
        secret.touch(mode=0o600)
        secret.write_bytes(encode(opening))
    print(f"wrote {args.out}: publish tuning/ and {_COMMITMENT}, keep held-out/ and {_OPENING} to yourself")
    return 0


def _write_part(
    source: TrajectorySource, ids: Iterable[str], folder: Path, name: str, seed: int
) -> PartSource:
    part = PartSource(source, ids, name=f"{source.name}-{name}")
    # Not the digest of the whole: it would tell whoever guesses the held-out part that the guess is right.
    metadata = derived(source, f"The {name} part of a split with seed {seed}", traced=False)
    write_and_report(
        folder / name,
        load_all(part, f"writing {name}"),
        metadata.model_copy(update={"name": part.name}),
        shown=name,
    )
    return part
