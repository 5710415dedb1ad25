"""Shards and xdist: what several processes measured becomes one leaderboard and one JUnit file."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import junitparser
import pytest
import xmlschema
import yaml
from junit_schema import JUNIT_XSD
from plugin_support import (
    ENGINE,
    Workplace,
    plain_environment,
    properties_of,
    pytest_command,
    system_yaml,
    write_tiny_dataset,
)

from pytest_agentperf.cli import main
from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    from pathlib import Path

SYSTEMS = ("one", "two")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Two systems with a model each: they are measured in virtual time."""
    folder = tmp_path_factory.mktemp("shards")
    place = Workplace(folder, write_tiny_dataset(folder / "four"))
    for name in SYSTEMS:
        system = yaml.safe_load(system_yaml(name, endpoint={"url": "http://127.0.0.1:9/v1"}))
        system["deployments"]["main"]["simulate"] = ENGINE
        place.write(f"systems/{name}.yaml", yaml.safe_dump(system))
    return place


def options(name: str) -> tuple[str, ...]:
    return (
        "suites/tiny",
        "-p",
        "no:cacheprovider",
        "--agentperf-rehearse",
        f"--junitxml={name}.xml",
        f"--agentperf-results={name}",
    )


def rehearse(place: Workplace, name: str, *arguments: str) -> tuple[junitparser.TestSuite, str]:
    """Return the one suite of the run's JUnit file, and what was printed; results are below the name's folder."""
    done = subprocess.run(
        pytest_command(*options(name), *arguments),
        cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return suite_of(place.folder / f"{name}.xml"), done.stdout


def suite_of(path: Path) -> junitparser.TestSuite:
    xmlschema.XMLSchema(JUNIT_XSD).validate(str(path))
    (suite,) = junitparser.JUnitXml.fromfile(str(path))
    return suite


def whole(suite: Any) -> list[tuple[str, str]]:
    """Return the properties of a whole file."""
    return [(found.name, found.value) for found in suite.child(junitparser.Properties)]


@pytest.fixture(scope="module")
def shards(place: Workplace) -> dict[str, junitparser.TestSuite]:
    return {
        tier: rehearse(place, tier, "--system=one", f"--agentperf-tier={tier}")[0]
        for tier in ("tier1", "tier2")
    }


def test_leaderboards_of_two_tiers_become_one(
    place: Workplace,
    shards: dict[str, junitparser.TestSuite],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [str(next((place.folder / name).glob("tiny-one-*"))) for name in shards]
    apart = [read_leaderboard(next((place.folder / name).rglob("leaderboard-*.json"))) for name in shards]
    assert [[t.tier.name for t in board.entries[0].tiers] for board in apart] == [["tier1"], ["tier2"]]
    assert [board.entries[0].complete.value for board in apart] == [False, False]
    out = tmp_path / "all.json"
    assert main(["merge", *folders, "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.split()[:3] for line in printed.out.splitlines()[1:3]] == [
        ["one", "(SIMULATED)", tier] for tier in shards
    ]
    board = read_leaderboard(out)
    assert [(t.tier.name, t.agents) for e in board.entries for t in e.tiers] == [("tier1", 2), ("tier2", 1)]
    # What one lacked the other has.
    assert [entry.complete.value for entry in board.entries] == [True, True]
    assert (
        board.entries[0].seeds != board.entries[1].seeds or board.entries[0].phases != board.entries[1].phases
    )
    for entry in board.entries:
        for phase in entry.phases:
            assert phase.records is not None
            assert (tmp_path / phase.records).exists()


def test_their_junit_files_become_one_by_junitparser(
    place: Workplace, shards: dict[str, junitparser.TestSuite], tmp_path: Path
) -> None:
    out = tmp_path / "all.xml"
    files = [str(place.folder / f"{tier}.xml") for tier in shards]
    subprocess.run([sys.executable, "-m", "junitparser", "merge", *files, str(out)], check=True)
    merged = junitparser.JUnitXml.fromfile(str(out))
    # Suites of other properties, as their dates, stay apart.
    assert [whole(suite) for suite in merged] == [whole(suite) for suite in shards.values()]
    found = {case.name: properties_of(case)["agentperf.agents"] for suite in merged for case in suite}
    assert found == {"test_capacity[one-tier1]": "2", "test_capacity[one-tier2]": "1"}
    assert (merged.tests, merged.failures, merged.errors) == (2, 0, 0)
    cases = [case.time for suite in shards.values() for case in suite]
    assert merged.time == pytest.approx(sum(cases), abs=0.01)


def test_xdist_says_once_what_holds_for_the_whole_file(
    place: Workplace, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread, printed = rehearse(place, "spread", "-n2", *(f"--system={name}" for name in SYSTEMS))
    assert "2 workers" in printed
    told = whole(spread)
    assert len(told) == len(set(told))
    assert sorted(value for name, value in told if name == "agentperf.system") == list(SYSTEMS)
    found = dict(told)
    assert found["agentperf.suite"] == "tiny first"
    for name in SYSTEMS:
        (path,) = (place.folder / "spread").glob(f"tiny-{name}-*/leaderboard-rehearsal.json")
        (entry,) = read_leaderboard(path).entries
        assert found[f"agentperf.{name}.digest"] == f"sha256:{entry.digests.system}"
        assert found[f"agentperf.{name}.simulated"] == "true"
    assert sorted(case.name for case in spread) == [
        f"test_capacity[{name}-tier{n}]" for name in SYSTEMS for n in (1, 2)
    ]
    monkeypatch.chdir(place.folder)
    result = pytester.runpytest_inprocess(*options("alone"), *(f"--system={name}" for name in SYSTEMS))
    result.assert_outcomes(passed=4)
    alone = suite_of(place.folder / "alone.xml")
    dates = tuple(f"agentperf.{name}.measured_utc" for name in SYSTEMS)
    assert {one for one in told if one[0] not in dates} == {
        one for one in whole(alone) if one[0] not in dates
    }
