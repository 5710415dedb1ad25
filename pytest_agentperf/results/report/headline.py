"""The first screen: which system is ahead at each tier, whether that can be trusted, and the table behind it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pytest_agentperf.results.report.lenses import figure
from pytest_agentperf.results.report.rows import ranked, tier_title
from pytest_agentperf.results.report.trust import caveats, too_close, trust
from pytest_agentperf.results.tables import number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.results.report.lenses import Lens
    from pytest_agentperf.results.report.rows import Group, Mark, Row

_LONG = 300
"""Characters of a caveat that are shown at once: reasons of an invalid probe can fill a page."""


def answers(group: Group, lenses: Sequence[Lens]) -> str:
    """Return a card per tier with the system that is ahead, through every lens."""
    return "\n".join(_answer(tier, group.of(tier), lenses) for tier in group.tiers)


def through(lenses: Sequence[Lens], text: Callable[[Lens], str], *, tag: str = "span") -> str:
    """Return the texts of all lenses, of which the page shows that of the chosen one."""
    return "".join(f'<{tag} class="lens lens-{lens.key}">{text(lens)}</{tag}>' for lens in lenses)


def slo_text(tier: SloTier) -> str:
    """Return a tier's targets."""
    return f"≥ {tier.output_speed_p25_tok_s:g} tok/s at P25, TTFT ≤ {tier.ttft_p95_s:g} s at P95"


def _answer(tier: SloTier, rows: Sequence[Row], lenses: Sequence[Lens]) -> str:
    return (
        f'<li class="answer"><h3>{escape(tier_title(tier))}<span class="slo">{slo_text(tier)}</span></h3>\n'
        f"{through(lenses, lambda lens: _through_one(rows, lens), tag='div')}</li>"
    )


def _through_one(rows: Sequence[Row], lens: Lens) -> str:
    known = [row for row in ranked(rows, lens.key) if row.values[lens.key] is not None]
    if not known or not known[0].values[lens.key]:
        texts = "; ".join(
            f"{row.label}: {row.absent[lens.key] if row not in known else '0 agents'}" for row in rows
        )
        what = "No agents" if known else "No result"
        return f'<p class="lead"><strong>{what}</strong></p><p class="next">{escape(texts)}</p>'
    first = known[0]
    others = [row for row in known[1:] if row.kind == first.kind]
    beside = [row for row in known[1:] if row.kind != first.kind]
    found = trust(first)
    value = figure(first.values[lens.key] or 0)
    lead = (
        f'<p class="lead"><strong class="who series-{first.colour % 8}">{escape(first.label)}</strong> '
        f'<strong class="value">{value}</strong> <span class="unit">{escape(lens.unit)}</span></p>'
    )
    parts = [f"{escape(row.label)} {figure(row.values[lens.key] or 0)}" for row in others]
    unknown = [row for row in rows if row not in known and row.kind != "published"]
    parts += [f"{escape(row.label)} – ({escape(row.absent[lens.key])})" for row in unknown]
    then = f'<p class="next">then {" · ".join(parts)}</p>' if parts else ""
    for kind in dict.fromkeys(row.kind for row in beside):
        shown = [f"{_name(row)} {figure(row.values[lens.key] or 0)}" for row in beside if row.kind == kind]
        then += f'<p class="next">beside it, {kind}: {" · ".join(shown)}</p>'
    close = (
        '<p class="next"><strong>Too close to call:</strong> the search’s resolution is wider than the lead</p>'
        if others and too_close(first, others[0], lens)
        else ""
    )
    return (
        f'{lead}<p class="trust trust-{found.level}"><span class="ask">Can I trust it?</span> '
        f"{escape(found.text)}</p>{then}{close}"
    )


def table(group: Group, lenses: Sequence[Lens]) -> str:
    """Return the table of all systems and tiers."""
    score = through(lenses, lambda lens: escape(lens.unit))
    heads = [
        ("system", ""),
        (score, "number score"),
        ("agents", "number"),
        ("speed P25", "number"),
        ("TTFT P95", "number"),
        ("tok/s", "number"),
        ("W per accelerator", "number"),
        ("measured", "mark"),
        ("valid", "mark"),
        ("complete", "mark"),
        ("comparable", "mark"),
    ]
    head = "".join(f'<th scope="col" class="{kind}">{text}</th>' for text, kind in heads)
    bodies = []
    for tier in group.tiers:
        rows = "\n".join(_row(row, lenses) for row in group.of(tier))
        bodies.append(
            f'<tbody><tr class="tier"><th scope="rowgroup" colspan="{len(heads)}">{escape(tier_title(tier))} '
            f'<span class="slo">{slo_text(tier)}</span></th></tr>\n{rows}</tbody>'
        )
    return (
        f'<table class="headline"><caption class="unseen">Capacity of every system at every tier of '
        f"{escape(group.title)}</caption><thead><tr>{head}</tr></thead>\n{''.join(bodies)}</table>"
    )


def _folded(text: str) -> str:
    """Return a text, of a long one its beginning, and the whole of it on demand."""
    if len(text) <= _LONG:
        return escape(text)
    return f"<details><summary>{escape(text[:_LONG])}…</summary>{escape(text[_LONG:])}</details>"


def _row(row: Row, lenses: Sequence[Lens]) -> str:
    def score(lens: Lens) -> str:
        value = row.values[lens.key]
        if value is not None:
            return f"<strong>{figure(value)}</strong>"
        return f'–<span class="served">{escape(_brief(row.absent[lens.key]))}</span>'

    tag = "" if row.kind == "measured" else f' <span class="tag">{row.kind}</span>'
    served = ", ".join(filter(None, (row.hardware, row.served_by)))
    failed = "" if row.below is None else f'<span class="served">{row.below:,} fail</span>'
    if row.interval is not None:
        told, interval = escape(row.interval_told), escape(row.interval)
        failed += f'<span class="served interval" title="{told}">interval {interval}</span>'
    ttft = "–" if row.ttft_p95_s is None else f"{row.ttft_p95_s:,.2f} s"
    cells = "".join(
        f'<td class="number">{text}</td>'
        for text in (
            through(lenses, score),
            escape(row.agents_text) + failed,
            number(row.output_speed_p25_tok_s),
            ttft,
            number(row.throughput_tok_s),
            number(row.power_per_accelerator_w, 0),
        )
    )
    marks = "".join(_mark(mark) for mark in row.marks)
    if row.kind == "published":
        marks = f'<td colspan="{len(row.marks)}" class="quiet">not checked here</td>'
    return (
        f'<tr><th scope="row"><span class="who series-{row.colour % 8}">{_name(row)}</span>{tag}'
        f'<span class="served">{escape(served)}</span></th>{cells}{marks}</tr>'
    )


def _brief(reason: str) -> str:
    """Return a reason without what follows its colon, which is among the caveats in full."""
    return reason.partition(":")[0]


def _name(row: Row) -> str:
    # The tag, or the sentence, says it already.
    return escape(row.label.removesuffix(" (published)"))


def _mark(mark: Mark) -> str:
    reasons = escape("; ".join(mark.reasons))
    if mark.holds is None:
        return f'<td class="mark quiet" title="{reasons}">not run</td>'
    kind, sign, word = ("yes", "✓", "yes") if mark.holds else ("no", "✕", "no")
    return f'<td class="mark {kind}" title="{reasons}"><span aria-hidden="true">{sign}</span> {word}</td>'


def caveat_list(group: Group) -> str:
    """Return everything that speaks against the numbers."""
    everybody = len(group.colours)
    items = []
    for caveat in caveats(group):
        who = "all systems" if len(caveat.who) == everybody > 1 else ", ".join(caveat.who)
        items.append(f"<li><strong>{escape(who)}:</strong> {_folded(caveat.text)}</li>")
    if not items:
        return "<p>Nothing speaks against these numbers.</p>"
    return f"<ul>{''.join(items)}</ul>"
