"""`agentperf power`: what this host's accelerators draw, and whether that makes a valid result per MW."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.cli.power import check, watch
from pytest_agentperf.core.ruleset import RULESETS

if TYPE_CHECKING:
    import argparse

HELP = "check whether power can be measured here, and watch it"
_SOURCES = ("nvml", "amdsmi", "dcgm", "amd-exporter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the two commands and their options."""
    commands = parser.add_subparsers(required=True, metavar="check|watch")
    for name, module in (("check", check), ("watch", watch)):
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        what = command.add_mutually_exclusive_group()
        what.add_argument("--system", metavar="NAME|FILE", help="the sources of a system's deployments")
        what.add_argument(
            "--source", choices=_SOURCES, help="one source (default: nvml or amdsmi, whichever is here)"
        )
        command.add_argument("--deployment", metavar="NAME", help="only this one of the system's")
        command.add_argument(
            "--url", action="append", default=[], help="an exporter's /metrics, with --source; repeatable"
        )
        command.add_argument(
            "--device",
            action="append",
            default=[],
            metavar="ID",
            help="only this one, with --source; repeatable",
        )
        command.add_argument(
            "--ruleset",
            choices=sorted(RULESETS),
            help="whose limits (default: the system's, else aa-agentperf)",
        )
        module.add_arguments(command)
        command.set_defaults(run_power=module.run)


def run(args: argparse.Namespace) -> int:
    """Run one of the two."""
    code: int = args.run_power(args)
    return code
