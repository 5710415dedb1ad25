"""`agentperf oracle`: a model's true capacity by brute force, with its doubt."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pytest_agentperf.cli.modelled import add_target_arguments, settings_of
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.opening import NotRunnable
from pytest_agentperf.oracle import Oracle, Trial, grid
from pytest_agentperf.results.tables import render

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.pass_curve import PassCurve

HELP = "find a model's true capacity by brute force: phases at every number of agents, each with many seeds"
_BRACKET_SEEDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_target_arguments(parser)
    parser.add_argument("--tier", default="tier1", help="the tier (%(default)s)")
    parser.add_argument(
        "--seeds", type=int, default=20, metavar="K", help="phases at each number (%(default)s)"
    )
    parser.add_argument(
        "--from", type=int, dest="low", metavar="N", help="the least number (default: found by a search)"
    )
    parser.add_argument("--to", type=int, dest="high", metavar="N", help="the largest number")
    parser.add_argument(
        "--points", type=int, default=25, metavar="P", help="try at most so many numbers (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Try and print."""
    for name, least in (("seeds", 2), ("points", 2)):
        if getattr(args, name) < least:
            raise ConfigError(f"{getattr(args, name)}", where=f"--{name}", remedy=f"give at least {least}")
    if (args.low is None) != (args.high is None) or (args.low is not None and not 1 <= args.low < args.high):
        raise ConfigError(
            "no range of numbers", where="--from, --to", remedy="give both, from 1 on, or neither"
        )
    settings = settings_of(args, (args.tier,))
    try:
        oracle = Oracle(settings, args.tier, on_trial=_tell)
        if args.low is None:
            low, high = oracle.bracket(oracle.search(), min(_BRACKET_SEEDS, args.seeds))
        else:
            low, high = args.low, args.high
        curve = oracle.curve(grid(low, high, args.points), args.seeds)
    except NotRunnable as reason:
        raise ConfigError(str(reason)) from None
    print(_json(curve, args) if args.json else _text(curve, args))
    return 0


def _tell(trial: Trial) -> None:
    done = {True: "PASS", False: "FAIL", None: "no verdict"}[trial.passed]
    print(f"{agents_count(trial.n_agents)}, seed {trial.seed}: {done}", file=sys.stderr, flush=True)


def _text(curve: PassCurve, args: argparse.Namespace) -> str:
    rows = [["agents", "passed", "probability of PASS"]]
    rows += [[str(p.n_agents), f"{p.passes} of {p.trials}", f"{p.probability:.2f}"] for p in curve.points]
    sign = "at least " if curve.at_least else ""
    return "\n".join(
        [
            f"SIMULATED: {args.suite} on {args.system}, {args.tier}",
            render(rows),
            f"capacity: {sign}{curve.capacity} agents; PASS and FAIL are equally likely at "
            f"{curve.crossing:.1f} (95 %: {curve.low:.1f} to {curve.high:.1f})",
            f"every seed passes up to {curve.all_pass_up_to}, none from {curve.none_pass_from} on",
        ]
    )


def _json(curve: PassCurve, args: argparse.Namespace) -> str:
    found = {
        "simulated": True,
        "suite": args.suite,
        "system": args.system,
        "tier": args.tier,
        "capacity": curve.capacity,
        **curve._asdict(),
        "points": [point._asdict() for point in curve.points],
    }
    return json.dumps(found, indent=2)
