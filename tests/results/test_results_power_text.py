"""What a person reads of power: doubt, peak and idle beside the mean, meters beside, and what slowed devices down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from results_support import NO_ENERGY, columns, phase, tier_result

from pytest_agentperf.core.economics import normalise
from pytest_agentperf.core.phase_power import FacilityEnergy, PhasePower
from pytest_agentperf.results.power_text import power_lines
from pytest_agentperf.results.tables import notes

if TYPE_CHECKING:
    from pytest_agentperf.core.energy import WindowEnergy
    from pytest_agentperf.core.leaderboard import Entry

ENERGY = NO_ENERGY.model_copy(
    update={
        "energy_j": 160_000.0,
        "mean_power_w": 1_600.0,
        "peak_power_w": 1_900.0,
        "uncertainty": 0.004,
        "method": "energy counter",
        "invalid_code": None,
        "invalid_reason": None,
    }
)


def entry(energy: WindowEnergy = ENERGY, **power: Any) -> Entry:
    found = normalise(
        agents=4,
        throughput_tok_s=200.0,
        requests_per_s=2.0,
        trajectories_per_hour=360.0,
        accelerators=2,
        accelerators_per_system=8,
        accelerators_per_rack=72,
        energy=energy,
        price=None,
    )
    yes = SimpleNamespace(value=True, reasons=())
    return cast(
        "Entry",
        SimpleNamespace(
            system={"name": "box"},
            simulated=False,
            rehearsal=False,
            complete=yes,
            valid=yes,
            comparable=yes,
            tiers=(tier_result(energy=energy, normalisation=found),),
            phases=(
                phase(columns(), phase=0, power=PhasePower(throttled=("device z: not published",))),
                phase(columns(), phase=1, energy=energy, power=PhasePower(**power)),
            ),
        ),
    )


def test_power_with_all_that_is_derived_from_it() -> None:
    assert list(power_lines(entry(idle_power_w=300.0))) == [
        "box: tier1: accelerators 1,600 W ± 0.4%, peak 1,900 W, idle 300 W, 8 J/token, 800 J/request, "
        "16,000 J/trajectory, 2.5 agents/kW (energy counter)"
    ]


def test_what_is_not_known_is_not_shown() -> None:
    assert list(power_lines(entry(NO_ENERGY))) == []
    assert notes(entry(NO_ENERGY)) == ["box: tier1: no valid power: no power source"]
    assert "idle" not in next(iter(power_lines(entry())))


def test_meters_stand_beside() -> None:
    facility = tuple(
        FacilityEnergy(source="redfish (bmc7)", scope=scope, devices=("a",), energy=energy)
        for scope, energy in (("chassis", ENERGY), ("rack", NO_ENERGY))
    )
    assert list(power_lines(entry(facility=facility)))[1:] == [
        "box: tier1: beside them, chassis (redfish (bmc7)): 1,600 W",
        "box: tier1: beside them, rack (redfish (bmc7)): no valid power: no power source",
    ]


def test_throttling_of_the_published_phase_is_noted() -> None:
    assert notes(entry(throttled=())) == []
    few = ("device a: power cap", "device b: hot")
    assert notes(entry(throttled=few)) == [
        "box: tier1: slowed down while measured: device a: power cap; device b: hot"
    ]
    (note,) = notes(entry(throttled=tuple(f"device {n}: hot" for n in range(72))))
    assert note.endswith("device 2: hot; and 69 more devices")
