"""`agentperf noise`: repeats of one phase, rehearsed on a model whose answers vary, and measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_agentperf.cli import main
from pytest_agentperf.config.bundled import SYSTEMS
from pytest_agentperf.deploy.lock import SystemLock

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--repeats", "3", "--set", "min_window_s=4")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def varying(tmp_path: Path) -> str:
    """A system whose model answers about as long as recorded, and a little different each time."""
    system: dict[str, Any] = yaml.safe_load((SYSTEMS / "sim.yaml").read_text(encoding="utf-8"))
    for deployment in system["deployments"].values():
        deployment["endpoint"] = {"url": "http://127.0.0.1:9/v1"}
        deployment["power"] = {"source": "none"}
    path = tmp_path / "varying.yaml"
    path.write_text(yaml.safe_dump(system), encoding="utf-8")
    return str(path)


def baseline(path: Path, **changes: object) -> Path:
    tier: dict[str, object] = {
        "suite": "deepseek_v4_pro", "edition": "2026-06", "system": "sim", "tier": "tier1", "agents": 20,
    }  # fmt: skip
    text = json.dumps({"schema": "agentperf-baseline/1", "tiers": [tier | changes]})
    path.write_text(text, encoding="utf-8")
    return path


def noise(*arguments: str, agents: int = 20) -> int:
    return main(["noise", "--agents", str(agents), *arguments])


def test_noise_is_told_and_written_into_the_baseline(
    varying: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = baseline(tmp_path / "baseline.json", rehearsal=True)
    arguments = ("--system", varying, "--rehearse", *QUICK, "--tier", "tier1", "--baseline", str(file))
    assert noise(*arguments) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == (
        "SIMULATED: deepseek_v4_pro on sim under demo-ci/1: 20 agents, windows of 4 s, seed 0"
    )
    assert [line.split(":")[0] for line in lines[1:5]] == [
        "repeat 1 of 3", "repeat 2 of 3", "repeat 3 of 3", "slope",
    ]  # fmt: skip
    assert "25 agents" in lines[4]
    assert err.count("fixed, 20 agents") == 3
    assert "P25 output speed binds; tolerance ≥ " in out
    (tier,) = json.loads(file.read_text(encoding="utf-8"))["tiers"]
    found = tier["noise"]
    assert (found["n_agents"], found["repeats"]) == (20, 3)
    assert 0 < found["output_speed_p25"] < 0.2
    assert found["ttft_p95"] > 0
    # 20 agents can tell no less than one in 20.
    assert found["tolerance_min"] >= 0.05
    assert f"tolerance ≥ {found['tolerance_min']:.1%}" in out
    # The same again, to the digit.
    assert noise(*arguments) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["tiers"][0]["noise"] == found


def test_a_capacity_that_lies_elsewhere_is_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert noise("--system", "sim", "--rehearse", *QUICK, agents=6) == 0
    lines = capsys.readouterr().out.splitlines()
    (far,) = (line for line in lines if line.startswith("tier1:"))
    assert "times as many agents: measure there" in far
    assert any("every repeat was alike" in line for line in lines)


def test_a_slope_that_is_lost_in_the_spread_gives_no_tolerance(
    varying: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = baseline(tmp_path / "baseline.json", rehearsal=True)
    before = file.read_bytes()
    short = ("--repeats", "2", "--set", "min_window_s=0.5", "--slope-agents", "21")
    code = noise("--system", varying, "--rehearse", *short, "--tier", "tier1", "--baseline", str(file))
    assert code == 1
    assert "tier1: n" in capsys.readouterr().out
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--repeats", "1"), "--repeats: 1"),
        (("--slope-agents", "20"), "--slope-agents: 20"),
        (("--tier", "tier9"), "no tier 'tier9'"),
        (("--baseline", "missing.json"), "name them with --tier"),
        (("--tier", "tier1", "--baseline", "missing.json"), "the baseline cannot be read"),
        (("--tier", "tier2", "--baseline", "baseline.json"), "no baseline for deepseek_v4_pro tier2 on sim"),
        (("--tier", "tier1", "--baseline", "baseline.json"), "was measured, and this is a rehearsal"),
        (("--tier", "tier1", "--baseline", "leaderboard.json"), "not a baseline"),
        (
            ("--tier", "tier1", "--baseline", "far.json"),
            "--agents: 20 agents, where the baseline of tier1 is 30",
        ),
    ],
)
def test_bad_input(
    tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline(tmp_path / "baseline.json")
    baseline(tmp_path / "far.json", agents=30, rehearsal=True)
    (tmp_path / "leaderboard.json").write_text('{"schema": "agentperf-leaderboard/2"}', encoding="utf-8")
    assert noise("--system", "sim", "--rehearse", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_measurement_locks_its_system_and_starts_anew_if_told_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    acquire = SystemLock.acquire

    def acquired(lock: SystemLock) -> None:
        held.append(lock)
        acquire(lock)

    monkeypatch.setattr(SystemLock, "acquire", acquired)
    rules = ("min_window_s=0.4", "settle_s=0.05", "warmup_agents=1", "warmup_max_s=0.3", "idle_pause_s=0",
             "client_lag_p99_max_s=30", "client_error_max=0.99", "calibration_s=0.3", "invalid_retries=5")  # fmt: skip
    options = [text for rule in rules for text in ("--set", rule)]
    code = noise(
        "--system", "sim", "--repeats", "2", "--slope-agents", "8", "--tier", "tier3", "--restart", *options,
        agents=2,
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code in (0, 1), err
    assert out.startswith("deepseek_v4_pro on sim under demo-ci/1: 2 agents")
    assert "tier3: " in out
    # On a busy machine a phase may be INVALID, and is repeated.
    assert err.count("warmup, 1 agent\n") == err.count("fixed, ") >= 3
    assert len(held) == 1
