"""`agentperf systems`: the systems that `--system` knows here, and what each still needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.config.bundled import system_folders
from pytest_agentperf.config.run import NotConfigured, resolve_endpoint
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    import argparse

HELP = "list the systems that --system knows here, and what each still needs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define nothing: there are no options."""


def run(args: argparse.Namespace) -> int:
    """Print the systems with their deployments; a broken file does not hide the others."""
    seen: set[str] = set()
    code = 0
    for folder in system_folders(Path.cwd()):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem in seen:
                continue
            seen.add(path.stem)
            try:
                _print_system(path)
            except ConfigError as error:
                print(f"{path.stem}  broken: {error}")
                code = 2
    return code


def _print_system(path: Path) -> None:
    system = load_system(path)
    print(f"{path.stem}  {system.title}\n  {path}")
    for name, deployment in system.deployments.items():
        found = resolve_endpoint(deployment.endpoint, where=str(path))
        state = found.reason if isinstance(found, NotConfigured) else "ready to run"
        tiers = ", ".join(deployment.tiers) if deployment.tiers else "all tiers"
        print(
            f"  {name}: {deployment.suite or 'any suite'}, {tiers}, {deployment.allocated_accelerators} accelerators"
        )
        print(f"    {state}")
