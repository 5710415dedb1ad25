"""Puts the report together: one file that asks nobody for anything, and lets nothing in its data become code."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING

from pytest_agentperf.results.report.configuration import configuration_tables
from pytest_agentperf.results.report.costs import cost_table
from pytest_agentperf.results.report.document import document
from pytest_agentperf.results.report.headline import answers, caveat_list, table, through
from pytest_agentperf.results.report.lenses import LENSES
from pytest_agentperf.results.report.offline import (
    asset,
    base_style,
    content_policy,
    inert,
    libraries,
    package_text,
)
from pytest_agentperf.results.report.rows import groups
from pytest_agentperf.results.report.searches import search_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.leaderboard import Leaderboard
    from pytest_agentperf.results.report.document import Details
    from pytest_agentperf.results.report.lenses import Lens
    from pytest_agentperf.results.report.rows import Group


def page(board: Leaderboard, details: Mapping[str, Details], missing: Sequence[str]) -> str:
    """Return the report; `missing` says what could not be shown, and why."""
    found = groups(board)
    values = [row.values for group in found for row in group.rows]
    # A button for each lens, also where nobody has a figure: then it says why.
    known = [lens for lens in LENSES if any(v[lens.key] is not None for v in values)]
    lenses = known or list(LENSES[-1:])
    scripts = [*libraries(), asset("charts.js"), asset("report.js")]
    style = base_style() + asset("report.css") + _lens_rules(lenses)
    data = inert(document(found, details, [lens.key for lens in lenses]))
    return Template(asset("report.html.in")).substitute(
        policy=content_policy(scripts, style),
        style=style,
        title=escape(_title(found)),
        prefix="SIMULATED: " if any(entry.simulated for entry in board.entries) else "",
        banner=_banner(board),
        made=escape(_made(board)),
        lenses=_lens_switch(lenses, known=bool(known)),
        shown=through(lenses, lambda lens: escape(lens.unit)),
        groups="\n".join(_group(group, lenses, details) for group in found),
        missing=_missing(missing),
        configuration="\n".join(_configuration(group) for group in found),
        licences=escape(package_text("vendor", "LICENSES.txt")),
        data=data,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _title(found: Sequence[Group]) -> str:
    return " and ".join(f"{group.title}, {group.edition}" for group in found) or "no results"


def _made(board: Leaderboard) -> str:
    versions = dict.fromkeys(entry.software.get("pytest-agentperf", "") for entry in board.entries)
    return f"Leaderboard of {board.created_utc}, measured with pytest-agentperf {', '.join(versions) or '–'}"


def _banner(board: Leaderboard) -> str:
    """Return what must not be overlooked: figures of a model, and results that are not whole."""
    lines = []
    simulated = [entry for entry in board.entries if entry.simulated]
    if simulated:
        names = ", ".join(dict.fromkeys(entry.system["name"] for entry in simulated))
        who = (
            "Every figure here is" if len(simulated) == len(board.entries) else f"The figures of {names} are"
        )
        lines.append(("simulated", f"SIMULATED. {who} of a model, not of hardware."))
    for name, text in (("complete", "INCOMPLETE"), ("valid", "INVALID")):
        names = ", ".join(
            dict.fromkeys(e.system["name"] for e in board.entries if not getattr(e, name).value)
        )
        if names:
            lines.append((name, f"{text}: {names}. The reasons are below the table."))
    return "\n".join(f'<p class="banner {kind}" role="note">{escape(text)}</p>' for kind, text in lines)


def _lens_rules(lenses: Sequence[Lens]) -> str:
    """Show only what belongs to the chosen lens, without any script."""
    shown = "\n".join(
        f"body:has(#lens-{lens.key}:checked) .lens:not(.lens-{lens.key}) {{ display: none; }}"
        for lens in lenses
    )
    return f"\n{shown}\n"


def _lens_switch(lenses: Sequence[Lens], *, known: bool) -> str:
    parts = []
    for lens in LENSES:
        there = lens in lenses
        state = "" if there else " disabled"
        state += " checked" if lens is lenses[0] else ""
        absent = lens.absent if known else "no capacity"
        why = "" if there else f' <span class="why">({escape(absent)})</span>'
        parts.append(
            f'<label><input type="radio" name="lens" id="lens-{lens.key}" value="{lens.key}"{state}>'
            f"<span>{escape(lens.label)}{why}</span></label>"
        )
    return "".join(parts)


def _group(group: Group, lenses: Sequence[Lens], details: Mapping[str, Details]) -> str:
    return Template(asset("group.html.in")).substitute(
        key=group.key,
        title=escape(f"{group.title} · edition {group.edition}"),
        rules=escape(_rules(group)),
        answers=answers(group, lenses),
        table=table(group, lenses),
        caveats=caveat_list(group),
        costs=cost_table(group),
        searches=search_tables(group, details),
    )


def _rules(group: Group) -> str:
    rulesets = ", ".join(dict.fromkeys(entry.ruleset.id for _, entry in group.entries))
    datasets = ", ".join(
        dict.fromkeys(
            f"{entry.dataset.name} ({entry.dataset.trajectories} trajectories)" for _, entry in group.entries
        )
    )
    return f"ruleset {rulesets} · dataset {datasets}" if group.entries else "as published by others"


def _configuration(group: Group) -> str:
    return f"<h3>{escape(group.title)}</h3>{configuration_tables(group.entries)}" if group.entries else ""


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in missing)
    return f'<section class="missing"><h2>Not shown</h2><ul>{items}</ul></section>'
