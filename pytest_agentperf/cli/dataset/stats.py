"""`agentperf dataset stats`: what a dataset asks of a server, beside the published workload."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.cli.dataset.common import add_dataset, load_all, open_named
from pytest_agentperf.cli.dataset.stats_html import page
from pytest_agentperf.cli.dataset.stats_text import PUBLISHED, facts, histograms, text
from pytest_agentperf.cli.files import writing
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.dataset.statistics import DatasetFigures, summary

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.ports import TrajectorySource

HELP = "show a dataset's sizes, delays and languages beside the published workload's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write one HTML page with histograms")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Read every trajectory and print the table and histograms."""
    if args.html is not None and not args.html.resolve().parent.is_dir():
        raise ConfigError("no such folder", where=str(args.html.parent), remedy="choose another --html")
    source = open_named(args.dataset)
    figures = DatasetFigures()
    for trajectory in load_all(source, "reading"):
        figures.add(trajectory)
    if args.html is not None:
        _write(args.html, page(source.name, source.digest, figures))
    print(
        json.dumps(_document(source, figures), indent=2, ensure_ascii=False)
        if args.json
        else text(source.name, figures)
    )
    return 0


def _write(path: Path, html: str) -> None:
    # Beside it first: whoever looks sees the old page or the new one.
    partial = path.with_name(f".{path.name}.partial")
    with writing(path, remedy="choose another --html"):
        try:
            partial.write_text(html, encoding="utf-8", newline="\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _document(source: TrajectorySource, figures: DatasetFigures) -> dict[str, Any]:
    def numbers(values: list[Any]) -> dict[str, float] | None:
        found = summary(values)
        return None if found is None else {name: round(value, 3) for name, value in asdict(found).items()}

    return {
        "dataset": source.name,
        "digest": f"sha256:{source.digest}",
        "trajectories": figures.trajectories,
        "turns": figures.turns,
        "turns_per_trajectory": numbers(figures.turns_per_trajectory),
        "prompt_tokens": numbers(figures.prompt_tokens),
        "output_tokens": numbers(figures.output_tokens),
        "tool_delay_ms": numbers(figures.tool_delays_ms),
        "tool_calls": dict(figures.calls.most_common()),
        "tool_calls_timed": figures.calls_timed,
        "languages": dict(figures.languages.most_common()),
        "models": dict(figures.models.most_common()),
        "published": dict(zip((fact.name for fact in facts(figures)), PUBLISHED, strict=True)),
        "histograms": {chart.key: [asdict(entry) for entry in chart.bins] for chart in histograms(figures)},
    }
