from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pytest_agentperf.core.economics import Normalisation, Normalised, normalise
from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.price import Capital, Electricity, Price, Pue, Utilisation
from pytest_agentperf.recheck.judging import normalised as recomputed

RENT = Price(usd_per_accelerator_hour=2.0, source="a test")
NO_UTILISATION = "utilisation not configured: no cost per agent-hour"
NO_POWER = WindowEnergy(
    energy_j=None,
    mean_power_w=None,
    devices=0,
    coverage=0,
    method=None,
    invalid_code="no_readings",
    invalid_reason="no readings",
)


def power(mean_w: float) -> WindowEnergy:
    return WindowEnergy(
        energy_j=600 * mean_w,
        mean_power_w=mean_w,
        devices=8,
        coverage=1,
        method="m",
        invalid_code=None,
        invalid_reason=None,
    )


def normalised(**changes: Any) -> Normalisation:
    """16 agents and 800 tok/s on 8 accelerators that draw 4 kW and cost 2 $ an hour each."""
    values: dict[str, Any] = {
        "agents": 16,
        "throughput_tok_s": 800.0,
        "requests_per_s": 2.0,
        "trajectories_per_hour": 40.0,
        "accelerators": 8,
        "accelerators_per_system": 8,
        "accelerators_per_rack": 72,
        "energy": power(4_000),
        "price": RENT,
    }
    return normalise(**{**values, **changes})


def test_each_by_hand() -> None:
    assert normalised() == Normalisation(
        agents=Normalised(
            per_accelerator=2.0,
            per_system=16.0,
            per_rack=144.0,
            per_kw=4.0,
            per_mw=4_000.0,
            per_usd_hour=1.0,
        ),
        throughput_tok_s=Normalised(
            per_accelerator=100.0,
            per_system=800.0,
            per_rack=7_200.0,
            per_kw=200.0,
            per_mw=200_000.0,
            per_usd_hour=50.0,
        ),
        power_per_accelerator_w=500.0,
        energy_per_output_token_j=5.0,  # 4 kW over 800 tok/s
        energy_per_request_j=2_000.0,
        energy_per_trajectory_j=360_000.0,  # 4 kW for the 90 s that one of 40 in an hour takes
        cost_per_trajectory_usd=0.4,  # 16 $ an hour over 40
        usd_per_hour=16.0,
        tco_per_agent_year_usd=8_760.0,
        extrapolated=("per_rack",),
        notes=(NO_UTILISATION,),
    )


def test_the_published_gb300_score() -> None:
    """1,840 agents on 32 GPUs; at about 937 W each that is the published 61,354 agents per MW."""
    found = normalised(
        agents=1_840,
        accelerators=32,
        accelerators_per_system=72,
        accelerators_per_rack=72,
        energy=power(32 * 937),
    )
    assert found.agents.per_accelerator == 57.5
    assert found.agents.per_mw == pytest.approx(1_840e6 / (32 * 937))
    assert found.agents.per_mw == pytest.approx(61_354, rel=3e-4)
    assert found.agents.per_rack == 57.5 * 72
    assert found.power_per_accelerator_w == 937
    assert found.extrapolated == ("per_system", "per_rack")


@pytest.mark.parametrize(
    ("accelerators", "system", "rack", "extrapolated"),
    [
        (72, 8, 72, ()),
        (144, 72, 72, ()),
        (16, 8, 32, ("per_rack",)),
        (4, 8, 32, ("per_system", "per_rack")),
        (12, 8, 4, ("per_system",)),  # one and a half systems
        (3, None, None, ()),
    ],
)
def test_what_did_not_run_in_full_is_extrapolated(
    accelerators: int, system: int | None, rack: int | None, extrapolated: tuple[str, ...]
) -> None:
    found = normalised(accelerators=accelerators, accelerators_per_system=system, accelerators_per_rack=rack)
    assert found.extrapolated == extrapolated


def test_idle_accelerators_count() -> None:
    assert normalised(accelerators=16).agents.per_accelerator == 1.0


def test_without_power_nothing_per_watt() -> None:
    found = normalised(energy=NO_POWER)
    for quantity in (found.agents, found.throughput_tok_s):
        assert (quantity.per_kw, quantity.per_mw) == (None, None)
        assert quantity.per_accelerator > 0
    assert (found.power_per_accelerator_w, found.energy_per_trajectory_j) == (None, None)
    assert found.notes == ("no valid power: no readings", NO_UTILISATION)
    assert found.cost_per_trajectory_usd == 0.4


def test_a_power_of_zero_is_no_power() -> None:
    found = normalised(energy=power(0))
    assert (found.agents.per_kw, found.agents.per_mw) == (None, None)
    assert (found.power_per_accelerator_w, found.energy_per_trajectory_j) == (None, None)
    assert found.notes == ("no valid power: the readings give 0 W", NO_UTILISATION)


def test_without_a_price_nothing_per_dollar() -> None:
    found = normalised(price=None)
    assert (found.agents.per_usd_hour, found.throughput_tok_s.per_usd_hour) == (None, None)
    assert found.cost_per_trajectory_usd is None
    assert found.notes == ("no price configured",)
    assert found.agents.per_mw == 4_000


def test_without_sizes_nothing_per_system_or_rack() -> None:
    found = normalised(accelerators_per_rack=None)
    assert (found.agents.per_rack, found.throughput_tok_s.per_rack) == (None, None)
    assert found.notes == (
        NO_UTILISATION,
        "accelerators per rack not configured",
    )
    found = normalised(accelerators_per_system=None)
    assert (found.agents.per_system, found.throughput_tok_s.per_system) == (None, None)
    assert found.notes == (
        NO_UTILISATION,
        "accelerators per system not configured",
    )


@pytest.mark.parametrize("rate", [None, 0.0])
def test_without_trajectories_no_cost_of_one(rate: float | None) -> None:
    found = normalised(trajectories_per_hour=rate)
    assert (found.energy_per_trajectory_j, found.cost_per_trajectory_usd) == (None, None)
    assert found.notes == (NO_UTILISATION, "no trajectory completed")


def test_every_none_has_its_note() -> None:
    found = normalised(
        energy=NO_POWER,
        price=None,
        accelerators_per_rack=None,
        accelerators_per_system=None,
        trajectories_per_hour=None,
    )
    assert len(found.notes) == 5


# 8 × 43,800 $ over 5 years are 8 $ an hour; 4 kW, 1.25-fold, at 0.2 $ are 1 $ more.
CAPITAL = Capital(usd_per_accelerator=43_800, amortisation_years=5, source="a test")
POWER = Electricity(usd_per_kwh=0.2, source="a test")
PUE = Pue(ratio=1.25, source="a test")


def half(share: float = 0.5) -> Utilisation:
    return Utilisation(share=share, source="a test")


def bought(**changes: Any) -> Price:
    inputs: dict[str, Any] = {"capital": CAPITAL, "electricity": POWER, "pue": PUE, "utilisation": half()}
    return Price(**{**inputs, **changes})


def test_what_is_bought_is_amortised_and_draws_power() -> None:
    found = normalised(price=bought(), idle_power_w=2_000)
    assert (found.usd_per_hour, found.electricity_usd_per_hour) == (9.0, 1.0)
    assert found.agents.per_usd_hour == pytest.approx(16 / 9)
    assert found.cost_per_trajectory_usd == pytest.approx(9 / 40)
    # Half of all hours at 9 $, half at 8.50 $.
    assert found.cost_per_agent_hour_usd == pytest.approx(8.75 / 8)
    assert found.tco_per_agent_year_usd == pytest.approx(8.75 * 8_760 / 16)
    assert found.notes == ()


def test_a_rent_is_paid_in_idle_hours_too() -> None:
    found = normalised(price=Price(usd_per_accelerator_hour=2, source="a test", utilisation=half()))
    assert found.cost_per_agent_hour_usd == 2.0
    assert found.cost_per_trajectory_usd == 0.4
    assert found.electricity_usd_per_hour is None


@pytest.mark.parametrize(
    ("price", "changes", "says"),
    [
        (None, {}, "no price configured"),
        (bought(electricity=None), {}, "no cost per hour: electricity not configured"),
        (bought(pue=None), {}, "no cost per hour: pue not configured"),
        (bought(), {"energy": NO_POWER}, "no cost per hour: no valid power"),
    ],
)
def test_without_an_input_there_is_no_figure(price: Price | None, changes: dict[str, Any], says: str) -> None:
    found = normalised(price=price, **changes)
    assert says in found.notes
    assert (found.usd_per_hour, found.cost_per_trajectory_usd, found.agents.per_usd_hour) == (
        None,
        None,
        None,
    )
    assert (found.cost_per_agent_hour_usd, found.tco_per_agent_year_usd) == (None, None)


def test_idle_hours_cost_what_was_measured_or_are_not_known() -> None:
    found = normalised(price=bought())
    assert found.usd_per_hour == 9.0
    assert found.cost_per_agent_hour_usd is None
    assert "no idle power was measured: no cost of hours without load" in found.notes
    always = normalised(price=bought(utilisation=half(1)))
    assert always.cost_per_agent_hour_usd == pytest.approx(9 / 16)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"usd_per_accelerator_hour": 2},
        {"usd_per_accelerator_hour": 2, "source": "x", "capital": CAPITAL},
        {"usd_per_accelerator_hour": 2, "source": "x", "electricity": POWER},
        {"capital": CAPITAL, "source": "x"},
        {"capital": {"usd_per_accelerator": 1, "amortisation_years": 5}},
        {"usd_per_accelerator_hour": 2, "source": "x", "utilisation": {"share": 1.5, "source": "x"}},
    ],
)
def test_a_price_is_whole_and_has_its_sources(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Price.model_validate(fields)


@pytest.mark.parametrize(
    "price",
    [
        bought(),
        bought(utilisation=None),
        bought(pue=None),
        bought(utilisation=half(1)),
        RENT,
        Price(usd_per_accelerator_hour=2, source="x", utilisation=half(0.3)),
    ],
)
@pytest.mark.parametrize("idle_w", [None, 2_000.0])
def test_the_verifier_of_bundles_comes_to_the_same(price: Price, idle_w: float | None) -> None:
    found = normalised(price=price, idle_power_w=idle_w)
    system = {
        "price": price.model_dump(mode="json"),
        "accelerator": {"per_system": 8, "per_rack": 72},
        "deployments": {"all": {"allocated_accelerators": 8}},
    }
    numbers = {
        "requests": 7_200,
        "window_s": 3_600.0,
        "trajectories_in_window": 40,
        "throughput_tok_s": 800.0,
    }
    again = recomputed(16, numbers, 4_000.0, idle_w, {"deployment": "all"}, system)
    for name in (
        "usd_per_hour",
        "electricity_usd_per_hour",
        "cost_per_agent_hour_usd",
        "tco_per_agent_year_usd",
        "cost_per_trajectory_usd",
    ):
        mine = getattr(found, name)
        assert again[name] == (None if mine is None else pytest.approx(mine)), name
