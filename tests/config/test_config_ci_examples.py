"""The workflows to copy are valid, and every command line in them is one that we have."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_agentperf.baselines import read_baseline_file, write_baseline
from pytest_agentperf.cli import command_line
from pytest_agentperf.config.system import load_system

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = ("github-actions.yml", "gitlab-ci.yml")


def loaded(name: str) -> dict[str, Any]:
    # Not with YAML's own booleans: the key `on` would become True.
    found = yaml.load((EXAMPLES / "ci" / name).read_text(encoding="utf-8"), yaml.BaseLoader)
    assert isinstance(found, dict)
    return found


def commands(found: object) -> Iterator[list[str]]:
    """Yield every command line of ours, wherever it stands."""
    if isinstance(found, dict):
        for value in found.values():
            yield from commands(value)
    elif isinstance(found, list):
        for value in found:
            yield from commands(value)
    elif isinstance(found, str):
        for line in found.splitlines():
            words = shlex.split(re.sub(r"\$\{\{.*?\}\}|\$\w+", "VALUE", line).partition(" > ")[0])
            if words and words[0] in ("pytest", "agentperf"):
                yield words


def measured(name: str) -> list[list[str]]:
    return [words for words in commands(loaded(name)) if words[0] == "pytest"]


@pytest.mark.parametrize("name", FILES)
def test_pytest_knows_every_option_and_every_file(pytester: pytest.Pytester, name: str) -> None:
    """With --collect-only, on what they are written for: suite, system and baseline are read and fit together."""
    shutil.copytree(EXAMPLES / "own_suite", pytester.path, dirs_exist_ok=True)
    rehearsal, gate = measured(name)
    # The example's own baseline is of the simulated system.
    refused = pytester.runpytest_inprocess(*gate[1:], "--collect-only")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*no baseline for acme_coder (edition 2026) batch on gpu_node*"])
    known = read_baseline_file(pytester.path / "baseline.json")
    for tier in known.tiers:
        update = {"system": "gpu_node", "rehearsal": False, "ruleset": None, "workload": None}
        known = known.accept(tier.model_copy(update=update))
    write_baseline(pytester.path / "baseline.json", known)
    for words in (rehearsal, gate):
        result = pytester.runpytest_inprocess(*words[1:], "--collect-only", "--strict-config")
        assert result.ret == pytest.ExitCode.OK, result.stderr.str()
    assert "--agentperf-rehearse" in rehearsal
    result.stdout.fnmatch_lines(["agentperf: * gate, systems: gpu_node (ci/1; *"])
    wrong = [word.replace("--agentperf-tolerance", "--agentperf-tolerence") for word in gate[1:]]
    assert pytester.runpytest_inprocess(*wrong, "--collect-only").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("name", FILES)
def test_agentperf_knows_every_command(name: str) -> None:
    ours = [words for words in commands(loaded(name)) if words[0] == "agentperf"]
    assert ours
    for words in ours:
        assert callable(command_line().parse_args(words[1:]).run)


def test_commands_of_the_readme_are_known() -> None:
    text = (EXAMPLES / "ci" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {7}(agentperf .*)$", text, re.M)
    assert len(lines) == 2
    for line in lines:
        command_line().parse_args(shlex.split(line)[1:])
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (EXAMPLES / "ci" / link).exists()


def test_github_keeps_and_shows_what_a_failed_gate_found() -> None:
    jobs = loaded("github-actions.yml")["jobs"]
    steps = jobs["gate"]["steps"]
    (gate,) = (k for k, step in enumerate(steps) if "--agentperf-mode=gate" in step.get("run", ""))
    after = steps[gate + 1 :]
    assert [step["if"] for step in after] == ["always()", "always()"]
    assert "capacity.xml" in after[0]["with"]["path"]
    assert "--github" in after[1]["run"]
    assert {job["if"] for job in jobs.values()} == {
        "github.event_name == 'pull_request'", "github.event_name == 'merge_group'",
    }  # fmt: skip
    # Without it, one gate may wait at most: any further one cancels it.
    assert jobs["gate"]["concurrency"]["queue"] == "max"
    assert "cancel-in-progress" not in jobs["gate"]["concurrency"]


def test_gitlab_keeps_and_shows_what_a_failed_gate_found() -> None:
    gate = loaded("gitlab-ci.yml")["gate"]
    # What stands in `script` does not run once the gate has failed.
    assert "agentperf summary" in " ".join(gate["after_script"])
    assert gate["artifacts"]["when"] == "always"
    assert gate["artifacts"]["reports"]["junit"] == "capacity.xml"
    assert "agentperf-results/" in gate["artifacts"]["paths"]


def test_the_gated_system_is_started_by_the_run() -> None:
    system = load_system(EXAMPLES / "own_suite" / "systems" / "gpu_node.yaml")
    assert system.deployments["main"].launch is not None
