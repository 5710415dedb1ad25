"""`agentperf recover`: the leaderboard of a run that was killed before it wrote one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.recovery import recover
from pytest_agentperf.results.artifact import write_leaderboard
from pytest_agentperf.results.journal import JOURNAL, FileJournal
from pytest_agentperf.results.report import report_beside, write_report
from pytest_agentperf.results.tables import notes, summary_table

if TYPE_CHECKING:
    import argparse

HELP = "write leaderboard and report of a run that was killed, from its journal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="agentperf-results/SUITE-SYSTEM-TIME")


def run(args: argparse.Namespace) -> int:
    """Write leaderboard.json and report.html in the run's directory, and print what is in them."""
    folder: Path = args.run_dir
    # Held meanwhile, as a run that goes on writes its own.
    journal = FileJournal(folder / JOURNAL)
    content = journal.reopen()
    try:
        found = recover(folder, content)
        if found is None:
            raise ConfigError(
                "no probe of the run was finished, so there is nothing to show",
                where=str(folder),
                remedy=f"go on with it: --agentperf-resume {folder}",
            )
        board = Leaderboard(
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            entries=(found.entry,),
        )
        path = write_leaderboard(folder, board, replace=True)
        report = write_report(report_beside(path), board, folder=folder)
    finally:
        journal.close()
    print(summary_table([found.entry]))
    for note in notes(found.entry):
        print(note)
    for problem in found.problems:
        print(f"agentperf: {problem}", file=sys.stderr)
    print(f"results: {path}")
    print(f"report: {report}")
    return 1 if found.problems else 0
