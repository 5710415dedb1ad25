"""The statistics as facts beside the published ones, and as bars in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.cli.dataset.printable import counted, printable
from pytest_agentperf.dataset.statistics import linear_histogram, log_histogram, summary
from pytest_agentperf.results.tables import number, render

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from pytest_agentperf.dataset.statistics import Bin, DatasetFigures, Summary

PUBLISHED = (
    "~5K / ~27K / ~131K",
    "~150 / ~2K",
    "38 / up to 200",
    "12+: Python most, then TypeScript, Go",
    "<0.1 s / ~1 s / 5 s",
)
"""The workload that the methodology describes, a fact each; output lengths are of an earlier edition."""

_BAR_CELLS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"
_NAMES_MAX = 12


class Fact(NamedTuple):
    """A line of the table."""

    name: str
    value: str


class Histogram(NamedTuple):
    """A distribution to draw; `unit` is what its values count."""

    key: str
    title: str
    unit: str
    things: str
    bins: list[Bin]


def facts(figures: DatasetFigures) -> list[Fact]:
    """Return the facts that the methodology publishes, of this dataset."""
    prompts, outputs = summary(figures.prompt_tokens), summary(figures.output_tokens)
    turns, delays = summary(figures.turns_per_trajectory), summary(figures.tool_delays_ms)
    return [
        Fact(
            "input tokens per request, min / mean / max",
            _tokens(prompts, "min", "mean", "max"),
        ),
        Fact("output tokens per request, median / P95", _tokens(outputs, "median", "p95")),
        Fact(
            "requests per trajectory, mean / max",
            f"{number(turns.mean)} / {number(turns.max, 0)}" if turns else "–",
        ),
        Fact("languages, by trajectories", names(figures.languages)),
        Fact(
            "tool delay, min / median / max",
            " / ".join(seconds(ms) for ms in (delays.min, delays.median, delays.max)) if delays else "–",
        ),
    ]


def histograms(figures: DatasetFigures) -> list[Histogram]:
    """Return the four distributions."""
    return [
        Histogram(
            "prompt_tokens",
            "Input per request",
            "tokens",
            "requests",
            linear_histogram(figures.prompt_tokens),
        ),
        Histogram(
            "output_tokens", "Output per request", "tokens", "requests", log_histogram(figures.output_tokens)
        ),
        Histogram(
            "turns_per_trajectory",
            "Requests per trajectory",
            "requests",
            "trajectories",
            linear_histogram(figures.turns_per_trajectory),
        ),
        Histogram(
            "tool_delay_ms",
            "Tool delay after a request",
            "ms",
            "requests",
            log_histogram(figures.tool_delays_ms),
        ),
    ]


def coverage(figures: DatasetFigures) -> str:
    """Return how much of the dataset the numbers rest on."""
    turns, calls = figures.turns, figures.calls.total()
    prompts, outputs = _of(len(figures.prompt_tokens), turns), _of(len(figures.output_tokens), turns)
    return (
        f"{counted(figures.trajectories, 'trajectory', 'trajectories')}, {counted(turns, 'request')};"
        f" input counted for {prompts}, output for {outputs};"
        f" {counted(calls, 'tool call')}, {_of(figures.calls_timed, calls)} with a recorded duration"
    )


def text(name: str, figures: DatasetFigures) -> str:
    """Return everything for a terminal."""
    rows = [["", printable(name), "published workload"]]
    rows += [[fact.name, fact.value, known] for fact, known in zip(facts(figures), PUBLISHED, strict=True)]
    parts = [coverage(figures), render(rows, indent="")]
    parts += [f"models: {names(figures.models)}\ntools: {names(figures.calls)}"]
    parts += [_chart(histogram) for histogram in histograms(figures) if histogram.bins]
    return "\n\n".join(parts)


def names(counts: Counter[str]) -> str:
    """Return names with their counts, most first, not more than a screen takes."""
    shown = [f"{printable(name)} {count:,}" for name, count in counts.most_common(_NAMES_MAX)]
    if (more := len(counts) - len(shown)) > 0:
        shown.append(f"{more:,} more")
    return ", ".join(shown) or "–"


def seconds(duration_ms: float) -> str:
    """Return a duration in the unit it is read best in."""
    return f"{duration_ms / 1000:,.1f} s" if duration_ms >= 1000 else f"{duration_ms:.0f} ms"


def bound(value: float) -> str:
    """Return a bin's bound."""
    return f"{value:,.0f}"


def _chart(histogram: Histogram) -> str:
    most = max(entry.count for entry in histogram.bins)
    labels = _labels(histogram.bins)
    width = max(map(len, labels))
    lines = [f"{histogram.title} ({histogram.unit}; bars count {histogram.things})"]
    for entry, label in zip(histogram.bins, labels, strict=True):
        lines.append(f"{label:>{width}}  {_bar(entry.count, most)} {entry.count:,}")
    return "\n".join(lines)


def _labels(bins: Sequence[Bin]) -> list[str]:
    return [f"{bound(entry.low)} – {bound(entry.high)}" for entry in bins]


def _bar(count: int, most: int) -> str:
    # In eighths of a cell; something is never nothing.
    eighths = max(round(count * _BAR_CELLS * 8 / most), 1 if count else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _tokens(found: Summary | None, *fields: str) -> str:
    return "not recorded" if found is None else " / ".join(number(getattr(found, name), 0) for name in fields)


def _of(part: int, whole: int) -> str:
    return "all" if part == whole else f"{part:,} of them" if part else "none"
