"""`--agentperf-rehearse`: a whole session in virtual time, and its marks on everything that it leaves behind."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import junitparser
import pytest
import yaml
from plugin_support import (
    ENGINE,
    Workplace,
    plain_environment,
    properties_of,
    pytest_command,
    system_yaml,
    write_tiny_dataset,
)

from pytest_agentperf.core.leaderboard import Leaderboard

if TYPE_CHECKING:
    from pathlib import Path

# A real endpoint with a model beside it, and one without: nothing listens at either.
MODELLED: dict[str, object] = {"url": "http://127.0.0.1:9/v1"}


class Rehearsed(NamedTuple):
    place: Workplace
    code: int
    output: str
    cases: dict[str, Any]

    def folder(self, system: str) -> Path:
        return next(self.place.results.glob(f"tiny-{system}-*"))

    def leaderboard(self, system: str) -> Leaderboard:
        path = self.folder(system) / "leaderboard-rehearsal.json"
        return Leaderboard.model_validate_json(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("rehearse")
    place = Workplace(folder, write_tiny_dataset(folder / "four"))
    system = yaml.safe_load(system_yaml("modelled", endpoint=MODELLED, expected={"tier1": 2}))
    system["deployments"]["main"]["simulate"] = ENGINE
    place.write("systems/modelled.yaml", yaml.safe_dump(system))
    place.system("unmodelled", endpoint=MODELLED)
    return place


def rehearse(place: Workplace, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        pytest_command("suites/tiny", "-p", "no:cacheprovider", *arguments),
        cwd=place.folder,
        env=plain_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def rehearsed(workplace: Workplace) -> Rehearsed:
    done = rehearse(
        workplace, "--system=modelled", "--system=unmodelled", "--agentperf-rehearse", "--junitxml=junit.xml"
    )
    suite = next(iter(junitparser.JUnitXml.fromfile(str(workplace.folder / "junit.xml"))))
    return Rehearsed(workplace, done.returncode, done.stdout, {case.name: case for case in suite})


def test_a_modelled_system_is_measured_without_its_endpoint(rehearsed: Rehearsed) -> None:
    assert rehearsed.code == pytest.ExitCode.OK, rehearsed.output
    (entry,) = rehearsed.leaderboard("modelled").entries
    assert [tier.agents for tier in entry.tiers] == [2, 1]
    assert all(phase.metrics for phase in entry.phases if phase.kind != "warmup")


def test_what_is_not_modelled_is_skipped_and_says_what_to_add(rehearsed: Rehearsed) -> None:
    (skipped,) = rehearsed.cases["test_capacity[unmodelled-tier1]"].result
    assert isinstance(skipped, junitparser.Skipped)
    assert "there is no model of it: add a `simulate:` block" in str(skipped.message)
    assert "systems/unmodelled.yaml" in str(skipped.message)


def test_every_artifact_is_marked(rehearsed: Rehearsed) -> None:
    folder = rehearsed.folder("modelled")
    assert folder.name.endswith("-rehearsal")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert [path.name for path in files if not path.stem.endswith("-rehearsal")] == []
    (entry,) = rehearsed.leaderboard("modelled").entries
    assert (entry.simulated, entry.rehearsal, entry.comparable.value) == (True, True, False)
    assert "a rehearsal in virtual time: a model answered, not the system" in entry.comparable.reasons
    assert all(not source.measured for source in entry.power_source.values())


def test_junit_and_terminal_are_marked(rehearsed: Rehearsed) -> None:
    for case in rehearsed.cases.values():
        assert properties_of(case)["agentperf.rehearsal"] == "true"
    found = properties_of(rehearsed.cases["test_capacity[modelled-tier1]"])
    assert found["agentperf.simulated"] == "true"
    assert float(found["agentperf.agents_per_mw"]) > 0
    lines = rehearsed.output.splitlines()
    assert any(line.startswith("agentperf:") and "everything SIMULATED" in line for line in lines)
    phases = [line for line in lines if line.startswith("agentperf modelled")]
    assert phases
    assert all(line.startswith("agentperf modelled SIMULATED:") and "rehearsed in" in line for line in phases)
    assert any(line.strip().startswith("modelled (SIMULATED)  tier1") for line in lines)


def test_a_second_rehearsal_gives_the_same_bytes(rehearsed: Rehearsed) -> None:
    first = json.loads(rehearsed.leaderboard("modelled").model_dump_json())
    done = rehearse(rehearsed.place, "--system=modelled", "--agentperf-results=again", AGENTPERF_REHEARSE="1")
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    (path,) = (rehearsed.place.folder / "again").glob("*-rehearsal/leaderboard-rehearsal.json")
    second = json.loads(Leaderboard.model_validate_json(path.read_text()).model_dump_json())
    for found in (first, second):
        del found["created_utc"]
        for entry in found["entries"]:
            del entry["measured_utc"]
    assert second == first
    other = rehearse(
        rehearsed.place, "--system=modelled", "--agentperf-results=other", "--agentperf-rehearse",
        "--agentperf-seed=1", "--agentperf-tier=tier2",
    )  # fmt: skip
    assert other.returncode == pytest.ExitCode.OK, other.stdout
    (path,) = (rehearsed.place.folder / "other").glob("*-rehearsal/leaderboard-rehearsal.json")
    assert json.loads(path.read_text())["entries"][0]["seeds"] != first["entries"][0]["seeds"]


@pytest.mark.parametrize("environment", [{}, {"AGENTPERF_REHEARSE": "0"}])
def test_without_the_switch_nothing_is_rehearsed(
    workplace: Workplace,
    environment: dict[str, str],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workplace.folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = pytester.runpytest_inprocess("suites/tiny", "--system=modelled", "--collect-only")
    assert "SIMULATED" not in done.stdout.str()
    assert "agentperf:" in done.stdout.str()


def test_the_ini_key_switches_it_on(
    workplace: Workplace, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace.folder)
    done = pytester.runpytest_inprocess(
        "suites/tiny", "--system=modelled", "--collect-only", "-o", "agentperf_rehearse=1"
    )
    assert "everything SIMULATED" in done.stdout.str()
