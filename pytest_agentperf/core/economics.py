"""Capacity and throughput per accelerator, system, rack, kW, MW and price (METHODOLOGY §4.18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.price import HOURS_PER_YEAR, costs

if TYPE_CHECKING:
    from pytest_agentperf.core.energy import WindowEnergy
    from pytest_agentperf.core.price import Price


class Normalised(BaseModel):
    """One quantity, divided by what it took; None where the divisor is unknown, see `Normalisation.notes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_accelerator: float
    per_system: float | None
    per_rack: float | None
    per_kw: float | None
    per_mw: float | None
    per_usd_hour: float | None


class Normalisation(BaseModel):
    """Agents and throughput (tok/s) normalised alike, and what the measured window cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: Normalised
    throughput_tok_s: Normalised
    power_per_accelerator_w: float | None
    energy_per_output_token_j: float | None
    energy_per_request_j: float | None
    energy_per_trajectory_j: float | None
    cost_per_trajectory_usd: float | None
    """At capacity, without idle hours."""
    usd_per_hour: float | None = None
    """Of the whole deployment at capacity: rent, or amortised capital and electricity."""
    electricity_usd_per_hour: float | None = None
    """The part of it that is electricity, of the accelerators' measured power times PUE; None of a rent."""
    cost_per_agent_hour_usd: float | None = None
    """Of an hour that an agent works: idle hours are paid by those with load."""
    tco_per_agent_year_usd: float | None = None
    """Of one agent's share of the capacity, held ready for a year."""
    extrapolated: tuple[str, ...]
    """Which of `per_system` and `per_rack` were not run in full."""
    notes: tuple[str, ...]
    """Why a value is None."""


def normalise(
    *,
    agents: int,
    throughput_tok_s: float,
    requests_per_s: float | None,
    trajectories_per_hour: float | None,
    accelerators: int,
    accelerators_per_system: int | None,
    accelerators_per_rack: int | None,
    energy: WindowEnergy,
    price: Price | None,
    idle_power_w: float | None = None,
) -> Normalisation:
    """Divide by the allocated accelerators and by their mean power over the window; nothing unknown becomes 0."""
    power_w = energy.mean_power_w or None
    cost = costs(price, accelerators=accelerators, power_w=power_w, idle_power_w=idle_power_w)
    usd_hour, mean_usd_hour = cost.usd_per_hour, cost.mean_usd_per_hour
    worked = agents * price.utilisation.share if price and price.utilisation else None
    notes = []
    if power_w is None:
        notes.append(f"no valid power: {energy.invalid_reason or 'the readings give 0 W'}")
    notes += cost.notes
    if accelerators_per_system is None:
        notes.append("accelerators per system not configured")
    if accelerators_per_rack is None:
        notes.append("accelerators per rack not configured")
    if not trajectories_per_hour:
        notes.append("no trajectory completed")

    def normalised(value: float) -> Normalised:
        each = value / accelerators
        return Normalised(
            per_accelerator=each,
            per_system=None if accelerators_per_system is None else each * accelerators_per_system,
            per_rack=None if accelerators_per_rack is None else each * accelerators_per_rack,
            per_kw=None if not power_w else value / power_w * 1e3,
            per_mw=None if not power_w else value / power_w * 1e6,
            per_usd_hour=None if not usd_hour else value / usd_hour,
        )

    sizes = {"per_system": accelerators_per_system, "per_rack": accelerators_per_rack}
    per_second = None if not trajectories_per_hour else trajectories_per_hour / 3600
    return Normalisation(
        agents=normalised(agents),
        throughput_tok_s=normalised(throughput_tok_s),
        power_per_accelerator_w=None if power_w is None else power_w / accelerators,
        energy_per_output_token_j=None
        if power_w is None or not throughput_tok_s
        else power_w / throughput_tok_s,
        energy_per_request_j=None if power_w is None or not requests_per_s else power_w / requests_per_s,
        energy_per_trajectory_j=None if power_w is None or per_second is None else power_w / per_second,
        cost_per_trajectory_usd=(
            None if not usd_hour or not trajectories_per_hour else usd_hour / trajectories_per_hour
        ),
        usd_per_hour=usd_hour,
        electricity_usd_per_hour=cost.electricity_usd_per_hour,
        cost_per_agent_hour_usd=mean_usd_hour / worked if mean_usd_hour and worked else None,
        tco_per_agent_year_usd=mean_usd_hour * HOURS_PER_YEAR / agents if mean_usd_hour and agents else None,
        extrapolated=tuple(k for k, size in sizes.items() if size is not None and accelerators % size),
        notes=tuple(notes),
    )
