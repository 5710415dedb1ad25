"""Energy from real packages on stub libraries, against the closed form: 10 s of real time, 10 min of virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import stub_libraries
from stub_readers import HOST, Found, Scenario, true_energy_j

from pytest_agentperf.core.energy import WindowEnergy, integrate
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06 as RULES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCES = ("nvml", "amdsmi")
COUNTED = ("constant:300,update=0.02", "ramp:100,500,9,update=0.02", "square:100,500,1.4,update=0.02")
"""Devices with a counter."""
SAMPLED = (
    "constant:300,nocounter=1",
    "ramp:100,500,9,nocounter=1",
    "square:100,500,10,nocounter=1",
)
_QUARTER_S = 0.35
"""Of the fast square: far from its edges."""


def window(
    found: Found,
    index: int,
    open_s: float,
    seconds: float,
    *,
    gap_max_s: float = RULES.power_gap_max_s,
    uncertainty_max: float = RULES.power_uncertainty_max,
) -> WindowEnergy:
    open_ns = found.t0_ns + round(open_s * 1e9)
    period_s = found.source.update_period_s
    assert period_s is not None
    return integrate(
        found.series(f"{HOST}/{index}"),
        open_ns=open_ns,
        close_ns=open_ns + round(seconds * 1e9),
        devices_expected=1,
        update_period_s=period_s,
        rules=RULES.model_copy(
            update={"power_gap_max_s": gap_max_s, "power_uncertainty_max": uncertainty_max}
        ),
    )


def first_quarter_s(found: Found) -> float:
    """The first moment in the readings at which the fast square is in the middle of its low half."""
    return (found.times_s(f"{HOST}/0")[0] // 1.4 + 1) * 1.4 + _QUARTER_S


@pytest.fixture(scope="module", autouse=True)
def ten_seconds() -> Iterator[dict[tuple[str, tuple[str, ...]], Scenario]]:
    """Twelve seconds of every source that can be run here, all at once, while all other tests here run."""
    started: dict[tuple[str, tuple[str, ...]], Scenario] = {}
    try:
        for source in SOURCES:
            if not stub_libraries.missing(source):
                started |= {(source, d): Scenario(source, *d, seconds=12) for d in (COUNTED, SAMPLED)}
        yield started
    finally:
        for scenario in started.values():
            scenario.end()


@pytest.mark.parametrize("source", SOURCES)
def test_ten_minutes_in_virtual_time(source: str, tmp_path: Path) -> None:
    devices = (
        "constant:300,update=0.1,power_update=0.1",
        "ramp:100,500,400,update=0.1,power_update=0.1",
        "square:100,500,0.73,update=0.02",
        "square:100,500,45.37,update=0.1,power_update=0.1",
        "ramp:100,500,400,nocounter=1,power_update=0.1",
        "square:100,500,45.37,nocounter=1,power_update=0.1",
        "square:100,500,0.7,nocounter=1",
    )
    (found,) = Scenario(source, *devices, seconds=603, clock=tmp_path / "clock").found()
    assert found.source.update_period_s == pytest.approx(0.1, rel=0.05)
    for index, device in enumerate(devices):
        energy = window(found, index, 2.345, 600)
        assert energy.invalid_reason is None, device
        assert energy.coverage == 1
        truth_j = true_energy_j(device, 2.345, 602.345)
        assert energy.energy_j == pytest.approx(truth_j, rel=0.005), device
        assert energy.energy_j is not None
        assert energy.uncertainty is not None
        assert abs(energy.energy_j / truth_j - 1) <= energy.uncertainty, device


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("device", "code"),
    [
        ("constant:300,lost=100", "device_lost"),
        ("constant:300,backwards=100,back=101", "counter_backwards"),
        ("constant:300,stuck=100", "stuck"),
        ("constant:300,nocounter=1,stuck=0", "stuck"),
        ("square:300,310,1,nocounter=1,sentinel=100", "sentinel"),
        ("square:300,310,1,nocounter=1,watts=100", "units"),
    ],
)
def test_a_fault_in_the_window_makes_power_invalid(
    source: str, device: str, code: str, tmp_path: Path
) -> None:
    (found,) = Scenario(source, device, seconds=203, clock=tmp_path / "clock").found()
    energy = window(found, 0, 2.0, 200)
    assert (energy.invalid_code, energy.energy_j) == (code, None)
    assert f"{HOST}/0" in (energy.invalid_reason or "")


def test_a_device_that_is_missing_makes_power_invalid(tmp_path: Path) -> None:
    devices = ("constant:300", "constant:300,closed=1")
    (found,) = Scenario("nvml", *devices, seconds=20, clock=tmp_path / "clock").found()
    energy = integrate(
        found.series(),
        open_ns=found.t0_ns + 5 * 10**9,
        close_ns=found.t0_ns + 15 * 10**9,
        devices_expected=2,
        update_period_s=0.1,
        rules=RULES,
    )
    assert energy.invalid_code == "too_few_devices"


@pytest.mark.parametrize("devices", [COUNTED, SAMPLED], ids=["counted", "sampled"])
@pytest.mark.parametrize("source", SOURCES)
def test_ten_seconds_of_real_time(
    source: str,
    devices: tuple[str, ...],
    ten_seconds: dict[tuple[str, tuple[str, ...]], Scenario],
) -> None:
    if reason := stub_libraries.missing(source):
        pytest.skip(reason)
    (found,) = ten_seconds[source, devices].found()
    open_s = first_quarter_s(found)
    for index, device in enumerate(devices):
        truth_j = true_energy_j(device, open_s, open_s + 10)
        # A busy machine may leave gaps; a counter counts on over them.
        energy = window(found, index, open_s, 10, gap_max_s=5, uncertainty_max=0.5)
        what = f"{found.source.source}: {device}: {energy}"
        assert energy.energy_j is not None, what
        assert energy.uncertainty is not None, what
        if devices is COUNTED:
            assert energy.method == "energy counter", what
            assert energy.uncertainty < 0.02, what
        if devices is COUNTED or not device.startswith("square"):
            assert energy.energy_j == pytest.approx(truth_j, rel=0.005), what
        else:
            # Steps, sampled ten times a second over ten seconds: too short, and it says so.
            strict = window(found, index, open_s, 10, gap_max_s=5)
            assert strict.invalid_code == "window_too_short", what
            # Two standard deviations are stated; real time must not fail a test once in twenty.
            assert abs(energy.energy_j / truth_j - 1) < 2 * energy.uncertainty, what
