"""Every search and every probe as tables: what the charts show, to be read without them."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_agentperf.results.decision import deciding_probes
from pytest_agentperf.results.report.distributions import TABLE
from pytest_agentperf.results.report.document import search_steps
from pytest_agentperf.results.report.rows import tier_title
from pytest_agentperf.results.report.timelines import SERIES
from pytest_agentperf.results.tables import agents_text, explanation, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.leaderboard import Entry, TierResult
    from pytest_agentperf.results.report.document import Details
    from pytest_agentperf.results.report.rows import Group


def search_tables(group: Group, details: Mapping[str, Details]) -> str:
    """Return a folded section per system and tier: how the search went, and the distributions that decided."""
    return "\n".join(
        f'<details class="search" data-system="{escape(label)}" data-tier="{escape(tier.tier.name)}">'
        f"<summary>{escape(label)}, {escape(tier_title(tier.tier))}: {escape(agents_text(tier))}</summary>"
        f"{_why(entry, tier)}{_steps(entry, tier)}{_quantiles(entry, tier, details.get(label, {}))}"
        f"{_timelines(entry, tier, details.get(label, {}))}</details>"
        for label, entry in group.entries
        for tier in entry.tiers
    )


def _why(entry: Entry, tier: TierResult) -> str:
    own = [phase for phase in entry.phases if phase.deployment == tier.deployment]
    return "".join(f"<p>{escape(line.strip())}</p>" for line in explanation(tier, own)[1:])


def _steps(entry: Entry, tier: TierResult) -> str:
    phases = {phase.phase: phase for phase in entry.phases}
    target = tier.tier
    rows = []
    own = [phase for phase in entry.phases if phase.deployment == tier.deployment]
    for count, step in enumerate(search_steps(tier, own), 1):
        phase = phases[step["phase"]]
        m = phase.metrics
        ttft = "∞" if m is not None and m.ttft_p95_s is None else f"{number(m.ttft_p95_s, 2) if m else '–'}"
        known = f"{step['low']:,} to " + ("?" if step["high"] is None else f"{step['high'] - 1:,}")
        why = step["reason"] or ", ".join(v.replace("_", " ") for v in step["violated"])
        cells = (
            f"{phase.n_agents:,}", phase.kind, step["verdict"], number(m.output_speed_p25_tok_s if m else None),
            ttft, number(m.throughput_tok_s if m else None), number(phase.energy.mean_power_w, 0), known, why,
        )  # fmt: skip
        rows.append(
            f'<tr><th scope="row" class="number">{count}</th>'
            + "".join(f"<td{_kind(i)}>{escape(text)}</td>" for i, text in enumerate(cells))
            + "</tr>"
        )
    heads = (
        "agents", "kind", "verdict", f"speed P25 (≥ {target.output_speed_p25_tok_s:g} tok/s)",
        f"TTFT P95 (≤ {target.ttft_p95_s:g} s)", "tok/s", "W", "then between", "violated",
    )  # fmt: skip
    head = "".join(f'<th scope="col"{_kind(i)}>{escape(text)}</th>' for i, text in enumerate(heads))
    return (
        f'<div class="wide"><table><thead><tr><th scope="col" class="number">probe</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _kind(column: int) -> str:
    return ' class="number"' if column in (0, 3, 4, 5, 6, 7) else ""


def _quantiles(entry: Entry, tier: TierResult, details: Details) -> str:
    rows = []
    for phase in entry.phases:
        found = details.get(phase.phase, {}).get("distributions")
        if found is None or phase.n_agents not in (tier.passed_max, tier.failed_min):
            continue
        for name, what, digits in (("ttft", "TTFT (s)", 2), ("speed", "output speed (tok/s)", 1)):
            if found[name] is not None and phase.deployment == tier.deployment:
                rows.append(_quantile_row(f"{phase.n_agents:,} agents, {what}", found[name]["table"], digits))
    if not rows:
        return ""
    head = "".join(f'<th scope="col" class="number">P{percent}</th>' for percent in TABLE)
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">distribution</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _timelines(entry: Entry, tier: TierResult, details: Details) -> str:
    """Return a folded table of each deciding probe over time."""
    own = [phase for phase in entry.phases if phase.deployment == tier.deployment]
    found = []
    for phase in deciding_probes(tier, own):
        line = details.get(phase.phase, {}).get("timeline") if phase else None
        if phase is not None and line is not None and len(line["table"]) > 1:
            table = timeline_table(line["table"])
            found.append(f"<details><summary>{phase.n_agents:,} agents over time</summary>{table}</details>")
    return "".join(found)


def timeline_table(table: Mapping[str, Sequence[float | None]]) -> str:
    """Return a timeline's means as a table; report.js makes the same of a probe that is chosen."""
    names = [name for name in SERIES if name in table]
    head = "".join(f'<th scope="col" class="number">{escape(SERIES[name])}</th>' for name in names)
    rows = []
    for i, (start, end) in enumerate(pairwise(table["t"])):
        cells = "".join(f'<td class="number">{_significant(table[name][i])}</td>' for name in names)
        rows.append(f'<tr><th scope="row">{_significant(start)} to {_significant(end)}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr><th scope="col">seconds</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _significant(value: float | None) -> str:
    return "–" if value is None else f"{float(f'{value:.3g}'):,g}"


def _quantile_row(name: str, values: Sequence[float | None], digits: int) -> str:
    cells = "".join(f'<td class="number">{number(value, digits, otherwise="∞")}</td>' for value in values)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
