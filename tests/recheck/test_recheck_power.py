"""Energies of the run and of the verifier agree, reading by reading, however power was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_agentperf.core.energy import integrate
from pytest_agentperf.core.power import PowerSeriesBuilder
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06
from pytest_agentperf.recheck.power import energy_problems
from pytest_agentperf.results.power_file import write_power

if TYPE_CHECKING:
    from pathlib import Path

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
