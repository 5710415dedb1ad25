"""The suites that ship: their numbers, and what they ask of each serving framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from config_support import SUITE

from pytest_agentperf.config.bundled import bundled_suites, find_dataset
from pytest_agentperf.config.suite import load_suite
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import find_ruleset

if TYPE_CHECKING:
    from pathlib import Path

SUITES = {path.name: path for path in bundled_suites()}

# METHODOLOGY §3: P25 tokens/s over P95 TTFT in seconds.
TARGETS = {
    ("deepseek_v4_pro", "2026-06"): [(20, 10), (60, 5), (180, 3)],
    ("deepseek_v4_pro", "pre-launch"): [(30, 10), (100, 5), (300, 3)],
    ("gpt_oss_120b", "2026-06"): [(100, 5), (250, 3), (500, 2), (2000, 1)],
    ("deepseek_v3_2", "announced-2026-05"): [(30, 15), (100, 15), (300, 15)],
}
DEFAULT_EDITIONS = {
    "deepseek_v4_pro": "2026-06",
    "gpt_oss_120b": "2026-06",
    "deepseek_v3_2": "announced-2026-05",
}
THINK_MAX = {"thinking": True, "reasoning_effort": "max"}
V4_SAMPLING = {"temperature": 1.0, "top_p": 1.0}
EFFORT: dict[tuple[str, str], dict[str, Any]] = {
    ("deepseek_v4_pro", "vllm"): {"chat_template_kwargs": THINK_MAX},
    ("deepseek_v4_pro", "sglang"): {"reasoning_effort": "max", "chat_template_kwargs": {"thinking": True}},
    ("deepseek_v4_pro", "tensorrt-llm"): {"chat_template_kwargs": THINK_MAX},
    ("deepseek_v4_pro", "dynamo"): {"chat_template_kwargs": THINK_MAX},
    ("deepseek_v4_pro", "deepseek-api"): {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
    ("deepseek_v4_pro", "sim"): {"chat_template_kwargs": THINK_MAX},
    ("deepseek_v4_pro", "default"): {"reasoning_effort": "max", "chat_template_kwargs": THINK_MAX},
    ("gpt_oss_120b", "vllm"): {"reasoning_effort": "high"},
    ("gpt_oss_120b", "sglang"): {"reasoning_effort": "high"},
    ("gpt_oss_120b", "tensorrt-llm"): {"reasoning_effort": "high"},
    ("gpt_oss_120b", "dynamo"): {"chat_template_args": {"reasoning_effort": "high"}},
    ("gpt_oss_120b", "sim"): {"reasoning_effort": "high"},
    ("gpt_oss_120b", "default"): {"reasoning_effort": "high"},
    ("deepseek_v3_2", "vllm"): {"chat_template_kwargs": {"thinking": True}},
    ("deepseek_v3_2", "sglang"): {"chat_template_kwargs": {"thinking": True}},
    ("deepseek_v3_2", "tensorrt-llm"): {"chat_template_kwargs": {"thinking": True}},
    ("deepseek_v3_2", "dynamo"): {"chat_template_kwargs": {"thinking": True}},
    ("deepseek_v3_2", "deepseek-api"): {"thinking": {"type": "enabled"}},
    ("deepseek_v3_2", "sim"): {"chat_template_kwargs": {"thinking": True}},
    ("deepseek_v3_2", "default"): {"chat_template_kwargs": {"thinking": True}},
}


def test_all_bundled_suites_are_known_here() -> None:
    suites = {name: load_suite(path) for name, path in SUITES.items()}
    assert set(suites) == set(DEFAULT_EDITIONS)
    assert {(name, edition) for name, suite in suites.items() for edition in suite.editions} == set(TARGETS)
    assert {(name, key) for name, suite in suites.items() for key in suite.sampling.max_effort} == set(EFFORT)


@pytest.mark.parametrize("name", SUITES)
def test_bundled_suite(name: str) -> None:
    suite = load_suite(SUITES[name])
    assert suite.name == name
    assert suite.edition == DEFAULT_EDITIONS[name]
    assert suite.tokenizer == suite.model
    assert suite.max_tokens == find_ruleset(suite.ruleset).max_tokens == 16_384
    assert suite.ruleset == "aa-agentperf/2026-06"
    # That of the ruleset: the simulated system replays another than a rack.
    assert suite.dataset is None
    assert not suite.overrides
    assert suite.history_reasoning_source
    assert all(edition.source for edition in suite.editions.values())
    assert all(effort.source for effort in suite.sampling.max_effort.values())


@pytest.mark.parametrize("name", SUITES)
def test_its_test_is_two_lines(name: str) -> None:
    title = load_suite(SUITES[name]).title
    assert (SUITES[name] / "test_capacity.py").read_text(encoding="utf-8") == (
        f'"""{title}: how many agents the system carries at each service level."""\n'
        "\n\n"
        "def test_capacity(capacity_run, slo_tier):\n"
        "    assert capacity_run.agents >= slo_tier.expected_agents, capacity_run.report()\n"
    )


@pytest.mark.parametrize(("name", "edition"), TARGETS)
def test_targets(name: str, edition: str) -> None:
    tiers = load_suite(SUITES[name]).tiers(edition)
    expected = TARGETS[name, edition]
    assert list(tiers) == [f"tier{i}" for i in range(1, len(expected) + 1)]
    assert [(tier.output_speed_p25_tok_s, tier.ttft_p95_s) for tier in tiers.values()] == expected
    assert [tier.name for tier in tiers.values()] == list(tiers)


def test_default_edition_is_used() -> None:
    suite = load_suite(SUITES["deepseek_v4_pro"])
    assert suite.tiers() == suite.tiers("2026-06") != suite.tiers("pre-launch")


def test_unknown_edition() -> None:
    with pytest.raises(ConfigError, match="suite deepseek_v4_pro has no edition '2027'") as caught:
        load_suite(SUITES["deepseek_v4_pro"]).tiers("2027")
    assert caught.value.remedy == "one of: 2026-06, pre-launch"


@pytest.mark.parametrize(
    ("name", "context", "history", "sampling"),
    [
        ("deepseek_v4_pro", 131_072, "all", V4_SAMPLING),
        ("gpt_oss_120b", 131_072, "current_turn", {"temperature": 1.0, "top_p": 1.0}),
        ("deepseek_v3_2", 163_840, "current_turn", {"temperature": 1.0, "top_p": 0.95}),
    ],
)
def test_model_facts(name: str, context: int, history: str, sampling: dict[str, float]) -> None:
    suite = load_suite(SUITES[name])
    assert suite.max_context_tokens == context
    assert suite.history_reasoning == history
    assert suite.sampling.parameters == sampling


@pytest.mark.parametrize(("name", "framework"), EFFORT)
def test_request_parameters(name: str, framework: str) -> None:
    suite = load_suite(SUITES[name])
    expected = {**suite.sampling.parameters, **EFFORT[name, framework]}
    assert suite.request_parameters(framework) == expected


def test_frameworks_that_are_not_named_get_the_default() -> None:
    suite = load_suite(SUITES["gpt_oss_120b"])
    assert suite.request_parameters(None) == suite.request_parameters("default")
    assert suite.request_parameters("llama.cpp") == suite.request_parameters("default")


@pytest.mark.parametrize(("framework", "named"), [("sglang", "sglang"), (None, "default")])
def test_without_a_default_an_unknown_framework_is_an_error(
    tmp_path: Path, framework: str | None, named: str
) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    suite = load_suite(tmp_path)
    assert suite.request_parameters("vllm") == {"temperature": 1.0, "reasoning_effort": "max"}
    with pytest.raises(ConfigError, match="maximum effort") as caught:
        suite.request_parameters(framework)
    assert f"add sampling.max_effort.{named}" in str(caught.value.remedy)
    assert "vllm" in str(caught.value.remedy)


def test_dataset_of_the_bundled_suites_exists() -> None:
    path = find_dataset("bundled:demo-v1", relative_to=SUITES["gpt_oss_120b"])
    assert (path / "dataset.yaml").is_file()


def test_dataset_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    assert find_dataset("../mine", relative_to=tmp_path / "suite") == (tmp_path / "mine").resolve()
    assert find_dataset(str(tmp_path / "x"), relative_to=tmp_path) == (tmp_path / "x").resolve()


@pytest.mark.parametrize("name", ["bundled:nothing", "bundled:", "bundled:.", "bundled:../systems"])
def test_unknown_bundled_dataset(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="unknown dataset") as caught:
        find_dataset(name, relative_to=tmp_path)
    assert "demo-v1" in str(caught.value.remedy)


@pytest.mark.parametrize("name", ["max_tokens", "model", "messages", "tools", "stream", "ignore_eos"])
def test_parameters_that_the_replay_sets_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.replace("temperature: 1.0", f"{name}: 1"), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"`{name}` is set by the replay itself"):
        load_suite(path)
