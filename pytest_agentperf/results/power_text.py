"""What a published phase's power was, in words: beside its idle baseline, the surroundings' meters, and throttling."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.core.leaderboard import Entry, PhaseResult, TierResult

_NAMED_MAX = 3


def published_phase(entry: Entry, tier: TierResult) -> PhaseResult | None:
    """Return the phase whose figures a tier publishes."""
    return next((p for p in entry.phases if p.phase == tier.published_phase), None)


def throttled_text(devices: Sequence[str]) -> str:
    """Name the first devices that were slowed down, and count the others."""
    more = len(devices) - _NAMED_MAX
    named = "; ".join(devices[:_NAMED_MAX])
    return f"slowed down while measured: {named}" + (f"; and {more} more devices" if more > 0 else "")


def power_lines(entry: Entry) -> Iterator[str]:
    """Yield a line for each tier whose power is known, and one for each meter of its surroundings."""
    for tier in entry.tiers:
        phase = published_phase(entry, tier)
        if phase is None:
            continue
        name = f"{entry.system['name']}: {tier.tier.name}"
        energy, idle_w = phase.energy, phase.power.idle_power_w
        if energy.mean_power_w is not None:
            parts = [f"{energy.mean_power_w:,.0f} W"]
            if energy.uncertainty is not None:
                parts[0] += f" ± {energy.uncertainty:.1%}"
            if energy.peak_power_w is not None:
                parts.append(f"peak {energy.peak_power_w:,.0f} W")
            if idle_w is not None:
                parts.append(f"idle {idle_w:,.0f} W")
            if (found := tier.normalisation) is not None:
                joules = (
                    ("token", found.energy_per_output_token_j),
                    ("request", found.energy_per_request_j),
                    ("trajectory", found.energy_per_trajectory_j),
                )
                parts += [f"{_joules(value)} J/{per}" for per, value in joules if value is not None]
                if found.agents.per_kw is not None:
                    parts.append(f"{found.agents.per_kw:,.3g} agents/kW")
            yield f"{name}: accelerators {', '.join(parts)} ({energy.method})"
        for meter in phase.power.facility:
            watts, reason = meter.energy.mean_power_w, meter.energy.invalid_reason
            said = f"no valid power: {reason}" if watts is None else f"{watts:,.0f} W"
            yield f"{name}: beside them, {meter.scope} ({meter.source}): {said}"


def _joules(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
