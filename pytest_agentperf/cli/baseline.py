"""`agentperf baseline`: what gates compare with, as a file to commit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.baselines import (
    baseline_of,
    read_baseline,
    read_baseline_file,
    tiers_of_leaderboard,
    write_baseline,
)
from pytest_agentperf.cli.files import writing
from pytest_agentperf.core.baseline import Baseline
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    import argparse

HELP = "accept measured capacities as the baseline of gates, or show one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what is accepted, and where to."""
    commands = parser.add_subparsers(dest="baseline_command", required=True, metavar="COMMAND")
    accept = commands.add_parser("accept", help="make the capacities of a leaderboard the baseline")
    accept.add_argument("leaderboard", type=Path)
    accept.add_argument(
        "-o", "--output", type=Path, default=Path("baseline.json"), help="the baseline file (%(default)s)"
    )
    accept.add_argument("--tier", action="append", default=[], help="only this tier; repeatable")
    show = commands.add_parser("show", help="show what a baseline file holds")
    show.add_argument("baseline", type=Path)


def run(args: argparse.Namespace) -> int:
    """Accept or show; raises ConfigError."""
    if args.baseline_command == "show":
        _show(read_baseline(args.baseline))
        return 0
    entries = read_leaderboard(args.leaderboard).entries
    accepted = [known for known in tiers_of_leaderboard(entries) if not args.tier or known.tier in args.tier]
    if not accepted:
        reasons = [
            f"{entry.system['name']}: {reason}"
            for entry in entries
            for reason in (*entry.valid.reasons, *entry.complete.reasons)
        ]
        raise ConfigError(
            "nothing to accept: no tier has a capacity that is complete and valid"
            + (f" ({'; '.join(reasons)})" if reasons else ""),
            where=str(args.leaderboard),
            remedy="measure anew, or choose another tier",
        )
    baseline_of(accepted, args.leaderboard)
    old = read_baseline_file(args.output) if args.output.exists() else Baseline(tiers=())
    new = old
    for known in accepted:
        before = old.find(known.suite, known.edition, known.system, known.tier)
        # Its noise is a property of the system, not of one result; but a model's is not the system's.
        kept = before is not None and before.rehearsal == known.rehearsal
        new = new.accept(known.model_copy(update={"noise": before.noise}) if before and kept else known)
        was = "new" if before is None else f"was {before.agents}"
        print(f"{known.suite} {known.tier} on {known.system}: {agents_count(known.agents)} ({was})")
        if before is not None and before.noise is not None and not kept:
            kind = "rehearsed" if before.rehearsal else "measured"
            print(f"  its noise was {kind}, this baseline was not: measure the noise anew")
    with writing(args.output):
        write_baseline(args.output, new)
    print(f"baseline: {args.output}")
    return 0


def _show(baseline: Baseline) -> None:
    for known in baseline.tiers:
        noise = (
            "noise not measured" if known.noise is None else f"tolerance ≥ {known.noise.tolerance_min:.1%}"
        )
        print(
            f"{known.suite} {known.tier} on {known.system}: {agents_count(known.agents)}; "
            f"{known.ruleset or 'no ruleset'}, {known.measured_utc or 'no date'}; {noise}"
        )
