"""Every way a file can be wrong: the place, what is wrong, and what to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from config_support import BAD_URLS, SUITE, SYSTEM, changed, error_of, line_of

from pytest_agentperf.config.suite import load_suite
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SUITE_CASES = {
    "unknown key": (
        changed(SUITE, "dataset:", "datset:"),
        "datset:",
        "unknown key `datset`",
        "did you mean `dataset`?",
    ),
    "unknown key, nothing close": (
        SUITE + "colour: blue\n",
        "colour",
        "unknown key `colour`",
        "the keys here are: name, title,",
    ),
    "unknown key below a dict": (
        changed(SUITE, "ttft_p95_s", "ttft_p95"),
        "ttft_p95",
        "unknown key `editions.first.tiers.tier1.ttft_p95` (and 1 more)",
        "did you mean `ttft_p95_s`?",
    ),
    "missing key": (changed(SUITE, "model: org/tiny\n", ""), "schema", "`model` is missing", "add `model:`"),
    "missing key below a dict": (
        changed(SUITE, "    source: a test\n    tiers", "    tiers"),
        "  first:",
        "`editions.first.source` is missing",
        "add `source:`",
    ),
    "wrong type": (
        changed(SUITE, "32768", "plenty"),
        "plenty",
        "`max_context_tokens`: Input should be a valid integer",
        "correct the value (it is 'plenty')",
    ),
    "out of range": (
        changed(SUITE, "max_tokens: 1024", "max_tokens: 0"),
        "max_tokens: 0",
        "`max_tokens`: Input should be greater than 0",
        "(it is 0)",
    ),
    "infinite": (
        changed(SUITE, "ttft_p95_s: 10", "ttft_p95_s: .inf"),
        ".inf",
        "`editions.first.tiers.tier1.ttft_p95_s`: Input should be a finite number",
        "(it is inf)",
    ),
    "wrong type in a union, named once": (
        changed(SUITE, "temperature: 1.0", "temperature: [1]"),
        "temperature",
        "`sampling.parameters.temperature`: Input should be a valid number",
        "correct the value",
    ),
    "number for text": (
        changed(SUITE, "title: Tiny", "title: 4"),
        "title",
        "`title` must be text",
        "(it is 4)",
    ),
    "empty": (changed(SUITE, "title: Tiny", "title:"), "title", "`title` is empty", "give it a value"),
    "not one of": (
        changed(SUITE, "history_reasoning: none", "history_reasoning: some"),
        "some",
        "`history_reasoning`: Input should be 'none', 'current_turn' or 'all'",
        "(it is 'some')",
    ),
    "text for a mapping": (
        changed(SUITE, "parameters: {temperature: 1.0}", "parameters: hot"),
        "hot",
        "`sampling.parameters` must be a mapping",
        "indented below it",
    ),
    "unknown default edition": (
        changed(SUITE, "edition: first", "edition: second"),
        "second",
        "`edition`: edition 'second' is not one of first",
        "correct it there",
    ),
    "duplicate key": (
        SUITE + "title: Again\n",
        "Again",
        "the key 'title' stands twice in one mapping",
        "remove one",
    ),
    "duplicate key, deep": (
        changed(SUITE, "    source: a test\n    tiers", "    source: a\n    source: b\n    tiers"),
        "source: b",
        "the key 'source' stands twice",
        "remove one",
    ),
    "date for a key": (
        changed(SUITE, "  first:", "  2026-06-12:"),
        "2026-06-12",
        "the key 2026-06-12 is not text",
        'put it in quotes: "2026-06-12":',
    ),
    "boolean for a key": (
        changed(SUITE, "  first:", "  on:"),
        "  on:",
        "the key on is not text",
        "in quotes",
    ),
    "list for a key": (SUITE + "? [a]\n: b\n", "? [a]", "is not text", "in quotes"),
    "impossible date": (
        SUITE + "overrides: {since: 2026-13-45}\n",
        "2026-13-45",
        "the value '2026-13-45' cannot be read",
        "put it in quotes if it is text",
    ),
    "scalar with a foreign tag": (
        SUITE + "overrides: {a: !!python/name:os.system ''}\n",
        "!!python",
        "cannot be read",
        "in quotes",
    ),
    "mapping with a foreign tag": (
        SUITE + "overrides: !shell {a: b}\n",
        "!shell",
        "could not determine a constructor",
        "around that line",
    ),
    "value within itself": (
        SUITE + "overrides: &a {x: *a}\n",
        "&a",
        "the value contains itself",
        "remove the alias",
    ),
    "broken YAML": (
        changed(SUITE, "title: Tiny", "title: [Tiny"),
        "model: org",
        "not valid YAML",
        "check indentation, quotes and colons",
    ),
    "tab for indentation": (SUITE + "\tx: 1\n", "\tx", "not valid YAML", "check indentation"),
    "control character": (
        changed(SUITE, "Tiny", "Ti\x07ny"),
        "\x07",
        "the character U+0007 is not allowed",
        "remove it",
    ),
    "wrong schema": (
        changed(SUITE, "agentperf-suite/1", "agentperf-system/1"),
        "schema",
        "schema is 'agentperf-system/1'",
        "write `schema: agentperf-suite/1`",
    ),
    "no schema": (
        changed(SUITE, "schema: agentperf-suite/1\n", ""),
        "name",
        "no `schema:` key",
        "write `schema: agentperf-suite/1`",
    ),
    "a list": ("- name: tiny\n", "tiny", "not a YAML mapping", "start the file with `schema:"),
    "two documents": (
        SUITE + "---\nname: x\n",
        "---",
        "expected a single document",
        "check indentation",
    ),
}

SYSTEM_CASES = {
    "unknown key in a list": (
        changed(SYSTEM, "accelerators_each", "accelerators"),
        "          accelerators: 8",
        "unknown key `deployments.main.serving.workers.0.accelerators` (and 1 more)",
        "did you mean `accelerators_each`?",
    ),
    "missing key in a list": (
        changed(SYSTEM, "          accelerators_each: 8\n", ""),
        "- role",
        "`deployments.main.serving.workers.0.accelerators_each` is missing",
        "add `accelerators_each:`",
    ),
    "missing key of a dict's entry": (
        changed(SYSTEM, "    allocated_accelerators: 8\n", ""),
        "  main:",
        "`deployments.main.allocated_accelerators` is missing",
        "add `allocated_accelerators:`",
    ),
    "missing block": (
        changed(SYSTEM, "submitter:\n  name: somebody\n", ""),
        "schema",
        "`submitter` is missing",
        "add `submitter:`",
    ),
    "mapping for a list": (
        changed(SYSTEM, "- role: aggregated", "  role: aggregated"),
        "workers:",
        "`deployments.main.serving.workers` must be a list",
        "one `- …` line per item",
    ),
    "number in the environment": (
        SYSTEM + "          environment: {NCCL_DEBUG: 1}\n",
        "NCCL_DEBUG",
        "`deployments.main.serving.workers.0.environment.NCCL_DEBUG` must be text",
        "put it in quotes (it is 1)",
    ),
    "no deployments": (
        SYSTEM[: SYSTEM.index("deployments:")] + "deployments: {}\n",
        "deployments",
        "`deployments`: Dictionary should have at least 1 item",
        "correct the value",
    ),
    "workers exceed the allocation": (
        changed(SYSTEM, "count: 1", "count: 2"),
        "  main:",
        "`deployments.main`: the workers hold 16 accelerators, more than the 8 allocated",
        "correct it there",
    ),
    "two ways to the endpoint": (
        changed(SYSTEM, "url: http://host:8000/v1", "url: http://host:8000/v1\n      url_env: BOX_URL"),
        "endpoint:",
        "`deployments.main.endpoint`: give exactly one of `url`, `url_env` and `builtin`",
        "correct it there",
    ),
    "no way to the endpoint": (
        changed(SYSTEM, "url: http://host:8000/v1", "api_key_env: BOX_KEY"),
        "endpoint:",
        "give exactly one of",
        "correct it there",
    ),
    "simulated without an engine": (
        changed(SYSTEM, "url: http://host:8000/v1", "builtin: sim"),
        "  main:",
        "`endpoint.builtin: sim` needs a `simulate:` block",
        "correct it there",
    ),
    "simulated power of a real endpoint": (
        SYSTEM + "    power: {source: sim}\n",
        "  main:",
        "`power.source: sim` reads the simulated server only",
        "correct it there",
    ),
    "power of some of the accelerators": (
        SYSTEM + "    power: {source: nvml, devices: ['0', '1']}\n",
        "  main:",
        "`deployments.main`: `power.devices` names 2 devices, but 8 accelerators are allocated",
        "correct it there",
    ),
    "power of one accelerator for two": (
        SYSTEM + "    power: {source: nvml, devices: ['0', '1', '2', '3', '4', '5', '6', '6']}\n",
        "  main:",
        "`deployments.main`: `power.devices` names a device twice",
        "correct it there",
    ),
    "unknown engine parameter": (
        changed(SYSTEM, "url: http://host:8000/v1", "builtin: sim") + "    simulate: {step_base: 3}\n",
        "step_base",
        "unknown key `deployments.main.simulate.step_base`",
        "did you mean `step_base_ms`?",
    ),
}


@pytest.mark.parametrize(("text", "marked", "what", "remedy"), SUITE_CASES.values(), ids=SUITE_CASES)
def test_errors_of_suites(tmp_path: Path, text: str, marked: str, what: str, remedy: str) -> None:
    error = error_of(load_suite, tmp_path / "suite.yaml", text)
    assert error.where == f"{tmp_path / 'suite.yaml'}:{line_of(text, marked)}"
    assert what in error.what
    assert remedy in (error.remedy or "")


@pytest.mark.parametrize(("text", "marked", "what", "remedy"), SYSTEM_CASES.values(), ids=SYSTEM_CASES)
def test_errors_of_systems(tmp_path: Path, text: str, marked: str, what: str, remedy: str) -> None:
    error = error_of(load_system, tmp_path / "box.yaml", text)
    assert error.where == f"{tmp_path / 'box.yaml'}:{line_of(text, marked)}"
    assert what in error.what
    assert remedy in (error.remedy or "")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "not a YAML mapping"),
        (b"# nothing\n", "not a YAML mapping"),
        (b"name: caf\xe9\n", "not UTF-8 text"),
        (b"#" * (5 << 20), "larger than 4 MiB"),
        (b"a: " + b"[" * 20_000, "nested too deeply"),
    ],
    ids=["empty", "only comments", "latin-1", "too large", "too deep"],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, what: str) -> None:
    error = error_of(load_suite, tmp_path / "suite.yaml", content)
    assert what in error.what
    assert error.remedy


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_suite(tmp_path / "suites" / "x" / "suite.yaml")
    assert caught.value.where == str(tmp_path / "suites" / "x" / "suite.yaml")
    assert caught.value.remedy == "check the path"


def test_directory_means_the_suite_in_it(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    assert load_suite(tmp_path).name == "tiny"
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_system(tmp_path)


def test_own_keys_overrule_merged_ones_and_their_line_is_reported(tmp_path: Path) -> None:
    text = SYSTEM + "  second:\n    <<: *main\n    allocated_accelerators: none\n"
    text = changed(text, "  main:", "  main: &main")
    error = error_of(load_system, tmp_path / "box.yaml", text)
    assert error.where == f"{tmp_path / 'box.yaml'}:{line_of(text, 'none')}"

    (tmp_path / "box.yaml").write_text(text.replace("none", "16"), encoding="utf-8")
    system = load_system(tmp_path / "box.yaml")
    assert system.deployments["second"].allocated_accelerators == 16
    assert system.deployments["second"].endpoint == system.deployments["main"].endpoint


def test_aliases_of_aliases_take_no_exponential_time(tmp_path: Path) -> None:
    lines = ["overrides:", "  a0: &a0 [1, 1]"]
    lines += [f"  a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    (tmp_path / "suite.yaml").write_text(SUITE + "\n".join(lines), encoding="utf-8")
    start = time.monotonic()
    load_suite(tmp_path / "suite.yaml")
    assert time.monotonic() - start < 5


def test_a_dict_entry_named_like_a_field_misleads_no_suggestion(tmp_path: Path) -> None:
    text = changed(SYSTEM, "  main:", "  endpoint:")
    text = changed(text, "allocated_accelerators", "allocated_accelerator")
    error = error_of(load_system, tmp_path / "box.yaml", text)
    assert error.remedy == "did you mean `allocated_accelerators`?"


def test_long_values_are_cut_short(tmp_path: Path) -> None:
    error = error_of(load_suite, tmp_path / "suite.yaml", changed(SUITE, "32768", "x" * 5_000))
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "line",
    [
        "api_key: sk-hunter2",
        "api_key_env: sk-hunter2",
        "api_key_env: 'Bearer hunter2'",
        "headers: {Authorization: hunter2}",
        "token: hunter2",
    ],
)
def test_no_key_can_be_written_into_a_file_and_none_is_repeated(tmp_path: Path, line: str) -> None:
    text = changed(SYSTEM, "      url: http://host:8000/v1", f"      url: http://host:8000/v1\n      {line}")
    error = error_of(load_system, tmp_path / "box.yaml", text)
    assert error.where == f"{tmp_path / 'box.yaml'}:{line_of(text, line)}"
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["http://me:hunter2@host/v1", "http://host/v1?key=hunter2", "hunter2@host:8000", "'http://h/v1#hunter2'"],
)
def test_a_url_holds_no_credentials_and_the_error_does_not_repeat_them(tmp_path: Path, url: str) -> None:
    error = error_of(load_system, tmp_path / "box.yaml", changed(SYSTEM, "http://host:8000/v1", url))
    assert "without credentials and query" in error.what
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(("url", "problem"), BAD_URLS)
def test_a_url_has_a_host_and_a_port_that_exist(tmp_path: Path, url: str, problem: str) -> None:
    error = error_of(load_system, tmp_path / "box.yaml", changed(SYSTEM, "http://host:8000/v1", f"'{url}'"))
    assert problem in error.what
    assert url not in str(error)
