"""What `plan` and `oracle` have in common: a suite, a system with a model, and rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve

if TYPE_CHECKING:
    import argparse


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options that say what is rehearsed."""
    parser.add_argument(
        "--system", required=True, metavar="NAME|PATH", help="a system with a `simulate:` block"
    )
    parser.add_argument(
        "--suite", default="deepseek_v4_pro", help="a bundled suite's name or a path (%(default)s)"
    )
    parser.add_argument("--dataset", help="a dataset instead of the suite's")
    parser.add_argument("--ruleset", help="a ruleset instead of the system's or the suite's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="RULE=VALUE", help="change one rule; repeatable"
    )
    parser.add_argument("--start", type=int, metavar="N", help="begin the ramp at this many agents")
    parser.add_argument("--json", action="store_true", help="print JSON")


def settings_of(args: argparse.Namespace, tiers: tuple[str, ...]) -> RunSettings:
    """Resolve the options; raises ConfigError."""
    suite = Path(args.suite) if Path(args.suite).exists() else SUITES / args.suite
    options = RunOptions(
        ruleset=args.ruleset,
        overrides=tuple(args.set),
        dataset=args.dataset,
        tiers=tiers,
        start=args.start,
        nonce="rehearsal",
        rehearse=True,
    )
    system = find_system_file(args.system, start=Path.cwd())
    return resolve(suite, system, options, start=Path.cwd())
