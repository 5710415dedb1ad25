"""`agentperf verify`: recomputes what a bundle publishes from its raw records, and checks the rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import RULESETS
from pytest_agentperf.recheck.archive import Bundle, BundleError
from pytest_agentperf.recheck.verify import verify
from pytest_agentperf.results.leaderboard_file import parse_leaderboard

if TYPE_CHECKING:
    import argparse

HELP = "recompute a bundle's results from its raw records, and check every rule that can be seen in it"
_GIB = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="what `agentperf bundle` wrote")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--failed", action="store_true", help="print only what does not hold")
    parser.add_argument(
        "--max-gib", type=float, default=8.0, metavar="N", help="unpack no more than this (default: 8)"
    )


def run(args: argparse.Namespace) -> int:
    """Print what holds; 1 if something does not."""
    locked = {id_: ruleset.model_dump(mode="json") for id_, ruleset in RULESETS.items()}
    try:
        with Bundle(args.bundle, bytes_max=round(args.max_gib * _GIB)) as bundle:
            findings = verify(bundle, locked=locked, read=_read)
            publishable = bool(bundle.manifest.get("publishable"))
    except BundleError as error:
        raise ConfigError(
            str(error), where=str(args.bundle), remedy="give what `agentperf bundle` wrote"
        ) from None
    counts = {
        status: sum(one.status == status for one in findings)
        for status in ("holds", "fails", "not checkable")
    }
    if args.json:
        told = {"publishable": publishable, **counts, "findings": [one._asdict() for one in findings]}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for one in findings:
            if one.status == "fails" or not args.failed:
                print(one)
        verdict = "does not hold" if counts["fails"] else "holds, as far as it can be checked"
        print(
            f"{args.bundle.name} {verdict}: {counts['holds']} checks hold, {counts['fails']} do not, "
            f"{counts['not checkable']} could not be made"
        )
    return 1 if counts["fails"] else 0


def _read(data: bytes) -> None:
    try:
        parse_leaderboard(data, where="leaderboard")
    except ConfigError as error:
        raise ValueError(error.what) from None
