"""A perturbed model that is fitted to the results of a known one becomes that one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from pytest_agentperf.cli import main
from pytest_agentperf.config.bundled import SUITES, SYSTEMS
from pytest_agentperf.config.recorded import record_settings
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.leaderboard import DatasetInfo, Leaderboard
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.oracle import Unwatched
from pytest_agentperf.rehearsal import rehearsed_run, tabulated
from pytest_agentperf.results.entry import build_entry
from pytest_agentperf.twin import Free, Observation, Twin, changed, crossing
from pytest_agentperf.twin_results import nearest

if TYPE_CHECKING:
    from pytest_agentperf.tabulation import TabulatedDataset

DEPLOYMENT = "v4-pro"
TRUTH = {"step_per_sequence_ms": 1.8, "prefill_tokens_per_s": 40_000.0, "power_peak_w": 700.0}
PERTURBED = {"step_per_sequence_ms": 3.1, "prefill_tokens_per_s": 90_000.0, "power_peak_w": 450.0}
# One parameter decides the output speed, the other the time to first token.
POOL = {"accelerators_each": 4, "step_base_ms": 1.0}
QUICK = ("min_window_s=0.5", "min_trajectories=1", "warmup_agents=0")


def system_file(folder: Path, values: dict[str, float]) -> Path:
    system = yaml.safe_load((SYSTEMS / "sim.yaml").read_text(encoding="utf-8"))
    del system["deployments"]["any-suite"]
    system["deployments"][DEPLOYMENT]["simulate"] |= {"prefill_pool": POOL, **values}
    path = folder / "box.yaml"
    path.write_text("# Kept.\n" + yaml.safe_dump(system), encoding="utf-8")
    return path


def settings_of(path: Path) -> RunSettings:
    options = RunOptions(overrides=QUICK, tiers=("tier1",), nonce="measured", rehearse=True)
    return resolve(SUITES / "deepseek_v4_pro", path, options, start=Path.cwd())


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSettings, TabulatedDataset]:
    settings = settings_of(system_file(tmp_path_factory.mktemp("truth"), TRUTH))
    return settings, tabulated(settings, lambda done, total: None)


def test_parameters_are_recovered(truth: tuple[RunSettings, TabulatedDataset]) -> None:
    settings, dataset = truth
    engine = settings.system.deployments[DEPLOYMENT].simulate
    assert engine is not None
    at = [Observation(n, None, None, 0.0, None) for n in (3, 9)]
    measured = Twin(settings, DEPLOYMENT, at, {}, dataset).observe(engine)

    deployments = dict(settings.system.deployments)
    perturbed = deployments[DEPLOYMENT].model_copy(update={"simulate": changed(engine, PERTURBED)})
    begun = settings.system.model_copy(update={"deployments": {**deployments, DEPLOYMENT: perturbed}})
    twin = Twin(replace(settings, system=begun), DEPLOYMENT, measured, {}, dataset)
    fit = twin.fit([Free(name, value / 4, value * 4) for name, value in PERTURBED.items()], evaluations=40)
    assert fit.rms_after < 0.5 < 5 < fit.rms_before
    found = {name: after for name, (_, after) in fit.parameters.items()}
    assert found["step_per_sequence_ms"] == pytest.approx(1.8, rel=0.02)
    assert found["prefill_tokens_per_s"] == pytest.approx(40_000, rel=0.05)
    assert found["power_peak_w"] == pytest.approx(700, rel=0.02)
    assert fit.at_bound == ()
    assert {name: before for name, (before, _) in fit.parameters.items()} == PERTURBED


def leaderboard(settings: RunSettings, folder: Path) -> Path:
    with rehearsed_run(settings, Unwatched()) as run:
        result = run.measure("tier1")
        assert run.state.begun is not None
        entry = build_entry(
            settings,
            begun=run.state.begun,
            tiers=[result],
            phases=run.phases,
            request_parameters=run.request_parameters,
            power_sources=run.power_sources,
            simulated=True,
        )
    path = folder / "leaderboard.json"
    board = Leaderboard(created_utc="2026-01-01T00:00:00+00:00", entries=(entry,))
    path.write_text(board.model_dump_json(by_alias=True), encoding="utf-8")
    return path


def test_the_command_fits_a_leaderboard_and_writes_a_new_system(
    truth: tuple[RunSettings, TabulatedDataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = leaderboard(truth[0], tmp_path)
    begun = system_file(tmp_path, {**TRUTH, "step_per_sequence_ms": 3.1})
    command = [
        "calibrate-twin",
        str(begun),
        "--results",
        str(results),
        "--output",
        str(tmp_path / "new.yaml"),
    ]
    command += ["--free", "step_per_sequence_ms=0.5:5", "--phases", "2", "--evaluations", "14"]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["simulated"] is True
    fit = report["deployments"][DEPLOYMENT]
    # The results have other answers than the model's runs, and short phases.
    assert fit["parameters"]["step_per_sequence_ms"] == [3.1, pytest.approx(1.8, rel=0.1)]
    assert len(fit["measured"]) == len(fit["after"]) == 2
    measured = fit["measured_capacity"]["tier1"]
    assert fit["capacity"]["tier1"][0] < 0.8 * measured
    assert fit["capacity"]["tier1"][1] == pytest.approx(measured, rel=0.15)

    written = load_system(tmp_path / "new.yaml").deployments[DEPLOYMENT].simulate
    assert written is not None
    assert written.step_per_sequence_ms == pytest.approx(1.8, rel=0.1)
    assert "# Kept." in (tmp_path / "new.yaml").read_text(encoding="utf-8")

    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err


def test_errors_say_what_to_do(
    truth: tuple[RunSettings, TabulatedDataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = str(system_file(tmp_path, {}))
    assert main(["calibrate-twin", box, "--results", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    assert main(["calibrate-twin", box, "--results", str(tmp_path / "bad.json")]) == 2
    assert "agentperf-leaderboard/NUMBER" in capsys.readouterr().err


TIER = SloTier(name="t", output_speed_p25_tok_s=20, ttft_p95_s=10)


def at(n_agents: int, speed: float | None, ttft_s: float) -> Observation:
    return Observation(n_agents, speed, ttft_s, 1.0, None)


def test_a_crossing_lies_between_numbers_and_not_far_beyond_them() -> None:
    assert crossing([at(100, 40, 1), at(400, 10, 1)], TIER) == pytest.approx(200)
    # The target that is missed first decides.
    assert crossing([at(100, 40, 5), at(400, 30, 20)], TIER) == pytest.approx(200)
    assert crossing([at(100, 80, 1), at(200, 40, 1)], TIER) == pytest.approx(300)
    assert crossing([at(100, 15, 1), at(200, 10, 1)], TIER) == pytest.approx(100 / 1.5, rel=0.02)
    assert crossing([at(100, 40, 1)], TIER) is None
    assert crossing([at(100, None, 1), at(200, 10, 1)], TIER) is None


def test_the_phases_that_tell_most_are_chosen() -> None:
    numbers = [1, 2, 4, 8, 16, 24, 28, 29, 30, 32, 64]
    assert nearest(numbers, [29], 4) == [1, 28, 29, 30]
    assert nearest(numbers, [29, 4], 4) == [1, 4, 8, 29] or nearest(numbers, [29, 4], 4) == [1, 4, 29, 30]
    assert nearest([3, 5], [4], 4) == [3, 5]


def test_whatever_is_simulated_with_a_projection_says_so() -> None:
    dataset = DatasetInfo(name="d", digest="0", trajectories=1, official=True, truncation={})

    def reasons(system: str, *, simulated: bool) -> str:
        settings = settings_of(SYSTEMS / f"{system}.yaml")
        entry = build_entry(
            settings,
            begun=record_settings(
                settings, dataset, software={}, software_digest="0", created_utc="2026-01-01T00:00:00+00:00"
            ),
            tiers=[],
            phases=[],
            request_parameters={},
            power_sources={},
            simulated=simulated,
        )
        return "; ".join(entry.comparable.reasons)

    assert "a projection" in reasons("mi300x", simulated=True)
    assert "a projection" not in reasons("mi300x", simulated=False)
    assert "a projection" not in reasons("mi355x", simulated=True)
