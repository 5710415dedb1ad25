"""`agentperf suites`: the bundled suites and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.config.bundled import bundled_suites
from pytest_agentperf.config.suite import load_suite

if TYPE_CHECKING:
    import argparse

HELP = "list the bundled suites: tiers, editions, ruleset and folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define nothing: there are no options."""


def run(args: argparse.Namespace) -> int:
    """Print the suites."""
    for folder in bundled_suites():
        suite = load_suite(folder)
        print(f"{suite.name}  {suite.title}  [{suite.ruleset}]\n  {folder}")
        for edition in suite.editions:
            mark = " (default)" if edition == suite.edition else ""
            print(f"  edition {edition}{mark}")
            for tier in suite.tiers(edition).values():
                print(f"    {tier.name}: {tier}")
    return 0
