"""What the command line names for a session that measures, and whether it can be had: systems, suites, a folder."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_agentperf.config.bundled import find_system_file
from pytest_agentperf.config.suite import FILE_NAME
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.plugin.options import values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


def check_workers_are_here(config: pytest.Config) -> None:
    """Raise ConfigError for xdist workers on other hosts: what they measured would be written there."""
    for place in config.getoption("tx", None) or ():
        options = re.sub(r"^\d+\*", "", place).split("//")
        if options[0] != "popen" or any(option.startswith("via=") for option in options):
            raise ConfigError(
                "tests that measure run on this machine, where their results are written",
                where=f"--tx {place}",
                remedy=f"place the load there instead: --agentperf-load={place}",
            )


def systems_of(config: pytest.Config) -> dict[str, Path]:
    """Return the files of `--system` by the names they give their systems; raises ConfigError."""
    found: dict[str, Path] = {}
    for argument in values(config, "system"):
        path = find_system_file(argument, start=config.invocation_params.dir)
        name = load_system(path).name
        if found.setdefault(name, path).resolve() != path.resolve():
            raise ConfigError(
                f"two systems are named {name!r}: {found[name]} and {path}",
                where="--system",
                remedy="change `name:` in one of them: tests and results are told apart by it",
            )
    return found


def check_writable(results: Path) -> None:
    """Raise ConfigError if results could not be written: better now than after the first phase."""
    there = next(path for path in (results, *results.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"results cannot be written to {results}: {there} is no writable folder",
            where="--agentperf-results",
            remedy="name another folder",
        )


def new_stamp(results: Path, *, rehearsal: bool) -> str:
    """Return the UTC time as a name that no earlier run in this folder has, with the mark of a rehearsal."""
    from pytest_agentperf.results.artifact import REHEARSAL

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    taken = {path.name for path in results.glob(f"*-{stamp}*")} if results.is_dir() else set()
    number = 1
    mark = REHEARSAL if rehearsal else ""
    name = stamp + mark
    while any(existing.endswith(f"-{name}") for existing in taken):
        number += 1
        name = f"{stamp}.{number}{mark}"
    return name


def suites_on_command_line(config: pytest.Config) -> Iterator[Path]:
    """Yield the suites that lie beside the command line's test files, so that their errors come first."""
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        folder = path if path.is_dir() else path.parent
        if (folder / FILE_NAME).is_file():
            yield folder / FILE_NAME
