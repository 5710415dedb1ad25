"""`agentperf dataset synthesize`: a dataset in the shape of a published workload, from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import require_new, write_and_report
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.dataset.default import DEFAULT, default_dataset
from pytest_agentperf.dataset.synth import PROFILES, profile_named, synthesis_metadata, synthesize

if TYPE_CHECKING:
    import argparse

HELP = "make a dataset in the shape of a published workload, from a seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "--like", dest="profile", choices=tuple(PROFILES), help=f"which workload ({DEFAULT.profile})"
    )
    parser.add_argument(
        "--trajectories", type=int, metavar="N", help=f"how many trajectories ({DEFAULT.trajectories})"
    )
    parser.add_argument("--seed", type=int, metavar="N", help=f"equal seeds, equal datasets ({DEFAULT.seed})")
    parser.add_argument(
        "--max-context",
        type=token_count,
        metavar="N",
        help="longest context, as 400000, 400k or 1M",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR", help="the new dataset's folder; must not exist yet")
    place.add_argument(
        "--default", action="store_true", help="the default dataset, made once and kept in the cache"
    )


def run(args: argparse.Namespace) -> int:
    """Synthesise and write."""
    for option in ("trajectories", "max_context", "workers"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise ConfigError(f"{value}", where=f"--{option.replace('_', '-')}", remedy="give at least 1")
    return _make_default(args) if args.default else _make(args)


def _make_default(args: argparse.Namespace) -> int:
    for option in ("profile", "trajectories", "seed", "max_context"):
        if getattr(args, option) is not None:
            raise ConfigError(
                "the default dataset is what it is",
                where=f"--{option.replace('_', '-')}",
                remedy="leave it out, or give --out DIR for a dataset of your own",
            )
    with Progress("synthesizing", DEFAULT.trajectories) as progress:
        folder = default_dataset(progress=lambda done, total: progress.advance(), workers=args.workers)
    print(f"{folder}\ndigest sha256:{DEFAULT.digest}")
    return 0


def _make(args: argparse.Namespace) -> int:
    require_new(args.out)
    profile = profile_named(args.profile or DEFAULT.profile)
    trajectories = args.trajectories or DEFAULT.trajectories
    seed = DEFAULT.seed if args.seed is None else args.seed
    metadata = synthesis_metadata(
        profile, trajectories=trajectories, seed=seed, max_context_tokens=args.max_context
    )
    with Progress("synthesizing", trajectories) as progress:
        made = synthesize(
            profile,
            trajectories=trajectories,
            seed=seed,
            max_context_tokens=args.max_context,
            workers=args.workers,
        )
        write_and_report(args.out, progress.track(made), metadata)
    return 0


def token_count(text: str) -> int:
    """Parse `400000`, `400k` or `1M`; raises ValueError."""
    multiples = {"k": 1_000, "M": 1_000_000}
    number, multiple = (text[:-1], multiples[text[-1]]) if text[-1:] in multiples else (text, 1)
    return int(number) * multiple
