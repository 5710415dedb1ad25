"""`agentperf baseline`: what may be accepted, and how it stands in the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from gated_leaderboard import STORED, gated, stored, written

from pytest_agentperf.cli import main
from pytest_agentperf.core.leaderboard import Flag
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "baseline.json"


def accept(file: Path, leaderboard: str, *arguments: str) -> int:
    return main(["baseline", "accept", leaderboard, "-o", str(file), *arguments])


def tiers(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["tiers"]
    return found


def test_a_measured_capacity_is_accepted_with_what_it_rests_on(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accept(file, str(STORED)) == 0
    assert "oracle tier1 on sim: 10 agents (new)" in capsys.readouterr().out
    (tier,) = tiers(file)
    assert (tier["agents"], tier["ruleset"], tier["noise"]) == (10, "demo/1", None)
    assert tier["breakdown"]
    assert main(["baseline", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert shown == "oracle tier1 on sim: 10 agents; demo/1, no date; noise not measured\n"


@pytest.mark.parametrize(("improved", "agents"), [(None, 10), (11, 11)])
def test_a_passed_gate_raises_a_baseline_only_by_what_passed_too(
    file: Path, tmp_path: Path, improved: int | None, agents: int
) -> None:
    assert accept(file, written(tmp_path / "gate.json", gated(Verdict.PASS, improved=improved))) == 0
    assert [tier["agents"] for tier in tiers(file)] == [agents]


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INVALID])
def test_a_gate_that_was_not_passed_is_not_accepted(
    file: Path, tmp_path: Path, verdict: Verdict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accept(file, written(tmp_path / "gate.json", gated(verdict))) == 2
    assert "nothing to accept" in capsys.readouterr().err
    assert not file.exists()


def test_what_is_not_valid_is_not_accepted_and_says_why(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forced = stored(valid=Flag(value=False, reasons=("checks failed and were overruled",)))
    assert accept(file, written(tmp_path / "forced.json", forced)) == 2
    assert "sim: checks failed and were overruled" in capsys.readouterr().err
    assert accept(file, str(STORED), "--tier", "tier2") == 2
    assert accept(file, str(tmp_path / "nowhere.json")) == 2
    (tmp_path / "text.json").write_text("[", encoding="utf-8")
    assert accept(file, str(tmp_path / "text.json")) == 2


def test_other_tiers_stay_and_noise_is_kept(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = {"n_agents": 10, "repeats": 5, "output_speed_p25": 0.01, "ttft_p95": None, "tolerance_min": 0.07}
    accept(file, str(STORED))
    baseline = json.loads(file.read_text(encoding="utf-8"))
    (known,) = baseline["tiers"]
    baseline["tiers"] = [known | {"tier": "tier2", "agents": 3}, known | {"noise": noise, "agents": 8}]
    file.write_text(json.dumps(baseline), encoding="utf-8")
    capsys.readouterr()
    assert accept(file, str(STORED)) == 0
    assert "oracle tier1 on sim: 10 agents (was 8)" in capsys.readouterr().out
    # In a fixed order, whatever that of the file was.
    assert [(tier["tier"], tier["agents"]) for tier in tiers(file)] == [("tier1", 10), ("tier2", 3)]
    assert tiers(file)[0]["noise"]["tolerance_min"] == 0.07
    assert main(["baseline", "show", str(file)]) == 0
    assert "10 agents; demo/1, no date; tolerance ≥ 7.0%" in capsys.readouterr().out
    before = file.read_bytes()
    assert accept(file, str(STORED)) == 0
    assert file.read_bytes() == before


def test_a_models_noise_is_not_kept_for_a_measurement(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = {"n_agents": 10, "repeats": 5, "output_speed_p25": 0.01, "ttft_p95": None, "tolerance_min": 0.07}
    accept(file, str(STORED))
    baseline = json.loads(file.read_text(encoding="utf-8"))
    (known,) = baseline["tiers"]
    baseline["tiers"] = [known | {"noise": noise, "rehearsal": not known["rehearsal"]}]
    file.write_text(json.dumps(baseline), encoding="utf-8")
    assert accept(file, str(STORED)) == 0
    assert [tier["noise"] for tier in tiers(file)] == [None]
    assert "its noise was rehearsed, this baseline was not: measure the noise anew" in capsys.readouterr().out


def test_what_was_replayed_stands_beside_the_agents(file: Path) -> None:
    accept(file, str(STORED))
    (entry,) = stored().entries
    assert tiers(file)[0]["workload"] == {
        "dataset_digest": entry.dataset.digest,
        "assignment_seed": entry.seeds.assignment_seed,
        "max_tokens": entry.ruleset.max_tokens,
        "output_length": "natural",
        "tool_delay_max_s": entry.ruleset.tool_delay_max_s,
    }


def test_a_tier_with_two_baselines_is_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a merge of branches, or of leaderboards, may leave it."""
    accept(file, str(STORED))
    baseline = json.loads(file.read_text(encoding="utf-8"))
    baseline["tiers"].append(baseline["tiers"][0] | {"agents": 8})
    twice = tmp_path / "twice.json"
    twice.write_text(json.dumps(baseline), encoding="utf-8")
    assert main(["baseline", "show", str(twice)]) == 2
    said = "two baselines for oracle (edition 1) tier1 on sim: 10 and 8 agents"
    assert said in capsys.readouterr().err
    runs = (stored().entries[0], stored(tier={"agents": 8}).entries[0])
    merged = written(tmp_path / "merged.json", stored().model_copy(update={"entries": runs}))
    before = file.read_bytes()
    assert main(["baseline", "show", merged]) == accept(file, merged) == 2
    assert capsys.readouterr().err.count(said) == 2
    assert file.read_bytes() == before


def test_a_leaderboard_is_shown_as_the_baseline_that_it_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "show", str(STORED)]) == 0
    assert capsys.readouterr().out.startswith("oracle tier1 on sim: 10 agents")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accept(tmp_path / "no folder" / "baseline.json", str(STORED)) == 2
    assert "cannot be written" in capsys.readouterr().err
