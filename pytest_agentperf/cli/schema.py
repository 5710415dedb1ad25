"""`agentperf schema`: the JSON Schema of a leaderboard."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_agentperf.results.schema import schema_text

if TYPE_CHECKING:
    import argparse

HELP = "print the JSON Schema (Draft 2020-12) of leaderboard.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define no options."""


def run(args: argparse.Namespace) -> int:
    """Print the schema, as it is generated from the models of this version."""
    sys.stdout.write(schema_text())
    return 0
