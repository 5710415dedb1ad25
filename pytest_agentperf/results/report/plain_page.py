"""A page of text and tables in the style of the report, with charts if it has any."""

from __future__ import annotations

from html import escape
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_agentperf.results.report.offline import asset, base_style, content_policy, inert, libraries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_SIMULATED = "<p><strong>SIMULATED figures are here: those of a model, not of hardware.</strong></p>"


def plain_page(
    title: str, body: str, *, simulated: bool = False, charts: Sequence[dict[str, Any]] = ()
) -> str:
    """Return the page: `body` is HTML, `charts` Vega-Lite specifications, one for each `figure[data-chart]` in it.

    `simulated`: some figure in it is a model's.
    """
    scripts = [*libraries(), asset("plain.js")] if charts else []
    style = base_style()
    return Template(asset("plain.html.in")).substitute(
        policy=content_policy(scripts, style),
        style=style,
        title=escape(title),
        banner=_SIMULATED if simulated else "",
        body=body,
        data=inert({"charts": list(charts)}) if charts else "",
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def html_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Sequence[int] = (0,),
    classes: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Return a table, its numbers to the right; `classes` of rows by their index."""

    def cell(tag: str, column: int, text: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        number = "" if column in text_columns else ' class="number"'
        return f"<{tag}{scope}{number}>{escape(text)}</{tag}>"

    head = "".join(cell("th", i, text) for i, text in enumerate(heads))
    body = "\n".join(
        f"<tr{_class(classes.get(number))}>{''.join(cell('td', i, text) for i, text in enumerate(row))}</tr>"
        for number, row in enumerate(rows)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _class(name: str | None) -> str:
    return "" if name is None else f' class="{name}"'
