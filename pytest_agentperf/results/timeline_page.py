"""A history in the terminal, and as one HTML page with a chart per tier."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from pytest_agentperf.results.compared import ratio_text
from pytest_agentperf.results.report.plain_page import html_table, plain_page
from pytest_agentperf.results.tables import number, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.results.timeline_of_runs import History, Moment, Series

_HEAD = ("measured (UTC)", "served by", "agents", "agents/MW", "against the one before", "change")
_REGRESSION = "REGRESSION"


def history_text(found: History) -> str:
    """Return a table per system and tier."""
    blocks = []
    for series in found.series:
        lines = [_title(series), render([_HEAD, *map(_cells, series.moments)])]
        lines += [f"  {text}" for text in _remarks(series.moments)]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, *(f"left out: {text}" for text in found.problems)])


def history_page(found: History) -> str:
    """Return the page."""
    parts, charts = [], []
    for series in found.series:
        parts.append(f"<h2>{escape(_title(series))}</h2>")
        if any(moment.agents is not None for moment in series.moments):
            charts.append(_chart(series))
            parts.append(f'<figure data-chart="{escape(series.tier)}"></figure>')
        marked = [i for i, moment in enumerate(series.moments) if moment.change == _REGRESSION]
        rows = [_cells(moment) for moment in series.moments]
        parts.append(
            html_table(_HEAD, rows, text_columns=(0, 1, 4, 5), classes=dict.fromkeys(marked, "regression"))
        )
        told = "".join(f"<li>{escape(text)}</li>" for text in _remarks(series.moments))
        parts.append(f"<ul>{told}</ul>" if told else "")
    parts += [f"<p>left out: {escape(text)}</p>" for text in found.problems]
    simulated = any(moment.simulated for series in found.series for moment in series.moments)
    return plain_page("Capacity over time", "\n".join(parts), simulated=simulated, charts=charts)


def _title(series: Series) -> str:
    return f"{series.system}, {series.tier} of {series.suite} {series.edition}"


def _cells(moment: Moment) -> list[str]:
    served = f"{moment.version} (SIMULATED)" if moment.simulated else moment.version
    return [
        moment.measured_utc,
        served,
        number(moment.agents, 0),
        number(moment.agents_per_mw, 0),
        ratio_text(moment.ratio),
        moment.change,
    ]


def _remarks(moments: Sequence[Moment]) -> list[str]:
    return [f"{moment.measured_utc}: {text}" for moment in moments for text in moment.remarks]


def _chart(series: Series) -> dict[str, Any]:
    """Return agents over runs, in order, with the framework's version below each; regressions are marked."""
    values = [
        {
            "run": f"{i}",
            "label": f"{moment.version} · {moment.measured_utc[:10]}",
            "agents": moment.agents,
            "change": moment.change,
            "described": f"{moment.version}, {moment.measured_utc[:10]}: {moment.agents} agents, {moment.change}",
        }
        for i, moment in enumerate(series.moments)
        if moment.agents is not None
    ]
    x = {
        "field": "run",
        "type": "ordinal",
        "sort": None,
        "axis": {
            "title": None,
            "labelAngle": -35,
            "labelLimit": 220,
            "labelExpr": "labels[datum.value]",
        },
    }
    y = {
        "field": "agents",
        "type": "quantitative",
        "scale": {"zero": False},
        "axis": {"title": "agents", "tickMinStep": 1},
    }
    regressed = {"test": f"datum.change === '{_REGRESSION}'"}
    points = {
        "x": x,
        "y": y,
        "color": {"condition": {**regressed, "value": "var(--bad)"}, "value": "var(--s0)"},
        "shape": {"condition": {**regressed, "value": "triangle-down"}, "value": "circle"},
        "tooltip": [{"field": name, "type": "nominal"} for name in ("label", "agents", "change")],
        "description": {"field": "described"},
    }
    return {
        "height": 240,
        "description": _title(series),
        "params": [{"name": "labels", "value": {value["run"]: value["label"] for value in values}}],
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "line", "color": "var(--quiet)"}, "encoding": {"x": x, "y": y}},
            {"mark": {"type": "point", "filled": True, "size": 90}, "encoding": points},
        ],
    }
