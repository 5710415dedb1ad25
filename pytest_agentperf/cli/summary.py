"""`agentperf summary`: leaderboards as the Markdown summary of a CI job, and as annotations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.baselines import read_baseline
from pytest_agentperf.cli.files import showing, writing
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.job_summary import Annotation, plain, summary_markdown, tier_annotations
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.report import report_beside

if TYPE_CHECKING:
    import argparse

HELP = "show leaderboards as the Markdown summary of a CI job; verdicts do not change the exit code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("leaderboards", type=Path, nargs="+", metavar="LEADERBOARD.json")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="show how far capacities are from this one"
    )
    parser.add_argument(
        "--report-url", metavar="URL", help="where the artifacts are (default: the path of each report)"
    )
    parser.add_argument(
        "--github",
        action="store_true",
        help="append the summary to $GITHUB_STEP_SUMMARY, and print annotations of tiers to look at",
    )


def run(args: argparse.Namespace) -> int:
    """Print or append the summary; raises ConfigError."""
    baseline = None if args.baseline is None else read_baseline(args.baseline)
    parts, commands = ["## Capacity in coding agents\n"], []
    missing = [path for path in args.leaderboards if not path.exists()]
    for path in args.leaderboards:
        if path in missing:
            # As after a server that did not start: that is what the job's page is looked at for.
            told = f"Nothing was measured: there is no {path}. What pytest printed says why."
            parts.append(f"{plain(told)}\n")
            commands.append(Annotation("error", "no leaderboard", told).command())
            continue
        beside = report_beside(path)
        report = args.report_url or (str(beside) if beside.exists() else None)
        for entry in read_leaderboard(path).entries:
            with showing("a summary", str(path)):
                parts.append(summary_markdown(entry, baseline=baseline, report=report))
                commands += [one.command() for one in tier_annotations(entry, baseline=baseline)]
    text = "\n".join(parts)
    file = os.environ.get("GITHUB_STEP_SUMMARY") if args.github else None
    if file:
        remedy = "leave out --github, and redirect the output"
        with writing("GITHUB_STEP_SUMMARY", remedy=remedy), Path(file).open("a", encoding="utf-8") as stream:
            stream.write(text)
    else:
        print(text, end="")
    if args.github:
        print("\n".join(commands))
    if missing:
        raise ConfigError(
            "there is no such leaderboard", where=str(missing[0]), remedy="see what pytest printed"
        )
    return 0
