"""The `agentperf` command: everything that is not a test.

Exit codes: 0 done · 1 measured, but invalid, or the endpoint or the load generator failed · 2 bad input ·
130 interrupted. (141, as of any tool, when whoever read the output left before its end.)
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from pytest_agentperf import __version__

# One module per command; each has `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.
_COMMANDS = (
    "baseline",
    "bundle",
    "calibrate",
    "calibrate-twin",
    "compare",
    "dataset",
    "doctor",
    "history",
    "init",
    "merge",
    "noise",
    "oracle",
    "plan",
    "power",
    "recover",
    "replay",
    "report",
    "schema",
    "sim",
    "suites",
    "summary",
    "systems",
    "verify",
)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = argparse.ArgumentParser(
        prog="agentperf",
        description="Measure how many coding agents an inference system serves at once.",
        epilog="Capacity itself is measured by pytest: pytest suites/deepseek_v4_pro --system=sim. "
        "Exit codes: 0 done; 1 invalid, or the endpoint or the load generator failed; 2 bad input; 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"agentperf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _COMMANDS:
        module = import_module(f"pytest_agentperf.cli.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = command_line().parse_args(argv)
    from pytest_agentperf.core.errors import AgentPerfError, ConfigError, DatasetError

    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # `agentperf systems | head -1`. What Python would flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ConfigError, DatasetError) as error:
        print(f"agentperf: {error}", file=sys.stderr)
        return 2
    except AgentPerfError as error:
        print(f"agentperf: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("agentperf: interrupted", file=sys.stderr)
        return 130
    return code
