"""What agents and their tasks cost, with every input and where it comes from."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pytest_agentperf.core.price import Price
from pytest_agentperf.results.power_text import published_phase
from pytest_agentperf.results.report.rows import tier_title
from pytest_agentperf.results.tables import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.core.economics import Normalisation
    from pytest_agentperf.core.leaderboard import Entry, TierResult
    from pytest_agentperf.results.report.rows import Group

_HEADS = (
    "system", "tier", "$/h at capacity", "of it electricity", "agents per $/h", "$ per agent-hour", "$ per task",
    "Wh per task", "TCO, $ per agent-year",
)  # fmt: skip
_J_PER_WH = 3_600


def cost_table(group: Group) -> str:
    """Return costs and energy per system and tier, and the inputs; nothing where nobody configured a price."""
    priced = [(label, entry) for label, entry in group.entries if entry.system.get("price")]
    if not priced:
        return ""
    head = "".join(f'<th scope="col"{"" if i < 2 else _NUMBER}>{text}</th>' for i, text in enumerate(_HEADS))
    rows = "\n".join(row for label, entry in priced for row in _rows(label, entry))
    inputs = "".join(
        f"<li>{escape(text)}</li>" for label, entry in priced for text in inputs_of(label, entry)
    )
    return (
        f'<section class="costs"><h3>What it costs</h3><div class="wide" tabindex="0" role="group" '
        f'aria-label="Table of costs"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n'
        '<p class="quiet">A task is one recorded run. Energy is the accelerators\'. $ per task and agents per $/h are '
        "those of hours at capacity; an agent-hour pays for idle hours too; TCO is a year of one agent's share.</p>"
        f"<ul>{inputs}</ul></section>"
    )


_NUMBER = ' class="number"'


def _rows(label: str, entry: Entry) -> Iterator[str]:
    for tier in entry.tiers:
        cells = "".join(f"<td{_NUMBER}>{text}</td>" for text in _cells(tier.normalisation))
        yield (
            f'<tr><th scope="row">{escape(label)}</th><td>{escape(tier_title(tier.tier))}</td>{cells}</tr>'
        )


def _cells(n: Normalisation | None) -> list[str]:
    if n is None:
        return ["–"] * (len(_HEADS) - 2)
    energy = n.energy_per_trajectory_j
    return [
        number(n.usd_per_hour, 2),
        number(n.electricity_usd_per_hour, 2),
        number(n.agents.per_usd_hour, 2),
        number(n.cost_per_agent_hour_usd, 4),
        number(n.cost_per_trajectory_usd, 4),
        number(None if energy is None else energy / _J_PER_WH, 2),
        number(n.tco_per_agent_year_usd, 0),
    ]


def _power_inputs(entry: Entry, tier: TierResult) -> Iterator[str]:
    """Yield the powers that electricity is paid for, each with where it was read."""
    phase = published_phase(entry, tier)
    if phase is None or (power_w := phase.energy.mean_power_w) is None:
        return
    source = entry.power_source[tier.deployment].source
    read = f"{source}, {phase.energy.method}" if phase.energy.method else source
    yield f"accelerators {number(power_w, 0)} W at capacity (measured in phase {phase.phase}: {read})"
    if (idle_w := phase.power.idle_power_w) is not None:
        yield f"accelerators {number(idle_w, 0)} W idle (measured in the pause before phase {phase.phase}: {read})"


def inputs_of(label: str, entry: Entry) -> Iterator[str]:
    """Yield each input of the costs with its source, then what keeps a figure from being there."""
    price = Price.model_validate(entry.system["price"])
    if price.usd_per_accelerator_hour is not None:
        yield f"{label}: rent {price.usd_per_accelerator_hour:g} $ per accelerator-hour ({price.source})"
    if (c := price.capital) is not None:
        yield (
            f"{label}: {c.usd_per_accelerator:,g} $ per accelerator over {c.amortisation_years:g} years ({c.source})"
        )
    if price.electricity is not None:
        yield f"{label}: electricity {price.electricity.usd_per_kwh:g} $/kWh ({price.electricity.source})"
    if price.pue is not None:
        yield f"{label}: PUE {price.pue.ratio:g} ({price.pue.source})"
    if price.utilisation is not None:
        yield f"{label}: at capacity {price.utilisation.share:.0%} of all hours ({price.utilisation.source})"
    for tier in entry.tiers:
        yield from (f"{label}, {tier_title(tier.tier)}: {text}" for text in _power_inputs(entry, tier))
        notes = tier.normalisation.notes if tier.normalisation else ()
        yield from (f"{label}, {tier_title(tier.tier)}: {note}" for note in notes if "cost" in note)
