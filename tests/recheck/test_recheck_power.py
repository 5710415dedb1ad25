"""Energies of the run and of the verifier agree, reading by reading, however power was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from pytest_agentperf.core.energy import integrate
from pytest_agentperf.core.power import PowerDevice, PowerSource
from pytest_agentperf.core.power_series import PowerSeriesBuilder
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06
from pytest_agentperf.power.metering import Metering, Sampled
from pytest_agentperf.recheck.power import energy_problems, idle_problems
from pytest_agentperf.results.power_file import write_power

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.ports import PowerSampler

S = 1_000_000_000
BOOT = 3_000_000 * S
"""A machine that has been up for a month."""
WINDOW = BOOT + 30 * S, BOOT + 630 * S
RULES = AA_AGENTPERF_2026_06.model_copy(update={"power_uncertainty_max": 0.5})


def checked(
    path: Path, *, step_s: float, jitter: float = 0.0, counter: bool = True, sampled: bool = True, wraps: bool = False,
    gap: bool = False, devices: int = 3, changed: float = 1.0,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Integrate made readings as a run does; return what it says, and what the verifier has against it."""
    random, builder = np.random.default_rng(7), PowerSeriesBuilder()
    for device in range(devices):
        t_s, total_j = 0.0, 4_294_000.0 if wraps else 1e9
        while t_s < 660:
            power_w = 500 + 100 * device + 200 * np.sin(t_s / 20)
            if not (gap and 200 < t_s < 203):
                value_j = total_j % (2**32 / 1e3) if wraps else total_j
                builder.add(
                    BOOT + round(t_s * S), f"node/{device}",
                    power_w=power_w if sampled else None, energy_j=value_j if counter else None,
                )  # fmt: skip
            step = step_s * (1 + jitter * random.uniform(-1, 1))
            t_s, total_j = t_s + step, total_j + power_w * step
    series = builder.build()
    told = integrate(
        series, open_ns=WINDOW[0], close_ns=WINDOW[1], devices_expected=devices, update_period_s=0.1, rules=RULES
    ).model_dump(mode="json")  # fmt: skip
    if told["energy_j"] is not None:
        told["energy_j"] *= changed
    write_power(path, series)
    phase = {"window_open_ns": WINDOW[0], "window_close_ns": WINDOW[1]}
    return told, energy_problems(path, told, phase, devices, 0.1, RULES.model_dump(mode="json"))[0]


@pytest.mark.parametrize(
    "made",
    [
        {"step_s": 1.0},
        {"step_s": 0.1, "jitter": 0.5},
        {"step_s": 0.1, "jitter": 0.5, "counter": False},
        {"step_s": 0.5, "jitter": 0.9, "sampled": False},
        {"step_s": 0.25, "wraps": True},
        {"step_s": 0.1, "gap": True},
        {"step_s": 0.37, "devices": 1, "counter": False},
    ],
    ids=lambda made: ", ".join(made),
)
def test_both_agree(tmp_path: Path, made: dict[str, Any]) -> None:
    told, problems = checked(tmp_path / "power.parquet", **made)
    assert told["energy_j"] > 100_000
    assert told["coverage"] < 1 if made.get("gap") else told["coverage"] == 1
    assert problems == []


def test_a_thousandth_more_or_less_is_found(tmp_path: Path) -> None:
    _, problems = checked(tmp_path / "power.parquet", step_s=0.1, changed=0.999)
    assert any(text.startswith("energy_j is ") for text in problems)


def test_too_long_a_gap_is_no_energy(tmp_path: Path) -> None:
    told, problems = checked(tmp_path / "power.parquet", step_s=8.0)
    assert (told["energy_j"], problems) == (None, [])
    told |= {"energy_j": 1e6, "mean_power_w": 1e6 / 600, "devices": 3, "method": "energy counter"}
    path, phase = tmp_path / "power.parquet", {"window_open_ns": WINDOW[0], "window_close_ns": WINDOW[1]}
    problems, _ = energy_problems(path, told, phase, 3, 0.1, RULES.model_dump(mode="json"))
    assert any("are needed" in text for text in problems)


def idle(path: Path, **changed: Any) -> list[str]:
    """Judge a pause of 5 s at 300 W and a window at 900 W as a run does; return what the verifier has against it."""
    path.unlink(missing_ok=True)
    builder = PowerSeriesBuilder()
    for k in range(-20, 900):
        power_w = 300.0 if k < 50 else 900.0
        for device in range(2):
            builder.add(BOOT + k * S // 10, f"node/{device}", power_w=power_w / 2, energy_j=None)
    series = builder.build()
    write_power(path, series)
    pause = BOOT, BOOT + 5 * S
    metering = Metering(cast("PowerSampler", Meter()), n_accelerators=2)
    metering.open()
    window = BOOT + 10 * S, BOOT + 80 * S
    _, power = metering.judge(Sampled(series), window=window, idle=pause, rules=RULES)
    assert power.idle_power_w == pytest.approx(300, rel=0.02)
    phase: dict[str, Any] = {
        "start_ns": pause[1],
        "idle_before": "verified",
        "power": power.model_dump(mode="json"),
    }
    phase["power"] |= {name: value for name, value in changed.items() if name in phase["power"]}
    phase |= {name: value for name, value in changed.items() if name in phase}
    rules = RULES.model_dump(mode="json")
    return idle_problems(
        path if changed.get("read", True) else None,
        phase,
        devices=2,
        earlier_ns=changed.get("earlier_ns", BOOT - S),
        rules=rules,
    )[0]


def test_idle_power_is_that_of_the_pause(tmp_path: Path) -> None:
    path = tmp_path / "power.parquet"
    assert idle(path) == []
    for changed, says in (
        ({"idle_power_w": 270.0}, "idle_power_w is 270"),
        ({"idle_span_ns": [BOOT - S, BOOT + 2 * S]}, "it is of 3 s, the pause is 5 s"),
        ({"idle_span_ns": None}, "idle_power_w is 3"),
        ({"idle_power_w": None}, "idle_span_ns is"),
        ({"start_ns": BOOT + S}, "not between the phase before and this one"),
        ({"earlier_ns": BOOT + S}, "not between the phase before and this one"),
        ({"idle_before": "not reached"}, "the server was not idle"),
        ({"read": False}, "there are no readings"),
        # A quieter time, as before the server was loaded with its model, is another one.
        ({"idle_span_ns": [BOOT + 20 * S, BOOT + 25 * S]}, "not between"),
    ):
        assert any(says in text for text in idle(path, **changed)), says


class Meter:
    """A sampler that says what it is."""

    def open(self) -> PowerSource:
        devices = tuple(PowerDevice(id=f"node/{k}") for k in range(2))
        return PowerSource(
            source="nvml", scope="gpu+hbm", measured=True, update_period_s=0.1, devices=devices
        )

    def close(self) -> None:
        pass
