"""`agentperf dataset`: recordings to datasets, and what one does with a dataset before it is measured on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "turn agents' recordings into a dataset; look at one, check it, cut it, export it"

# As for the commands: each module has `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.
_SUBCOMMANDS = {
    "import": "importing",
    "export": "exporting",
    "stats": "stats",
    "validate": "validate",
    "truncate": "truncate",
    "scrub": "scrub",
    "split": "split",
    "synthesize": "synthesize",
    "show": "show",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the subcommands."""
    subcommands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, module_name in _SUBCOMMANDS.items():
        module = import_module(f"pytest_agentperf.cli.dataset.{module_name}")
        subcommand = subcommands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subcommand)
        subcommand.set_defaults(run_subcommand=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand and return its exit code."""
    code: int = args.run_subcommand(args)
    return code
