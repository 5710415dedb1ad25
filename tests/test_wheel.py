"""What is in the package that users install: everything that its code reads, and nothing else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
BUNDLED = ("suites", "fixtures")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    backend = pytest.importorskip("hatchling.build", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = backend.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as opened:
        yield opened


def packaged(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def tree(folder: Path) -> Iterator[str]:
    """Yield what lies below a folder of the source, as git would have it."""
    for path in folder.rglob("*"):
        if (
            path.is_file()
            and not {"__pycache__", ".pytest_cache", "agentperf-results"} & set(path.parts)
            and path.name[0] != "."
        ):
            yield path.relative_to(folder).as_posix()


def test_it_holds_the_package_and_what_is_bundled_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {f"pytest_agentperf/{name}" for name in tree(ROOT / "pytest_agentperf")}
    for part in BUNDLED:
        expected |= {f"pytest_agentperf/bundled/{part}/{name}" for name in tree(ROOT / part)}
    found = packaged(wheel)
    assert sorted(expected - found) == []
    assert sorted(found - expected) == []


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "results/leaderboard.schema.json",
        "results/published.json",
        "results/report/vendor/vega.min.js",
        "results/report/vendor/vega-lite.min.js",
        "results/report/vendor/vega-embed.min.js",
        "results/report/vendor/LICENSES.txt",
        "results/report/assets/report.html.in",
        "results/report/assets/report.js",
        "cli/templates/suite.yaml.in",
        "cli/templates/system.yaml.in",
        "bundled/suites/deepseek_v4_pro/suite.yaml",
        "bundled/suites/deepseek_v4_pro/test_capacity.py",
        "bundled/suites/pytest.ini",
        "bundled/fixtures/systems/sim.yaml",
        "bundled/fixtures/datasets/demo-v1/dataset.yaml",
        "bundled/fixtures/datasets/demo-v1/trajectories/demo-01.json.gz",
    ],
)
def test_what_commands_read_is_there_byte_by_byte(wheel: zipfile.ZipFile, name: str) -> None:
    bundled = name.removeprefix("bundled/")
    source = ROOT / bundled if bundled != name else ROOT / "pytest_agentperf" / name
    assert wheel.read(f"pytest_agentperf/{name}") == source.read_bytes()


def test_the_schema_in_it_is_one(wheel: zipfile.ZipFile) -> None:
    schema = json.loads(wheel.read("pytest_agentperf/results/leaderboard.schema.json"))
    assert schema["$id"].startswith("urn:pytest-agentperf:agentperf-leaderboard/")


def test_it_registers_plugin_and_command_and_has_its_licences(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "[pytest11]\nagentperf = pytest_agentperf.plugin" in text
    assert "[console_scripts]\nagentperf = pytest_agentperf.cli:main" in text
    licences = [name.rpartition("/")[2] for name in wheel.namelist() if ".dist-info/licenses/" in name]
    assert sorted(licences) == ["LICENSE", "LICENSES.txt"]
