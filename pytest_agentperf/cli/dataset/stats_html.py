"""The statistics as one HTML page that needs nothing else: no script, no font, no image from anywhere."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.stats_text import PUBLISHED, bound, coverage, facts, histograms, names
from pytest_agentperf.results.report.offline import base_style

if TYPE_CHECKING:
    from pytest_agentperf.cli.dataset.stats_text import Histogram
    from pytest_agentperf.dataset.statistics import DatasetFigures

_WIDTH, _HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 36, 26, 52
_GRID_LINES = 4


def page(name: str, digest: str, figures: DatasetFigures) -> str:
    """Return the page."""
    rows = [
        f'<tr><th scope="row">{escape(fact.name)}</th><td>{escape(fact.value)}</td><td>{escape(known)}</td></tr>'
        for fact, known in zip(facts(figures), PUBLISHED, strict=True)
    ]
    template = (files("pytest_agentperf") / "cli" / "templates" / "dataset_stats.html.in").read_text("utf-8")
    return Template(template).substitute(
        style=base_style(),
        title=escape(f"Dataset {_plain(name)}"),
        coverage=escape(coverage(figures)),
        digest=escape(f"sha256:{digest}"),
        facts="\n".join(rows),
        models=escape(names(figures.models)),
        tools=escape(names(figures.calls)),
        charts="\n".join(_figure(chart) for chart in histograms(figures) if chart.bins),
    )


def _figure(chart: Histogram) -> str:
    rows = "\n".join(
        f'<tr><th scope="row" class="number">{bound(entry.low)} – {bound(entry.high)}</th>'
        f'<td class="number">{entry.count:,}</td></tr>'
        for entry in chart.bins
    )
    return f"""<h2>{escape(chart.title)}</h2>
<figure>
<div class="wide">{_svg(chart)}</div>
<details><summary>Table of values</summary>
<div class="wide"><table>
<thead><tr><th scope="col" class="number">{escape(chart.unit)}</th>
<th scope="col" class="number">{escape(chart.things)}</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
</details>
</figure>"""


def _svg(chart: Histogram) -> str:
    top = _axis_top(max(entry.count for entry in chart.bins))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    base = _TOP + plot_height
    cell = plot_width / len(chart.bins)
    parts = []
    for i in range(_GRID_LINES + 1):
        y = base - plot_height * i / _GRID_LINES
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_label(_LEFT - 6, y + 4, f"{top * i // _GRID_LINES:,}", anchor="end"))
    for i, entry in enumerate(chart.bins):
        x, height = _LEFT + cell * i, plot_height * entry.count / top
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{base - height:.1f}" width="{cell - 2:.1f}" height="{height:.1f}"/>'
        )
    edges = [chart.bins[0].low, *(entry.high for entry in chart.bins)]
    # At most a dozen labels, so that none covers the next.
    every = -(-len(edges) // 12)
    parts += [
        _label(_LEFT + cell * i, base + 22, bound(edge)) for i, edge in enumerate(edges) if i % every == 0
    ]
    parts.append(_label(_LEFT + plot_width / 2, _HEIGHT - 6, chart.unit, unit=True))
    parts.append(_label(6, _TOP - 12, chart.things, anchor="start", unit=True))
    most = max(chart.bins, key=lambda entry: entry.count)
    described = (
        f"{len(chart.bins)} bars from {bound(edges[0])} to {bound(edges[-1])} {chart.unit}; the highest,"
        f" {most.count:,} {chart.things}, stands from {bound(most.low)} to {bound(most.high)}."
    )
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{chart.key}-title {chart.key}-desc">\n'
        f'<title id="{chart.key}-title">{escape(chart.title)}</title>\n'
        f'<desc id="{chart.key}-desc">{escape(described)}</desc>\n{body}\n</svg>'
    )


def _label(x: float, y: float, text: str, *, anchor: str = "middle", unit: bool = False) -> str:
    kind = ' class="unit"' if unit else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _axis_top(most: int) -> int:
    """Return the lowest number from `most` up whose grid lines are round."""
    steps = (size * int(10**power) for power in range(12) for size in (1, 2, 3, 4, 5, 6, 8))
    return next(step * _GRID_LINES for step in steps if step * _GRID_LINES >= most)


def _plain(text: str) -> str:
    # A title is one line, and half a surrogate pair is no text.
    return " ".join(text.encode("utf-8", "replace").decode().split())
