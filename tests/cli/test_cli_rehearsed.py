"""`agentperf plan` and `agentperf oracle` on the simulated system."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_agentperf.cli import main
from pytest_agentperf.config.bundled import SYSTEMS

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--set", "min_window_s=0.5", "--set", "min_trajectories=1")


@pytest.fixture
def priced(tmp_path: Path) -> Path:
    """The simulated system with a price, and a tier whose deployment has no model."""
    system: dict[str, Any] = yaml.safe_load((SYSTEMS / "sim.yaml").read_text(encoding="utf-8"))
    system["price"] = {"usd_per_accelerator_hour": 3.0, "source": "a test"}
    deployment = system["deployments"]["v4-pro"]
    del system["deployments"]["any-suite"], deployment["tiers"]["tier3"]
    system["deployments"]["bare"] = {
        "suite": "deepseek_v4_pro",
        "tiers": {"tier3": {}},
        "endpoint": {"url": "http://127.0.0.1:9/v1"},
        "allocated_accelerators": 4,
        "serving": {"framework": "vllm"},
    }
    path = tmp_path / "priced.yaml"
    path.write_text(yaml.safe_dump(system), encoding="utf-8")
    return path


def test_plan_says_what_to_expect_per_tier(priced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--system", str(priced), "--rehearsals", "2", "--json", *QUICK]) == 0
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert made["simulated"] is True
    assert made["rehearsals"] == 2
    assert "rehearsal 2 of 2: confirm" in err
    first, second, third = made["tiers"]
    for tier in (first, second):
        assert tier["phase_count"]["low"] <= len(tier["phases"]) <= tier["phase_count"]["high"]
        for name in ("hours", "requests", "prompt_tokens", "output_tokens", "energy_kwh", "cost_usd"):
            assert 0 < tier[name]["low"] <= tier[name]["mean"] <= tier[name]["high"]
        assert tier["cost_usd"]["mean"] == pytest.approx(tier["hours"]["mean"] * 8 * 3.0)
        phases = tier["phases"]
        assert tier["hours"]["low"] <= sum(phase["hours"] for phase in phases) <= tier["hours"]["high"]
        # 8 accelerators between idle and peak.
        watts = 1e3 * sum(p["energy_kwh"] for p in phases) / sum(p["hours"] for p in phases) / 8
        assert 120 < watts < 700
    # Tiers of one deployment share probes: the second adds few.
    assert len(second["phases"]) < len(first["phases"])
    assert first["agents"]["low"] > second["agents"]["high"] > 0
    assert (third["hours"], third["phases"]) == (None, [])
    assert "no model of it: add a `simulate:` block" in third["reason"]


def test_plan_reads_well_without_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--system", "sim", "--rehearsals", "1", "--tier", "tier3", *QUICK]
    assert main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SIMULATED: deepseek_v4_pro on sim under demo/1")
    assert "tier3 on v4-pro, 8 accelerators:" in out
    assert "no price in the system's file" in out
    assert "tier1 on" not in out


def test_a_plan_of_nothing_fails(priced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--system", str(priced), "--tier", "tier3"]) == 1
    assert "tier3 on bare, 4 accelerators: no plan:" in capsys.readouterr().out


def test_oracle_finds_the_edge(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--system", "sim", "--tier", "tier2", "--seeds", "2"]
    assert main(["oracle", *arguments, "--from", "6", "--to", "11", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # 1,000 / (1.2 + 1.8 n) tokens a second: 64 with 8 agents, 57 with 9; not all of them decode at any time.
    assert found["capacity"] in (8, 9)
    assert found["low"] <= found["crossing"] <= found["high"]
    assert [point["n_agents"] for point in found["points"]] == list(range(6, 12))
    assert {point["trials"] for point in found["points"]} == {2}
    assert main(["oracle", *arguments, "--points", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("SIMULATED: deepseek_v4_pro on sim, tier2")
    assert "PASS and FAIL are equally likely at" in out
    assert "seed 1: PASS" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "--system=sim", "--rehearsals=0"), "--rehearsals: 0"),
        (("oracle", "--system=sim", "--seeds=1"), "--seeds: 1"),
        (("oracle", "--system=sim", "--from=5"), "--from, --to: no range of numbers"),
        (("oracle", "--system=sim", "--from=5", "--to=5"), "--from, --to: no range of numbers"),
        (("plan", "--system=nowhere"), "unknown system 'nowhere'"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(arguments)) == 2
    assert message in capsys.readouterr().err


def test_a_tier_without_a_model_is_refused(priced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oracle", "--system", str(priced), "--suite=deepseek_v4_pro", "--tier=tier3"]) == 2
    assert "there is no model of it" in capsys.readouterr().err
