"""The examples load, and say what they claim to."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pytest_agentperf.config.bundled import find_system_file
from pytest_agentperf.config.launch import Launch
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.config.system import load_system

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OWN = EXAMPLES / "own_suite"


def settings(system: str, options: RunOptions | None = None) -> RunSettings:
    path = find_system_file(system, start=OWN)
    return resolve(OWN / "suites" / "acme_coder", path, options or RunOptions(), start=OWN)


def test_own_suite_on_staging() -> None:
    run = settings("staging")
    assert run.selected == ("batch", "interactive")
    assert [run.expected_agents(tier) for tier in run.tiers] == [96, 24]
    assert {deviation.rule for deviation in run.deviations} == {"min_window_s", "resolution"}
    assert run.system.price is not None


def test_expectations_belong_to_their_edition() -> None:
    run = settings("staging", RunOptions(edition="2025"))
    assert [run.expected_agents(tier) for tier in run.tiers] == [None, None]
    assert run.tiers["batch"].output_speed_p25_tok_s == 10


def test_own_suite_in_rehearsal() -> None:
    run = settings("rehearsal")
    assert run.ruleset.id == "demo/1"
    for tier in run.tiers:
        found = run.deployment_for(tier)
        assert found is not None
        assert found[1].endpoint.builtin == "sim"


def test_every_example_is_listed() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", readme):
        if "docs/" not in link:
            assert (EXAMPLES / link).exists()
    assert "own_suite" in readme
    assert "(ci)" in readme


def test_a_disaggregated_system_is_launched_in_order() -> None:
    deployment = load_system(EXAMPLES / "launch" / "disaggregated.yaml").deployments["main"]
    assert deployment.launch is not None
    processes = deployment.launch.all_processes()
    assert list(processes) == ["prefill", "decode", "router"]
    assert '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}' in processes["prefill"].command
    assert processes["router"].environment == {"HF_TOKEN": "${HF_TOKEN}"}


def test_what_the_page_on_launching_shows_can_be_launched() -> None:
    page = (EXAMPLES.parent / "docs" / "launching.md").read_text(encoding="utf-8")
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(launch:.*?|deployments:.*?)```", page, re.S)
    ]
    launches = [block.get("launch") or block["deployments"]["main"]["launch"] for block in blocks]
    commands = re.findall(r"^command: (.*)$", page, re.M)
    assert (len(launches), len(commands)) == (2, 7)
    for launch in [*launches, *({"command": command} for command in commands)]:
        assert Launch.model_validate(launch).all_processes()
