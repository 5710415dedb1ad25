"""`agentperf init`: what it writes loads, and nothing is ever overwritten."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

import pytest

from pytest_agentperf.cli.init import add_arguments, run, scaffold
from pytest_agentperf.config.bundled import find_system_file
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.config.suite import load_suite
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["mine", "Qwen3.5_coder", "2026", "on", "null"])
@pytest.mark.parametrize("model", ["org/model", 'a "quoted": $model\n#', "12"])
def test_what_is_written_loads(tmp_path: Path, name: str, model: str) -> None:
    written = scaffold(tmp_path, name=name, model=model)
    suite_path, test_path, system_path = written
    assert files_in(tmp_path) == sorted(str(path.relative_to(tmp_path)) for path in written)
    suite, system = load_suite(suite_path), load_system(system_path)
    assert (suite.name, system.name, suite.model, suite.tokenizer) == (name, name, model, model)
    ast.parse(test_path.read_text(encoding="utf-8"))
    assert find_system_file(name, start=tmp_path) == system_path

    settings = resolve(suite_path.parent, system_path, RunOptions(), start=tmp_path)
    assert settings.ruleset.id == "aa-agentperf/2026-06"
    assert not settings.deviations
    for tier in settings.tiers:
        found = settings.deployment_for(tier)
        assert found is not None
        assert settings.expected_agents(tier) == 1
        assert found[1].endpoint.url_env == f"AGENTPERF_{name.upper().replace('.', '_')}_URL"
        assert suite.request_parameters(found[1].serving.framework)


def test_what_to_edit_is_marked(tmp_path: Path) -> None:
    suite, _, system = scaffold(tmp_path, name="mine", model="org/model")
    for path in (suite, system):
        assert path.read_text(encoding="utf-8").count("EDIT") > 4


@pytest.mark.parametrize(
    "existing", ["suites/mine/suite.yaml", "suites/mine/test_capacity.py", "systems/mine.yaml"]
)
def test_nothing_is_overwritten_and_nothing_else_written(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).parent.mkdir(parents=True)
    (tmp_path / existing).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="already there") as caught:
        scaffold(tmp_path, name="mine", model="org/model")
    assert existing in caught.value.what
    assert "nothing was written" in str(caught.value.remedy)
    assert files_in(tmp_path) == [existing]
    assert (tmp_path / existing).read_text(encoding="utf-8") == "mine"


def test_a_second_suite_beside_the_first(tmp_path: Path) -> None:
    scaffold(tmp_path, name="one", model="org/model")
    scaffold(tmp_path, name="two", model="org/model")
    assert len(files_in(tmp_path)) == 6


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "my-model", "two words", "box.yaml", "x\n"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a suite"):
        scaffold(tmp_path, name=name, model="org/model")
    assert not files_in(tmp_path)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model"):
        scaffold(tmp_path, name="mine", model=" ")


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        scaffold(tmp_path / "file", name="mine", model="org/model")
    assert caught.value.remedy == "check --directory"


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_command_prints_files_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(parse("mine", "--model", "org/model")) == 0
    output = capsys.readouterr().out
    for path in ("suites/mine/suite.yaml", "suites/mine/test_capacity.py", "systems/mine.yaml"):
        assert f"wrote {path}\n" in output
        assert Path(path).is_file()
    assert output.endswith("\n    pytest suites/mine --system=mine\n")


def test_command_elsewhere_names_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "with space"
    assert run(parse("mine", "--model", "org/model", "--directory", str(target))) == 0
    assert f"cd '{target}' && pytest suites/mine --system=mine\n" in capsys.readouterr().out
