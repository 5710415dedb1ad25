from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import (
    AA_AGENTPERF_2026_06,
    CI_1,
    DEMO_1,
    RULESETS,
    Deviation,
    Ruleset,
    apply_overrides,
    find_ruleset,
)

LOCKED = {
    "id",
    "official",
    "gate_ruleset",
    "dataset",
    "dataset_digest",
    "ttft_percentile",
    "output_speed_percentile",
}


def test_the_official_ruleset_is_the_methodologys() -> None:
    """METHODOLOGY §3 and §4, written out. A difference here is a new ruleset, never an edit."""
    assert AA_AGENTPERF_2026_06.model_dump() == {
        "id": "aa-agentperf/2026-06",
        "official": True,
        "gate_ruleset": "ci/1",
        "max_tokens": 16_384,  # §3
        "output_length": "natural",
        "dataset": "synthetic:aa-agentperf-2026-06",  # §4.8
        "dataset_digest": "a1db78872101472c0dedc340736a73b31b68a0e1f6c4f574d380f405ccf59a1f",
        "tool_delay_max_s": 5.0,  # §2
        "failure_wait_s": 1.0,  # §4.4
        "isolation_cached_tokens_max": 256,  # §4.7
        "agents_begin": "first_turn",
        "stagger_max_s": 0.1,  # §4.10
        "stagger_total_s": 60.0,
        "settle_s": 30.0,  # §3: steady state
        "min_window_s": 600.0,  # §3: at least 10 min of it
        "min_trajectories": 30,
        "min_trajectories_per_agent": 3,
        "phase_max_s": 21_600.0,  # §4.12: 6 h
        "warmup_agents": 4,
        "warmup_max_s": 600.0,
        "idle_max_s": 120.0,
        "restart_max_s": 1800.0,
        "idle_pause_s": 5.0,
        "reset_allowed": False,
        "ttft_percentile": 95.0,  # §3
        "output_speed_percentile": 25.0,
        "error_rate": None,  # §4.14: official verdicts are point estimates
        "pass_window_min_s": 0,
        "window_max_s": None,
        "look_factor": None,
        "correlation_s": None,
        "answer_horizon_s": None,
        "settle_max_s": None,
        "drain_max_s": None,
        "token_deviation_max": 0.02,  # §4.20
        "token_outliers_max": 0.1,
        "token_sample": 200,
        "prompt_sample": 32,
        "client_lag_p99_max_s": 0.05,  # §4.20: the client's budget
        "clock_error_max_s": 0.5,
        "fewer_load_hosts": True,
        "calibration_s": 5.0,
        "client_error_max": 0.005,
        "accuracy_alpha": 0.05,
        "accuracy_power": 0.8,
        "accuracy_max_s": 7_200.0,
        "search": "ramp-bisect",
        "ramp_factor": 2,  # §4.15
        "resolution": 0.01,
        "confirm": True,  # §4.16
        "confirm_descents_max": 2,
        "invalid_retries": 1,
        "connect_timeout_s": 30.0,
        "first_token_timeout_s": 600.0,
        "stall_timeout_s": 120.0,
        "request_timeout_s": 3_600.0,
        "power_coverage_min": 0.99,  # §4.20
        "power_gap_max_s": 1.0,
        "power_uncertainty_max": 0.01,
        "power_cross_check_max": 0.05,
    }


def test_only_the_published_ruleset_is_official() -> None:
    assert [ruleset.id for ruleset in RULESETS.values() if ruleset.official] == ["aa-agentperf/2026-06"]


def test_the_demo_judges_by_the_same_percentiles_and_confirms() -> None:
    for rule in ("ttft_percentile", "output_speed_percentile", "confirm", "ramp_factor", "failure_wait_s"):
        assert getattr(DEMO_1, rule) == getattr(AA_AGENTPERF_2026_06, rule)


def test_the_demos_dataset_is_named_by_its_content() -> None:
    assert DEMO_1.dataset == "bundled:demo-v1"
    assert DEMO_1.dataset_digest is not None
    assert len(bytes.fromhex(DEMO_1.dataset_digest)) == 32


def test_a_ruleset_is_found_by_its_id() -> None:
    assert find_ruleset("demo/1") is DEMO_1
    assert all(find_ruleset(id_).id == id_ for id_ in RULESETS)


def test_an_unknown_ruleset_lists_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        find_ruleset("aa-agentperf/2027", where="suite.yaml")
    assert caught.value.where == "suite.yaml"
    assert "aa-agentperf/2027" in caught.value.what
    assert caught.value.remedy == "one of: " + ", ".join(RULESETS)


AT_AN_ERROR_RATE = {
    "error_rate": 0.01,
    "search": "model",
    "window_max_s": 60.0,
    "look_factor": 1.5,
    "correlation_s": 1.0,
    "answer_horizon_s": 60.0,
}


@pytest.mark.parametrize("missing", ["window_max_s", "look_factor", "correlation_s", "answer_horizon_s"])
def test_an_error_rate_needs_to_know_when_to_look(missing: str) -> None:
    rules = dict(AT_AN_ERROR_RATE)
    del rules[missing]
    with pytest.raises(ConfigError, match=missing):
        apply_overrides(DEMO_1, rules, reason="x")


def test_an_error_rate_needs_a_search_that_knows_inconclusive() -> None:
    apply_overrides(DEMO_1, AT_AN_ERROR_RATE, reason="x")
    with pytest.raises(ConfigError, match="with an error rate, search must be model"):
        apply_overrides(DEMO_1, AT_AN_ERROR_RATE | {"search": "ramp-bisect"}, reason="x")
    assert apply_overrides(CI_1, {"search": "ramp-bisect", "error_rate": None}, reason="x")


def test_a_phase_at_an_error_rate_has_time_for_its_longest_window() -> None:
    """Up to 0.5 s until the last start, 60 s to its first token, 0.3 s and the window."""
    apply_overrides(DEMO_1, AT_AN_ERROR_RATE | {"phase_max_s": 120.8}, reason="x")
    with pytest.raises(ConfigError, match=r"phase_max_s must be 120\.8 or more"):
        apply_overrides(DEMO_1, AT_AN_ERROR_RATE | {"phase_max_s": 120.7}, reason="x")
    apply_overrides(DEMO_1, {"phase_max_s": 1.0}, reason="x")


@pytest.mark.parametrize("id_", ["ci/1", "nightly/1"])
def test_rulesets_of_gates_measure_the_official_workload_at_a_stated_error_rate(id_: str) -> None:
    rules = find_ruleset(id_)
    assert rules.error_rate == 0.004
    assert not rules.official
    for rule in ("dataset_digest", "max_tokens", "tool_delay_max_s", "failure_wait_s", "ttft_percentile"):
        assert getattr(rules, rule) == getattr(AA_AGENTPERF_2026_06, rule)


def test_a_ruleset_is_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DEMO_1.max_tokens = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Ruleset.model_validate({**DEMO_1.model_dump(), "grace_s": 1})


def test_overrides_are_listed_deviations() -> None:
    changed, deviations = apply_overrides(
        AA_AGENTPERF_2026_06, {"min_trajectories": 10, "settle_s": 5}, reason="--quick"
    )
    assert (changed.min_trajectories, changed.settle_s) == (10, 5.0)
    assert deviations == [
        Deviation(rule="min_trajectories", expected="30", actual="10", reason="--quick"),
        Deviation(rule="settle_s", expected="30.0", actual="5.0", reason="--quick"),
    ]
    unchanged = {"min_trajectories", "settle_s"}
    assert changed.model_dump(exclude=unchanged) == AA_AGENTPERF_2026_06.model_dump(exclude=unchanged)
    assert AA_AGENTPERF_2026_06.min_trajectories == 30


@pytest.mark.parametrize("value", [600, 600.0, "600"])
def test_an_equal_value_is_no_deviation(value: Any) -> None:
    changed, deviations = apply_overrides(AA_AGENTPERF_2026_06, {"min_window_s": value}, reason="x")
    assert (changed, deviations) == (AA_AGENTPERF_2026_06, [])


@pytest.mark.parametrize("name", ["min_trajectory", "", *sorted(LOCKED)])
def test_unknown_and_locked_rules_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(AA_AGENTPERF_2026_06, {name: 1}, reason="x", where="here")
    assert repr(name) in caught.value.what
    assert caught.value.where == "here"
    assert caught.value.remedy is not None
    known = caught.value.remedy.removeprefix("one of: ").split(", ")
    assert set(known) == set(Ruleset.model_fields) - LOCKED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_trajectories", 0),
        ("min_trajectories", "many"),
        ("min_window_s", 0),
        ("settle_s", -1),
        ("max_tokens", 1.5),
        ("ramp_factor", 1),
        ("resolution", 1),
        ("power_coverage_min", 1.01),
        ("output_length", "short"),
        ("confirm", None),
        ("phase_max_s", math.inf),
        ("request_timeout_s", math.nan),
    ],
)
def test_bad_values_are_refused_with_the_rule_and_a_remedy(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(AA_AGENTPERF_2026_06, {name: value}, reason="x", where="here")
    assert f"rule {name}: " in caught.value.what
    assert repr(value) in caught.value.what
    assert caught.value.where == "here"
    assert caught.value.remedy


def test_every_rule_can_be_seen_to_deviate() -> None:
    """A rule that could change without a deviation would make incomparable runs look comparable."""
    other = DEMO_1.model_dump() | {
        rule: value * 2 if isinstance(value, int | float) and not isinstance(value, bool) else value
        for rule, value in DEMO_1.model_dump().items()
        if rule not in {"resolution", "power_coverage_min", "accuracy_power"} | LOCKED
    }
    other |= {"power_coverage_min": 0.5, "resolution": 0.5, "accuracy_power": 0.5}
    other |= {
        "output_length": "exact",
        "confirm": False,
        "reset_allowed": True,
        "fewer_load_hosts": False,
        "pass_window_min_s": 1.0,
    }
    other |= {"search": "model"}
    other |= {"agents_begin": "steady_state", "settle_max_s": 30.0, "drain_max_s": 1.0}
    other |= {"error_rate": 0.01, "window_max_s": 60.0, "look_factor": 1.5, "correlation_s": 1.0}
    other |= {"answer_horizon_s": 60.0}
    _, deviations = apply_overrides(
        DEMO_1, {rule: value for rule, value in other.items() if rule not in LOCKED}, reason="x"
    )
    assert {d.rule for d in deviations} == set(Ruleset.model_fields) - LOCKED


def test_a_queue_is_judged_before_its_requests_are_given_up() -> None:
    with pytest.raises(ConfigError, match="settle_max_s must be shorter than first_token_timeout_s"):
        apply_overrides(CI_1, {"settle_max_s": CI_1.first_token_timeout_s}, reason="x", where="here")
