"""A run that could not be valid does not start; all that stands in its way is told at once; forced, it is marked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from pytest_agentperf.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from plugin_support import Workplace


def without_power(place: Workplace, **options: object) -> None:
    """Give `box` a power source that is not there."""
    place.system("box", **options)
    path = place.folder / "systems" / "box.yaml"
    system = yaml.safe_load(path.read_text(encoding="utf-8"))
    for deployment in system["deployments"].values():
        deployment["power"] = {"source": "dcgm", "urls": ["http://127.0.0.1:9/metrics"]}
    path.write_text(yaml.safe_dump(system), encoding="utf-8")


def test_all_problems_are_told_together_and_nothing_is_spent(
    pytester: pytest.Pytester, place: Workplace
) -> None:
    # Answers of up to 4,000 tokens in a context of as many.
    without_power(place, engine={"context_tokens": 4000})
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=box", "-k", "tier1", "--agentperf-set=max_tokens=3990"
    )
    result.assert_outcomes(errors=1, deselected=1)
    shown = result.stdout.str()
    assert "3 checks of 18 failed before the run" in shown
    for line in (
        "✗ max_tokens: max_tokens 3,990 is refused",
        "✗ power: ",
        "✗ context: the server declares 4,000",
    ):
        assert line in shown
    assert "--agentperf-force" in shown
    assert not place.results.exists()


def test_forced_it_is_marked(pytester: pytest.Pytester, place: Workplace) -> None:
    without_power(place)
    stopped = pytester.runpytest_inprocess("suites/tiny", "--system=box", "-k", "tier1")
    stopped.assert_outcomes(errors=1, deselected=1)
    # Whether a busy machine makes its phases INVALID, too, is not the question here.
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=box", "-k", "tier1", "--agentperf-max-agents=1", "--agentperf-force"
    )
    (entry,) = place.leaderboard("box").entries
    assert not entry.valid.value
    assert [
        reason for reason in entry.valid.reasons if reason.startswith("forced past the failed check 'power'")
    ]
    assert "forced past failed checks" in entry.comparable.reasons
    (checks,) = entry.preflight.values()
    assert {check.name: check.status for check in checks}["power"] == "failed"
    assert entry.power_source["main"].source == "none"
    assert {phase.energy.energy_j for phase in entry.phases} == {None}
    result.stdout.fnmatch_lines(["box: invalid: *forced past the failed check 'power' of main: *"])


def test_the_checks_stand_in_the_result(pytester: pytest.Pytester, place: Workplace) -> None:
    (place.folder / "suites/conftest.py").unlink()
    pytester.runpytest_inprocess("suites/tiny", "--system=box", "-k", "tier1", "--agentperf-max-agents=1")
    (entry,) = place.leaderboard("box").entries
    found = {check.name: check.status for check in entry.preflight["main"]}
    assert found.pop("dataset") == "warning"
    assert found.pop("reasoning") == found.pop("token counts") == "skipped"
    found.pop("cores")
    found.pop("clock")
    assert set(found.values()) == {"ok"}
    assert not [reason for reason in entry.valid.reasons if "forced" in reason]


def test_doctor(
    place: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    assert main(["doctor", "--system", "box", "--suite", "suites/tiny"]) == 0
    shown = capsys.readouterr().out
    assert "✓ usage" in shown
    assert "Nothing stands in the way" in shown
    without_power(place)
    assert main(["doctor", "--system", "box", "--suite", "suites/tiny", "--tier", "tier2", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in found["box, deployment main"]}
    assert checks["power"]["status"] == "failed"
    assert checks["power"]["remedy"]
    # Looked at all the same.
    assert checks["context"]["status"] == checks["load generator"]["status"] == "ok"


def test_doctor_of_a_system_without_an_endpoint(
    place: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    place.system("away", endpoint={"url_env": "AGENTPERF_AWAY"})
    assert main(["doctor", "--system", "away", "--suite", "suites/tiny"]) == 1
    assert "✗ endpoint" in (shown := capsys.readouterr().out)
    assert "set AGENTPERF_AWAY" in shown
    monkeypatch.setenv("AGENTPERF_AWAY", "http://127.0.0.1:9/v1")
    assert main(["doctor", "--system", "away", "--suite", "suites/tiny"]) == 1
    shown = capsys.readouterr().out
    assert "http://127.0.0.1:9/v1: no answer" in shown
    assert "· usage" in shown
    assert "✓ load generator" in shown


def test_doctor_of_this_host_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "descriptors and ports" in shown
    assert "pytest-xdist" in shown
