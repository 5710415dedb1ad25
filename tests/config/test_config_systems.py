"""The systems that ship, finding a system's file, and which deployment serves a tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from config_support import SYSTEM, changed

from pytest_agentperf.config.bundled import SUITES, SYSTEMS, find_system_file, system_folders
from pytest_agentperf.config.suite import load_suite
from pytest_agentperf.config.system import System, load_system
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import RULESETS
from pytest_agentperf.sim.engine.parameters import plan_deployment

if TYPE_CHECKING:
    from pathlib import Path

FILES = {path.stem: path for path in sorted(SYSTEMS.glob("*.yaml"))}
HARDWARE = {
    # vendor, accelerators per system and rack, GB, rated W
    "gb300": ("NVIDIA", 72, 72, 279, 1400),
    "b300": ("NVIDIA", 8, None, 270, 1100),
    "h200": ("NVIDIA", 8, None, 141, 700),
    "mi355x": ("AMD", 8, None, 288, 1400),
}

# Systems of which nothing is published.
PROJECTED = {"mi300x", "tpu_v6e", "trainium2", "vera_rubin", "sram_only"}


def write(tmp_path: Path, text: str) -> System:
    (tmp_path / "box.yaml").write_text(text, encoding="utf-8")
    return load_system(tmp_path / "box.yaml")


def test_bundled_systems() -> None:
    assert set(FILES) == {"sim", *HARDWARE, *PROJECTED}


@pytest.mark.parametrize("name", FILES)
def test_bundled_system(name: str) -> None:
    system = load_system(FILES[name])
    assert system.name == name
    assert system.price is None
    assert system.ruleset is None or system.ruleset in RULESETS
    for path in SUITES.glob("*/suite.yaml"):
        suite = load_suite(path)
        system.check_tiers(suite.name, suite.tiers(), where=name)
        for deployment in system.deployments.values():
            if deployment.suite == suite.name:
                assert deployment.edition is None or deployment.edition in suite.editions
            # Every framework that is named can be asked for maximum effort.
            assert suite.request_parameters(deployment.serving.framework)


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware(name: str) -> None:
    system = load_system(FILES[name])
    accelerator = system.accelerator
    assert (
        accelerator.vendor,
        accelerator.per_system,
        accelerator.per_rack,
        accelerator.memory_gb,
        accelerator.rated_power_w,
    ) == HARDWARE[name]
    assert accelerator.source
    suite = load_suite(SUITES / "deepseek_v4_pro")
    variables = set()
    for tier in suite.tiers():
        found = system.deployment_for(suite.name, tier)
        assert found is not None
        endpoint = found[1].endpoint
        assert endpoint.api_key_env == f"AGENTPERF_{name.upper()}_API_KEY"
        variables.add(endpoint.url_env)
    one = {f"AGENTPERF_{name.upper()}_URL"}
    each = {f"AGENTPERF_GB300_TIER{i}_URL" for i in (1, 2, 3)}
    assert variables == (each if name == "gb300" else one)


@pytest.mark.parametrize("name", FILES)
def test_a_projection_says_so_and_expects_nothing(name: str) -> None:
    system = load_system(FILES[name])
    assert system.projection is (name in PROJECTED)
    assert ("projection without published data" in system.title) is system.projection
    if system.projection:
        assert system.accelerator.source
        for deployment in system.deployments.values():
            assert "PROJECTION WITHOUT PUBLISHED DATA" in str(deployment.serving.notes)
            assert all(tier.expected_agents is None for tier in (deployment.tiers or {}).values())


@pytest.mark.parametrize("name", FILES)
def test_models_hold_what_their_deployment_has(name: str) -> None:
    for key, deployment in load_system(FILES[name]).deployments.items():
        if deployment.simulate is None:
            assert key == "v4-pro-tier3"
            continue
        plan = plan_deployment(
            deployment.simulate.model_copy(update={"accelerators": deployment.allocated_accelerators})
        )
        assert plan.main.replicas * plan.main.ranks <= deployment.allocated_accelerators
        if name in HARDWARE:
            peak_w = load_system(FILES[name]).accelerator.rated_power_w
            assert deployment.simulate.power_peak_w == peak_w


def test_published_expectations() -> None:
    expected = {
        (name, tier, use.expected_agents, deployment.allocated_accelerators)
        for name in HARDWARE
        for deployment in load_system(FILES[name]).deployments.values()
        for tier, use in (deployment.tiers or {}).items()
        if use.expected_agents is not None
    }
    assert expected == {
        ("gb300", "tier1", 1840, 32),
        ("gb300", "tier2", 768, 40),
        ("h200", "tier1", 11, 8),
    }
    # The published figures per accelerator.
    assert 1840 / 32 == 57.5
    assert 768 / 40 == 19.2
    assert int(1.4 * 8) == 11


@pytest.mark.parametrize("name", HARDWARE)
def test_every_expectation_has_its_edition_and_source(name: str) -> None:
    for deployment in load_system(FILES[name]).deployments.values():
        for use in (deployment.tiers or {}).values():
            if use.expected_agents is not None:
                assert use.source
                assert deployment.edition == "2026-06"


def test_gb300_workers_fill_their_allocation() -> None:
    for tier, sizes in {"tier1": [24, 8], "tier2": [24, 16]}.items():
        deployment = load_system(FILES["gb300"]).deployments[f"v4-pro-{tier}"]
        assert [worker.count * worker.accelerators_each for worker in deployment.serving.workers] == sizes
        assert sum(sizes) == deployment.allocated_accelerators


def test_simulated_system_serves_every_suite() -> None:
    system = load_system(FILES["sim"])
    assert system.ruleset == "demo/1"
    assert "simulated" in system.submitter.name
    for path in SUITES.glob("*/suite.yaml"):
        suite = load_suite(path)
        for tier in suite.tiers():
            found = system.deployment_for(suite.name, tier)
            assert found is not None
            name, deployment = found
            assert name == ("v4-pro" if suite.name == "deepseek_v4_pro" else "any-suite")
            assert deployment.endpoint.builtin == deployment.power.source == "sim"
            assert deployment.simulate is not None
            assert deployment.simulate.accelerators == deployment.allocated_accelerators
            assert deployment.simulate.output_tokens_max <= RULESETS["demo/1"].max_tokens
            assert deployment.simulate.context_tokens >= suite.max_context_tokens


def test_a_deployment_for_the_suite_comes_before_one_for_any(tmp_path: Path) -> None:
    text = changed(SYSTEM, "deployments:\n", "deployments:\n  any: &any\n")
    block = SYSTEM[SYSTEM.index("    endpoint:") :]
    text = changed(text, "  any: &any\n", "  any:\n" + block)
    system = write(tmp_path, text)
    assert list(system.deployments) == ["any", "main"]
    for suite, tier, name in (("tiny", "tier1", "main"), ("tiny", "tier2", "any"), ("other", "tier1", "any")):
        found = system.deployment_for(suite, tier)
        assert found is not None
        assert found[0] == name


def test_a_tier_that_no_deployment_serves(tmp_path: Path) -> None:
    system = write(tmp_path, SYSTEM)
    assert system.deployment_for("tiny", "tier2") is None
    assert system.deployment_for("other", "tier1") is None


def test_check_tiers(tmp_path: Path) -> None:
    system = write(tmp_path, SYSTEM)
    system.check_tiers("tiny", {"tier1": None}, where="box.yaml")
    system.check_tiers("other", {}, where="box.yaml")
    with pytest.raises(ConfigError, match="deployment 'main' names the tier 'tier1'") as caught:
        system.check_tiers("tiny", {"fast": None, "slow": None}, where="box.yaml")
    assert caught.value.where == "box.yaml"
    assert caught.value.remedy == "one of: fast, slow"


@pytest.mark.parametrize(
    "endpoint", ["url: https://host/v1", "url_env: BOX_URL", "url_env: BOX_URL\n      api_key_env: BOX_KEY"]
)
def test_ways_to_an_endpoint(tmp_path: Path, endpoint: str) -> None:
    system = write(tmp_path, changed(SYSTEM, "url: http://host:8000/v1", endpoint))
    assert system.deployments["main"].endpoint.builtin is None


def test_idle_accelerators_may_be_allocated(tmp_path: Path) -> None:
    text = changed(SYSTEM, "allocated_accelerators: 8", "allocated_accelerators: 12")
    assert write(tmp_path, text).deployments["main"].allocated_accelerators == 12


def test_own_systems_come_before_bundled_ones(tmp_path: Path) -> None:
    assert find_system_file("h200", start=tmp_path) == SYSTEMS / "h200.yaml"
    for folder in ("fixtures/systems", "systems"):
        own = tmp_path / folder / "h200.yaml"
        own.parent.mkdir(parents=True)
        own.write_text(SYSTEM, encoding="utf-8")
        assert find_system_file("h200", start=tmp_path) == own
    assert system_folders(tmp_path) == [tmp_path / "systems", tmp_path / "fixtures" / "systems", SYSTEMS]


def test_in_the_checkout_bundled_systems_are_listed_once() -> None:
    assert system_folders(SYSTEMS.parents[1]).count(SYSTEMS) == 1


def test_system_by_path(tmp_path: Path) -> None:
    (tmp_path / "box.yml").write_text(SYSTEM, encoding="utf-8")
    assert find_system_file("box.yml", start=tmp_path) == tmp_path / "box.yml"
    assert find_system_file(str(tmp_path / "box.yml"), start=tmp_path / "elsewhere") == tmp_path / "box.yml"
    with pytest.raises(ConfigError, match="no such system file") as caught:
        find_system_file("systems/box", start=tmp_path)
    assert caught.value.where == str(tmp_path / "systems" / "box")


def test_unknown_system(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown system 'tpu'") as caught:
        find_system_file("tpu", start=tmp_path)
    assert caught.value.where == "--system"
    assert "b300, gb300, h200, mi300x, mi355x, sim" in str(caught.value.remedy)
