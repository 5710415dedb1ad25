"""`agentperf dataset validate`: reads everything and says what would fail or mislead."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import add_dataset, open_named
from pytest_agentperf.cli.dataset.printable import counted, printable
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.checks import Finding, check_trajectory
from pytest_agentperf.dataset.digest import dataset_digest, trajectory_digest
from pytest_agentperf.dataset.store import DatasetStore

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.ports import TrajectorySource

HELP = "read all of a dataset: digest, tool calls and results, prompts, counts; exit code 1 if invalid"

_KINDS_MAX = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if any is an error."""
    source = open_named(args.dataset)
    findings = _Findings()
    turns = _read(source, findings)
    findings.print_all()
    verdict = "INVALID" if findings.errors else "valid"
    print(
        f"{verdict}: {counted(len(source.ids()), 'trajectory', 'trajectories')}, {counted(turns, 'turn')},"
        f" {counted(findings.errors, 'error')}, {counted(findings.warnings, 'warning')}"
    )
    return 1 if findings.errors else 0


class _Findings:
    """Keeps the first finding of each kind, and counts all."""

    def __init__(self) -> None:
        self._first: dict[tuple[bool, str], Finding] = {}
        self._counts: Counter[tuple[bool, str]] = Counter()
        self.errors = 0
        self.warnings = 0

    def add(self, finding: Finding) -> None:
        self.errors += finding.error
        self.warnings += not finding.error
        kind = (finding.error, finding.what)
        self._counts[kind] += 1
        if len(self._first) < _KINDS_MAX:
            self._first.setdefault(kind, finding)

    def print_all(self) -> None:
        for kind, finding in sorted(self._first.items(), key=lambda item: not item[1].error):
            turn = "" if finding.turn is None else f", turn {finding.turn}"
            more = (
                f" (and {counted(self._counts[kind] - 1, 'more trajectory', 'more trajectories')})"
                if self._counts[kind] > 1
                else ""
            )
            level = "error" if finding.error else "warning"
            print(f"{level}: {printable(finding.trajectory)}{turn}: {printable(finding.what)}{more}")
        if (hidden := len(self._counts) - len(self._first)) > 0:
            print(f"… and {hidden:,} more kinds of findings")


def _read(source: TrajectorySource, findings: _Findings) -> int:
    turns = 0
    digests: list[tuple[str, str]] = []
    ids = source.ids()
    with Progress("validating", len(ids)) as progress:
        for trajectory_id in progress.track(ids):
            try:
                trajectory = source.load(trajectory_id)
                digests.append((trajectory_id, trajectory_digest(trajectory)))
            except DatasetError as error:
                findings.add(Finding(trajectory_id, None, str(error)))
                continue
            turns += len(trajectory.turns)
            for finding in check_trajectory(trajectory):
                findings.add(finding)
    if not isinstance(source, DatasetStore):
        print(f"a {type(source).__name__} declares no digest to compare", file=sys.stderr)
    elif dataset_digest(digests) != source.digest:
        findings.add(
            Finding(
                source.name, None, f"the content is not that of the declared digest sha256:{source.digest}"
            )
        )
    return turns
