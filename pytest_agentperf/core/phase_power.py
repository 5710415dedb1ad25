"""A phase's power beside its energy: idle baseline, meters of the surroundings, what slowed devices down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.power import DeviceState, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FacilityEnergy(_Model):
    """Energy of chassis, rack or wall over the same window; never mixed into the accelerators'."""

    source: str
    scope: Scope
    devices: tuple[str, ...]
    energy: WindowEnergy
    samples: str | None = None
    """The file of its readings, relative to the run directory."""


class PhasePower(_Model):
    """What there is to say of a phase's power beside its energy; None where unknown."""

    idle_power_w: float | None = None
    """Mean of the accelerators in the pause before the phase; None if too short, not idle or not measured."""
    idle_span_ns: tuple[int, int] | None = None
    """From when to when that was, in the time of the readings."""
    throttled: tuple[str, ...] | None = None
    """Which devices were slowed down, and why; None where the source does not tell."""
    before: tuple[DeviceState, ...] = ()
    """Caps, clocks and throttle reasons before the phase, and after it."""
    after: tuple[DeviceState, ...] = ()
    facility: tuple[FacilityEnergy, ...] = ()
    samples: str | None = None
    """The file of the accelerators' readings, relative to the run directory."""


def throttled(before: Sequence[DeviceState], after: Sequence[DeviceState]) -> tuple[str, ...] | None:
    """Name what slowed devices down: `device node7/3: power cap`."""
    if not after:
        return None
    already = {state.device: set(state.throttle_reasons) for state in before}
    found = []
    for state in after:
        if state.throttle_reasons:
            found.append(f"device {state.device}: {', '.join(state.throttle_reasons)}")
        elif reasons := already.get(state.device):
            found.append(f"device {state.device}: {', '.join(sorted(reasons))} (before the phase)")
    return tuple(found)
