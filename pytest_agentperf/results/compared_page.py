"""A comparison as one HTML page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pytest_agentperf.results.compared_text import LOAD_HEAD, TIER_HEAD, load_rows, remarks, tier_cells
from pytest_agentperf.results.report.plain_page import html_table, plain_page

if TYPE_CHECKING:
    from pytest_agentperf.results.compared import Comparison, Pair

_READING = (
    "Ratios are the other result divided by the base. A capacity ratio is that of the curves through the probes, "
    "with its 95 % interval; the stated ratio divides what the searches stated. "
    "What is not in an interval: docs/compare.md."
)


def comparison_page(found: Comparison) -> str:
    """Return the page."""
    body = f'<p class="quiet">{escape(_READING)}</p>' + "\n".join(map(_pair, found.pairs))
    return plain_page("Results compared", body, simulated=any(pair.simulated for pair in found.pairs))


def _pair(pair: Pair) -> str:
    parts = [
        f'<h2>{escape(pair.other)} <span class="quiet">against {escape(pair.base)}, {escape(pair.suite)}, '
        f"edition {escape(pair.edition)}</span></h2>"
    ]
    if pair.tiers:
        parts.append(html_table(TIER_HEAD, [tier_cells(tier) for tier in pair.tiers], text_columns=(0, 5)))
    if pair.published:
        rows = [
            [
                one.tier,
                one.figure,
                f"{one.base:,.1f}",
                f"{one.published:,.1f}",
                f"{one.ratio:.3f}",
                one.source,
            ]
            for one in pair.published
        ]
        heads = ("tier", "figure", "base", "published", "ratio", "source")
        parts.append(html_table(heads, rows, text_columns=(0, 1, 5)))
    told = "".join(f"<li>{escape(text)}</li>" for text in remarks(pair))
    if told:
        parts.append(f"<h3>What speaks against it</h3><ul>{told}</ul>")
    if loads := load_rows(pair):
        parts.append("<h3>At equal numbers of agents</h3>" + html_table(LOAD_HEAD, loads))
    if pair.differences:
        rows = [[d.setting, d.base or "–", d.other or "–"] for d in pair.differences]
        table = html_table(("setting", "base", "other"), rows, text_columns=(0, 1, 2))
        parts.append(f"<h3>What differs</h3>{table}")
    return "\n".join(parts)
