"""What people and CI read of a result: tables, lines and JUnit properties."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from results_support import TIER, columns, phase, tier_result

from pytest_agentperf.core.accuracy import AccuracyResult, AccuracyScore, Reference, judge_accuracy
from pytest_agentperf.core.economics import normalise
from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.phase import PhaseStatus, Stage
from pytest_agentperf.core.price import Price
from pytest_agentperf.core.server_metrics import ServerSummary
from pytest_agentperf.core.token_check import TokenVerification
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.junit import problem_properties, properties
from pytest_agentperf.results.phase_text import result_text, status_text
from pytest_agentperf.results.tables import agents_text, explain, number, render, summary_table, verdict_table

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import Entry


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "4 agents"),
        ({"at_least": True, "failed_min": None}, "at least 4 agents"),
        ({"agents": 0, "passed_max": 0, "failed_min": 1}, "0 agents"),
        ({"agents": None, "complete": False}, "incomplete (at least 4, fewer than 5)"),
        ({"agents": None, "complete": False, "failed_min": None}, "incomplete (at least 4)"),
        ({"agents": None, "complete": False, "passed_max": 0, "failed_min": None}, "incomplete (none passed)"),
        ({"agents": None, "verdict": Verdict.INVALID}, "no valid capacity (at least 4, fewer than 5)"),
    ],
)  # fmt: skip
def test_agents_in_words(changes: dict[str, Any], text: str) -> None:
    assert agents_text(tier_result(**changes)) == text


def scores(right: int, tokens: float) -> AccuracyScore:
    return AccuracyScore(
        questions="q", questions_digest="0", marks="1" * right + "0" * (20 - right), concurrency=1,
        output_tokens_mean=tokens, cut=0,
    )  # fmt: skip


def answered(right: int) -> AccuracyResult:
    """Twenty right answers at one agent, `right` of them under load."""
    return judge_accuracy(
        scores(20, 100), scores(right, 80), Reference(score=0.9, source="a test"), n_agents=4, phase=3,
        alpha=0.05, power=0.8,
    )  # fmt: skip


def test_accuracy_in_words() -> None:
    refused = tier_result(agents=None, verdict=Verdict.INVALID, accuracy=answered(5))
    assert agents_text(refused) == "no valid capacity (4 agents were fast enough, but were answered worse)"
    kept = explain(tier_result(accuracy=answered(20)), [])
    assert "accuracy under load: 100.0%, 100.0% at one agent (p = 1); a drop of " in kept
    assert "would have been found; answers -20.0% in length" in kept
    assert "accuracy under load: 100.0%, 90.0% in the reference" in kept
    assert "accuracy" not in explain(tier_result(), [])


def test_an_accuracy_phase_on_one_line() -> None:
    alone = phase(columns(good=0), n_agents=0, kind="accuracy", accuracy=scores(19, 1), verdicts=())
    assert result_text(alone) == "accuracy     alone: 19 of 20 right (100.0 s)"
    loaded = phase(columns(good=0), n_agents=16, kind="accuracy", accuracy=scores(9, 1), verdicts=())
    assert result_text(loaded) == "accuracy 16 agents: 9 of 20 right (100.0 s)"


SERVER = ServerSummary(
    engines=("vllm",), readings=9, failed_readings=0, cache_hit_share=0.87, waiting_mean=1.5, running_mean=3.0
)


def test_verdict_table_is_ordered_by_agents_and_shows_infinity() -> None:
    phases = [
        phase(columns(good=1, failed=2), n_agents=10, phase=1),
        phase(columns(), n_agents=2, phase=2, kind="confirm", server=SERVER),
        phase(columns(good=0), n_agents=3, phase=3, kind="bisect", invalid=True),
        phase(columns(), n_agents=1, phase=0, kind="warmup", verdicts=()),
    ]
    rows = [line.split() for line in verdict_table(tier_result(), phases).splitlines()]
    assert rows[0] == [
        "agents",
        "phase",
        "verdict",
        "speed",
        "P25",
        "TTFT",
        "P95",
        "tok/s",
        "cached",
        "waiting",
        "requests",
        "failed",
    ]
    assert rows[1][:5] == ["2", "confirm", "PASS", "20.0", "1.00"]
    assert rows[1][6:8] == ["87%", "1.5"]
    assert rows[2] == ["3", "bisect", "INVALID", "–", "–", "–", "–", "–", "–", "–"]
    assert rows[3][:5] == ["10", "ramp", "FAIL", "0.0", "∞"]
    assert rows[3][-2:] == ["3", "2"]


def test_explain_names_the_constraint_the_reason_and_contradictions() -> None:
    result = tier_result(
        expected_agents=8,
        binding_constraint="ttft_p95",
        reason="why it ended",
        contradictions=("5 failed, 6 passed",),
    )
    lines = explain(result, []).splitlines()
    assert lines[:4] == [
        f"tier1 ({TIER}): 4 agents, expected 8 or more",
        "  binding constraint: time to first token (P95), violated at 5 agents",
        "  why it ended",
        "  contradiction: 5 failed, 6 passed",
    ]
    assert "survival" in explain(tier_result(binding_constraint="survival"), [])
    assert "binding" not in explain(tier_result(failed_min=None, at_least=True), [])


def test_summary_marks_what_is_only_a_bound() -> None:
    entry = SimpleNamespace(
        rehearsal=False,
        system={"name": "box"},
        tiers=[
            tier_result(),
            tier_result(at_least=True, expected_agents=3),
            tier_result(agents=None, complete=False),
            tier_result(agents=None, passed_max=0),
        ],
    )
    rows = [line.split() for line in summary_table([cast("Entry", entry)]).splitlines()[1:]]
    assert [row[6:8] for row in rows] == [["4", "–"], ["≥4", "3"], ["≥4?", "–"], ["–", "–"]]


def test_numbers_and_columns() -> None:
    assert number(61354.4, 0) == "61,354"
    assert number(None) == "–"
    assert number(None, otherwise="∞") == "∞"
    assert render([["name", "n"], ["a", "1,234"], ["long name", "5"]]).splitlines() == [
        "  name           n",
        "  a          1,234",
        "  long name      5",
    ]


def status(**changes: Any) -> PhaseStatus:
    values: dict[str, Any] = {
        "kind": "ramp", "n_agents": 8, "stage": Stage.WINDOW, "elapsed_s": 40.0, "window_s": 10.25,
        "window_min_s": 600.0, "trajectories": 3, "trajectories_min": 30, "agents_short": 5, "in_flight": 2,
        "failures": 0, "ttft_p95_s": 1.5, "output_speed_p25_tok_s": 25.04,
    }  # fmt: skip
    return PhaseStatus(**(values | changes))


def test_live_line_stands_against_the_stop_rule() -> None:
    text = status_text(status())
    for part in (
        "ramp 8 agents",
        "window 10.2/600 s",
        "P25 25.0 tok/s",
        "P95 1.50 s",
        "3/30 traj",
        "5 agents short",
    ):
        assert part in text
    assert "failed" not in text
    assert "7 failed" in status_text(status(failures=7))
    assert "2 in flight" in status_text(status(stage=Stage.DRAIN))
    early = status_text(status(stage=Stage.RAMP, ttft_p95_s=None, output_speed_p25_tok_s=None))
    assert "ramp-in 40 s" in early
    assert "P25" not in early


def test_finished_phase_on_a_line() -> None:
    text = result_text(phase(columns(), n_agents=1))
    assert " ".join(text.split()) == "ramp 1 agent: P25 20.0 tok/s, P95 TTFT 1.00 s, tier1 PASS (100.0 s)"
    assert "P95 TTFT ∞ s, tier1 FAIL" in result_text(phase(columns(good=1, failed=1)))
    assert result_text(phase(columns(), invalid=True)).endswith(
        "\n  the client was late\n  → use more workers"
    )


ENTRY = cast(
    "Entry",
    SimpleNamespace(
        comparable=SimpleNamespace(value=False),
        simulated=True,
        rehearsal=False,
        dataset=SimpleNamespace(digest="d"),
        phases=(),
        token_verification=TokenVerification(),
    ),
)


def test_every_normalisation_is_a_property() -> None:
    """Four agents and 100 tok/s on 2 accelerators that take 500 W and cost $2 an hour each."""
    energy = WindowEnergy(
        energy_j=50_000,
        mean_power_w=500,
        devices=2,
        coverage=1.0,
        method="counter",
        invalid_code=None,
        invalid_reason=None,
    )
    result = tier_result(
        energy=energy,
        normalisation=normalise(
            agents=4,
            throughput_tok_s=100,
            trajectories_per_hour=400,
            accelerators=2,
            accelerators_per_system=8,
            accelerators_per_rack=72,
            requests_per_s=4.0,
            energy=energy,
            price=Price(usd_per_accelerator_hour=2, source="a test"),
        ),
    )
    found = properties(ENTRY, result, verdict="PASS")
    expected = {
        "agents_per_accelerator": 2, "agents_per_system": 16, "agents_per_rack": 144,
        "agents_per_kw": 8, "agents_per_mw": 8_000, "agents_per_usd_hour": 1,
        "throughput_tok_s_per_accelerator": 50, "throughput_tok_s_per_system": 400,
        "throughput_tok_s_per_rack": 3_600, "throughput_tok_s_per_kw": 200,
        "throughput_tok_s_per_mw": 200_000, "throughput_tok_s_per_usd_hour": 25,
        "power_w": 500, "power_per_accelerator_w": 250,
        "energy_per_output_token_j": 5, "energy_per_request_j": 125,
        "energy_per_trajectory_j": 4_500, "cost_per_trajectory_usd": 0.01,
    }  # fmt: skip
    assert {name: found.get(f"agentperf.{name}") for name in expected} == pytest.approx(expected)


def test_properties_of_an_error() -> None:
    found = problem_properties("load worker 0 failed:\n  File x\n" + "y" * 1_000)
    assert found["agentperf.verdict"] == "INVALID"
    reason = str(found["agentperf.reason"])
    assert reason.startswith("load worker 0 failed: File x yyy")
    assert reason.endswith("y…")
    assert len(reason) == 500
    assert {type(value) for value in found.values()} == {str}


def test_what_was_verified_is_a_property() -> None:
    found = properties(ENTRY, tier_result(), verdict="PASS")
    assert found["agentperf.token_verification"] == "not verified"
    assert found["agentperf.accuracy"] == "not measured"
    assert "agentperf.accuracy_score" not in found
    found = properties(ENTRY, tier_result(agents=None, accuracy=answered(5)), verdict="INVALID")
    assert found["agentperf.accuracy"] == "dropped"
    assert (found["agentperf.accuracy_score"], found["agentperf.accuracy_score_alone"]) == (0.25, 1.0)
    assert found["agentperf.accuracy_reference"] == 0.9
    assert found["agentperf.accuracy_output_tokens_drift"] == pytest.approx(-0.2)


def test_properties_are_plain_and_what_is_unknown_is_left_out() -> None:
    entry = ENTRY
    result = phase(columns())
    found = properties(entry, tier_result(metrics=result.metrics), verdict="PASS")
    assert found["agentperf.ttft_p95_s"] == 1.0
    assert found["agentperf.output_speed_p25_tok_s"] == 20.0
    assert found["agentperf.agents"] == 4
    # Exactly these: execnet refuses subclasses, as numpy's floats and enumerations are.
    assert {type(value) for value in found.values()} == {str, int, float}
    assert not {"agentperf.reason", "agentperf.expected_agents", "agentperf.agents_per_mw"} & set(found)
    infinite = phase(columns(good=0, failed=2))
    found = properties(entry, tier_result(agents=0, metrics=infinite.metrics, reason="r"), verdict="FAIL")
    assert "agentperf.ttft_p95_s" not in found
    assert found["agentperf.output_speed_p25_tok_s"] == 0.0
    assert found["agentperf.agents"] == 0
    assert found["agentperf.reason"] == "r"


def test_the_servers_own_figures_stand_beside_the_verdict() -> None:
    with_server = phase(columns(), server=SERVER)
    assert "87% from cache, 1.5 waiting, tier1 PASS" in result_text(with_server)
    silent = ServerSummary(engines=(), readings=0, failed_readings=1, missing={"waiting": "HTTP 404"})
    assert result_text(phase(columns(), server=silent)) == result_text(phase(columns()))
    entry = cast("Entry", SimpleNamespace(**vars(ENTRY) | {"phases": (with_server,)}))
    found = properties(entry, tier_result(), verdict="PASS")
    assert found["agentperf.server_cache_hit_share"] == 0.87
    assert found["agentperf.server_waiting_mean"] == 1.5
    assert "agentperf.server_preemptions" not in found
