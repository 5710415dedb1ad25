"""What a number of agents is divided by: one lens shows the whole report per accelerator, per MW, per $/h."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.economics import normalise
from pytest_agentperf.core.price import Price

if TYPE_CHECKING:
    from pytest_agentperf.core.economics import Normalisation, Normalised
    from pytest_agentperf.core.leaderboard import Entry, PhaseResult


class Lens(NamedTuple):
    """A divisor. `field` is its name in `Normalised`, None for the plain number of agents."""

    key: str
    label: str
    unit: str
    field: str | None
    absent: str
    """Why there is no figure, if no system has one."""


LENSES = (
    Lens("mw", "per MW", "agents per MW", "per_mw", "no valid power"),
    Lens("kw", "per kW", "agents per kW", "per_kw", "no valid power"),
    Lens("accelerator", "per accelerator", "agents per accelerator", "per_accelerator", "no capacity"),
    Lens("system", "per system", "agents per system", "per_system", "no system size configured"),
    Lens("rack", "per rack", "agents per rack", "per_rack", "no rack size configured"),
    Lens("usd", "per $/h", "agents per $/h", "per_usd_hour", "no price configured"),
    Lens("total", "whole deployment", "agents", None, "no capacity"),
)
"""The lead metric first."""

_ALWAYS_DIVIDES = ("mw", "kw", "accelerator")
# No agents at all are none per watt, whatever the watts were; a size or a price that nobody gave stays unknown.


def figure(value: float) -> str:
    """Return a value with three digits or more, and thousands separators."""
    if value == int(value):
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}" if value >= 0.1 else f"{value:.3g}"


def lens_values(agents: int | None, normalised: Normalised | None) -> dict[str, float | None]:
    """Return the number of agents through every lens; None where it or the divisor is not known."""
    found: dict[str, float | None] = {}
    for lens in LENSES:
        if lens.field is None or (agents == 0 and lens.key in _ALWAYS_DIVIDES):
            found[lens.key] = agents
        else:
            found[lens.key] = getattr(normalised, lens.field) if normalised else None
    return found


_NOTES = {
    "mw": ("no valid power",),
    "kw": ("no valid power",),
    "system": ("accelerators per system",),
    "rack": ("accelerators per rack",),
    "usd": ("no price", "no cost per hour"),
}
"""With what the notes of a normalisation begin that say why a lens has no figure."""


def lens_reasons(normalisation: Normalisation | None) -> dict[str, str]:
    """Return why a number of agents has no figure through each lens, if it has none."""
    notes = normalisation.notes if normalisation else ()
    return {
        lens.key: next(
            (note for note in notes if note.startswith(_NOTES.get(lens.key, ("\0",)))), "not known"
        )
        for lens in LENSES
    }


def probe_values(entry: Entry, phase: PhaseResult) -> dict[str, float | None]:
    """Return the agents of one probe through every lens, with the power of its own window."""
    accelerator = entry.system["accelerator"]
    price = entry.system.get("price")
    normalisation = normalise(
        agents=phase.n_agents,
        throughput_tok_s=phase.metrics.throughput_tok_s if phase.metrics else 0.0,
        requests_per_s=None,
        trajectories_per_hour=None,
        accelerators=entry.system["deployments"][phase.deployment]["allocated_accelerators"],
        accelerators_per_system=accelerator["per_system"],
        accelerators_per_rack=accelerator["per_rack"],
        energy=phase.energy,
        price=Price.model_validate(price) if price else None,
    )
    return lens_values(phase.n_agents, normalisation.agents)
