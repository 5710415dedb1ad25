"""The verifier shares no code with what it checks, and finds a defect of that code."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evidence import Evidence
from forging import Forgery, failed, findings
from virtual_system import SHAPES, demo_set, settings_for

import pytest_agentperf.recheck
from pytest_agentperf.core import confidence, device_energy, latency, metrics, search
from pytest_agentperf.core.gate import GateTarget
from pytest_agentperf.rehearsal import rehearsed_run

PACKAGE = Path(pytest_agentperf.recheck.__file__).parent
MAY_IMPORT = {"numpy", "pyarrow"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_it_imports_nothing_of_what_it_checks(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            ours = name.split(".")[:2] == ["pytest_agentperf", "recheck"]
            assert ours or name.split(".")[0] in {*MAY_IMPORT, *sys.stdlib_module_names} - {"importlib"}, name


CERTAIN: dict[str, Any] = {
    "error_rate": 0.01, "search": "model", "agents_begin": "steady_state", "settle_s": 2.0, "min_window_s": 20.0,
    "window_max_s": 100.0, "look_factor": 1.25, "correlation_s": 1.0, "answer_horizon_s": 60.0, "drain_max_s": 1.0,
    "min_trajectories": 1, "min_trajectories_per_agent": 0,
}  # fmt: skip


def rehearsed_bundle(folder: Path, *, gate: GateTarget | None = None, **overrides: Any) -> Path:
    """Rehearse a search, or a gate, in this process and bundle it."""
    settings = settings_for(SHAPES[0], nonce="evidence", **overrides)
    if gate is not None:
        settings = replace(settings, gate={"tier1": gate})
    evidence = Evidence(folder, rehearsal=True)
    with rehearsed_run(settings, evidence, tabulate=demo_set) as run:
        result = run.measure("tier1")
        entry = evidence.entry(run, result)
    return evidence.bundle(entry)


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rehearsed_bundle(tmp_path_factory.mktemp("plain") / "run")


def test_a_rehearsal_with_tool_delays_and_many_trajectories_holds(plain_bundle: Path) -> None:
    assert failed(plain_bundle) == {}


@pytest.fixture(scope="module")
def certain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search whose phases end once verdicts are certain, its probes chosen by a model."""
    return rehearsed_bundle(tmp_path_factory.mktemp("certain") / "run", **CERTAIN)


def test_phases_that_end_once_verdicts_are_certain_hold(certain_bundle: Path) -> None:
    assert failed(certain_bundle) == {}
    told = {one.check: one.text for one in findings(certain_bundle) if one.status == "not checkable"}
    assert {"window", "certainty"} <= told.keys()


def test_lateness_of_requests_without_records_is_only_stated(certain_bundle: Path, tmp_path: Path) -> None:
    forgery = Forgery(certain_bundle)
    phase = next(p for p in forgery.entry["phases"] if p["kind"] == "model")
    phase["load"]["send_late_p99_s"] = 40.0
    phase["end_ns"] = phase["window_close_ns"] + 2_000_000_000
    phase["invalid"] = [{"code": "load_generator_saturated", "what": "late", "remedy": "", "log_tail": []}]
    told = [
        one.text for one in findings(forgery.write(tmp_path / "late.tar.gz")) if one.check == "stated reasons"
    ]
    assert "load_generator_saturated rests on the load generator's own lateness" in "".join(told)


def test_a_gate_holds_and_a_forged_answer_does_not(tmp_path: Path) -> None:
    target = GateTarget(baseline_agents=5, tolerance=0.1, source="a test")
    path = rehearsed_bundle(tmp_path / "run", gate=target, **CERTAIN)
    assert failed(path) == {}
    assert any(one.check == "gate" and one.status == "holds" for one in findings(path))
    for change in ({"verdict": "FAIL"}, {"threshold_agents": 4}, {"improved_agents": 9}):
        forgery = Forgery(path)
        forgery.entry["tiers"][0]["gate"] |= change
        assert "gate" in failed(forgery.write(tmp_path / "forged.tar.gz"))


def test_the_answer_of_a_model_holds_within_its_bounds_and_not_beyond(
    certain_bundle: Path, tmp_path: Path
) -> None:
    tier = Forgery(certain_bundle).entry["tiers"][0]
    for change in (
        {"agents": tier["failed_min"]},
        {"passed_max": tier["passed_max"] + 1},
        {"at_least": True},
        {"interval": {"low": 0, "high": 0, "level": 0.95, "method": "model"}},
    ):
        forgery = Forgery(certain_bundle)
        forgery.entry["tiers"][0] |= change
        assert "capacity" in failed(forgery.write(tmp_path / "forged.tar.gz"))


def test_forged_confidence_and_brackets_are_found(tmp_path: Path) -> None:
    path = rehearsed_bundle(tmp_path / "run")
    honest = Forgery(path).entry
    interval = honest["tiers"][0]["interval"]
    assert interval["method"] == "probes"
    assert interval["low"] <= honest["tiers"][0]["agents"] < interval["high"]
    assert any(one.check == "interval" and one.status == "holds" for one in findings(path))
    for change in (
        {"low": interval["low"] + 1},
        {"low": None},
        {"high": interval["high"] - 1},
        {"level": 0.99},
        {"method": "model"},
        None,
    ):
        forgery = Forgery(path)
        told = forgery.entry["tiers"][0]
        told["interval"] = None if change is None else interval | change
        assert "interval" in failed(forgery.write(tmp_path / "forged.tar.gz")), change
    # Narrower intervals inside the probes would narrow the bracket.
    for end in ("low", "high"):
        forgery = Forgery(path)
        for phase in forgery.entry["phases"]:
            of_speed = (phase["confidence"] or {}).get("output_speed_p25_tok_s")
            if of_speed is None:
                continue
            middle = phase["metrics"]["output_speed_p25_tok_s"]
            of_speed[end] = middle + (of_speed[end] - middle) * 0.5
        assert "confidence" in failed(forgery.write(tmp_path / "forged.tar.gz"))


def test_a_defect_in_the_bootstrap_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests taken for independent give intervals that are too narrow."""
    monkeypatch.setattr(
        confidence, "trajectory_clusters", lambda columns, rows: np.arange(int(rows.sum()), dtype=np.int64)
    )
    assert "confidence" in failed(rehearsed_bundle(tmp_path / "run"))


def test_a_defect_in_percentiles_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metrics, "percentile", lambda values, percent: float(np.percentile(values, percent - 1))
    )
    assert "metrics" in failed(rehearsed_bundle(tmp_path / "run"))


def test_a_defect_in_throughput_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = latency.tokens_within
    monkeypatch.setattr(metrics, "tokens_within", lambda *a, **k: right(*a, **k) * 1.01)
    assert {"metrics", "normalisation"} <= failed(rehearsed_bundle(tmp_path / "run")).keys()


def test_a_defect_in_energy_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = device_energy.Curve.at
    monkeypatch.setattr(
        device_energy.Curve, "at", lambda self, t_ns: right(self, np.asarray(t_ns) + 5_000_000)
    )
    assert "energy" in failed(rehearsed_bundle(tmp_path / "run"))


def test_a_defect_in_the_search_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search._TierSearch, "_step", lambda self, n: 3)
    assert {"search", "capacity"} & failed(rehearsed_bundle(tmp_path / "run")).keys()


def test_forged_counters_of_the_server_are_found(plain_bundle: Path, tmp_path: Path) -> None:
    """In virtual time readings lie at the same places every time, some of them in every window."""
    for figure in ("cache_hit_share", "generation_tokens_per_s", "running_mean", "waiting_max"):
        forgery = Forgery(plain_bundle)
        told = next(
            p["server"] for p in forgery.entry["phases"] if p["server"] and p["server"][figure] is not None
        )
        told[figure] = told[figure] * 1.01 + 0.01
        assert figure in failed(forgery.write(tmp_path / f"{figure}.tar.gz"))["server metrics"]
