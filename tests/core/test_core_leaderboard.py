from __future__ import annotations

import json
from typing import Any

import pytest
from core_support import metrics
from pydantic import ValidationError

from pytest_agentperf.core.economics import normalise
from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.leaderboard import (
    DatasetInfo,
    Digests,
    Entry,
    Flag,
    Leaderboard,
    PhaseResult,
    SearchRange,
    Seeds,
    TierResult,
    merge_entries,
)
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06, Deviation
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.token_check import TokenVerification
from pytest_agentperf.core.verdict import InvalidReason, Verdict, judge

METER = PowerSource(source="nvml", scope="gpu+hbm", measured=True, update_period_s=0.1, devices=())
NO_METER = METER.model_copy(update={"source": "none", "measured": False})
ENERGY = WindowEnergy(
    energy_j=6e5,
    mean_power_w=1e3,
    devices=1,
    coverage=1.0,
    method="energy counter",
    invalid_code=None,
    invalid_reason=None,
)
YES, D1, D2 = Flag(value=True), *(Deviation(rule=r, expected="1", actual="2", reason="x") for r in ("a", "b"))


def slo(name: str) -> SloTier:
    return SloTier(name=name, output_speed_p25_tok_s=20, ttft_p95_s=10)


def phase(number: int, n_agents: int = 4, **changes: Any) -> PhaseResult:
    values: dict[str, Any] = {
        "phase": number,
        "attempt": 0,
        "kind": "confirm",
        "deployment": "main",
        "n_agents": n_agents,
        "start_ns": 0,
        "window_open_ns": 1,
        "window_close_ns": 2,
        "end_ns": 3,
        "timed_out": False,
        "idle_before": "verified",
        "records": None,
        "metrics": metrics(ttft_p95_s=None, infinite={"ttft_p95_s": "6 of 100 requests failed"}),
        "energy": ENERGY,
        "load": {"workers": 1, "lag_p99_s": 0.001},
        "invalid": (InvalidReason(code="c", what="w", remedy="r"),),
        "verdicts": (judge(slo("tier1"), metrics()),),
    }
    return PhaseResult(**{**values, **changes})


def tier(name: str, agents: int | None = 4) -> TierResult:
    return TierResult(
        tier=slo(name),
        deployment="main",
        verdict=Verdict.PASS,
        agents=agents,
        at_least=False,
        complete=True,
        confirmed=True,
        passed_max=4,
        failed_min=5,
        contradictions=("3 agents failed, 4 passed",),
        reason=None,
        expected_agents=None,
        binding_constraint="ttft_p95",
        published_phase=3,
        accelerators=1,
        metrics=metrics(),
        energy=ENERGY,
        normalisation=normalise(
            agents=4,
            throughput_tok_s=500.0,
            requests_per_s=2.0,
            trajectories_per_hour=None,
            accelerators=1,
            accelerators_per_system=8,
            accelerators_per_rack=None,
            energy=ENERGY,
            price=None,
        ),
    )


def entry(*tiers: TierResult, system: Any = "s", edition: Any = "e1", **changes: Any) -> Entry:
    names: dict[str, Any] = {"tier1": {}, "tier2": {}}
    values: dict[str, Any] = {
        "measured_utc": "2026-11-20T00:00:00Z",
        "software": {"python": "3.11"},
        "digests": Digests(dataset="00", suite="01", system="02", ruleset="03", software=None),
        "suite": {"name": "demo", "editions": {"e1": {"tiers": names}, "e2": {"tiers": names}}},
        "edition": edition,
        "system": {"name": system},
        "submitter": "me",
        "ruleset": AA_AGENTPERF_2026_06,
        "deviations": (),
        "dataset": DatasetInfo(name="d", digest="00", trajectories=2, official=False, truncation={"cut": 0}),
        "seeds": Seeds(assignment_seed=1, nonce="n"),
        "search": SearchRange(start=None, max_agents=64),
        "output_length": "natural",
        "request_parameters": {"main": {"temperature": 1.0}},
        "power_source": {"main": METER},
        "token_verification": TokenVerification(),
        "simulated": False,
        "complete": YES,
        "valid": YES,
        "comparable": YES,
        "tiers": tiers,
        "phases": (),
    }
    return Entry(**{**values, **changes})


def leaderboard(*entries: Entry) -> Leaderboard:
    return Leaderboard(created_utc="2026-11-20T00:00:00Z", entries=entries)


# The document


def test_the_document_reads_back_as_it_was_written() -> None:
    written = leaderboard(entry(tier("tier1"), phases=(phase(0), phase(1, kind="warmup", metrics=None))))
    text = written.model_dump_json(by_alias=True)
    assert Leaderboard.model_validate_json(text) == written
    assert json.loads(text)["schema"] == "agentperf-leaderboard/2"
    assert "schema_" not in json.loads(text)


def test_infinities_are_null_with_their_reason() -> None:
    text = leaderboard(entry(phases=(phase(0),))).model_dump_json(by_alias=True)
    found = json.loads(text)["entries"][0]["phases"][0]["metrics"]
    assert found["ttft_p95_s"] is None
    assert found["infinite"] == {"ttft_p95_s": "6 of 100 requests failed"}


def test_another_schema_is_refused() -> None:
    document = leaderboard().model_dump(by_alias=True) | {"schema": "agentperf-leaderboard/1"}
    with pytest.raises(ValidationError, match="schema"):
        Leaderboard.model_validate(document)


@pytest.mark.parametrize(
    "path",
    [
        (),
        ("entries", 0),
        ("entries", 0, "ruleset"),
        ("entries", 0, "dataset"),
        ("entries", 0, "seeds"),
        ("entries", 0, "valid"),
        ("entries", 0, "tiers", 0),
        ("entries", 0, "tiers", 0, "tier"),
        ("entries", 0, "tiers", 0, "metrics"),
        ("entries", 0, "tiers", 0, "energy"),
        ("entries", 0, "tiers", 0, "normalisation"),
        ("entries", 0, "tiers", 0, "normalisation", "agents"),
        ("entries", 0, "phases", 0),
        ("entries", 0, "phases", 0, "invalid", 0),
        ("entries", 0, "phases", 0, "verdicts", 0),
    ],
)
def test_an_unknown_key_is_refused_wherever_it_is(path: tuple[str | int, ...]) -> None:
    written = leaderboard(entry(tier("tier1"), phases=(phase(0),)))
    document = json.loads(written.model_dump_json(by_alias=True))
    Leaderboard.model_validate_json(json.dumps(document))
    place = document
    for step in path:
        place = place[step]
    place["new"] = 1
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Leaderboard.model_validate_json(json.dumps(document))


# Joining what pytest's tests deliver


def test_tiers_and_phases_of_one_system_are_joined_in_order() -> None:
    shared = phase(1)
    first = entry(tier("tier2"), phases=(phase(0), shared))
    second = entry(tier("tier1"), phases=(phase(0), shared, phase(2, 8)))
    [joined] = merge_entries([first, second])
    assert [t.tier.name for t in joined.tiers] == ["tier1", "tier2"]
    assert [p.phase for p in joined.phases] == [0, 1, 2]
    assert joined.complete == YES


def test_other_systems_suites_and_editions_stay_apart() -> None:
    other = entry(tier("tier1"), suite={"name": "big", "editions": {"e1": {"tiers": {"tier1": {}}}}})
    entries = [
        entry(tier("tier1")),
        entry(tier("tier1"), system="t"),
        entry(tier("tier1"), edition="e2"),
        other,
    ]
    assert len(merge_entries(entries)) == 4
    assert merge_entries([]) == []


def test_a_tier_that_was_not_run_makes_it_incomplete() -> None:
    [alone] = merge_entries([entry(tier("tier1"))])
    assert alone.complete == Flag(value=False, reasons=("tier2: not run",))
    assert (alone.valid, alone.comparable) == (YES, YES)
    [nothing] = merge_entries([entry()])
    assert nothing.complete.reasons == ("tier1: not run", "tier2: not run")


def test_a_tier_that_was_run_again_counts_as_it_was_last() -> None:
    [joined] = merge_entries([entry(tier("tier1", 4)), entry(tier("tier1", 6)), entry(tier("tier2"))])
    assert [t.agents for t in joined.tiers] == [6, 4]


@pytest.mark.parametrize("name", ["complete", "valid", "comparable"])
def test_flags_hold_only_if_they_hold_everywhere(name: str) -> None:
    no_1, no_2 = Flag(value=False, reasons=("a", "b")), Flag(value=False, reasons=("b", "c"))
    for flags, expected in (
        ((YES, YES), YES),
        ((no_1, YES), no_1),
        ((YES, no_1), no_1),
        ((no_1, no_2), Flag(value=False, reasons=("a", "b", "c"))),
    ):
        [joined] = merge_entries(
            [entry(tier(f"tier{i + 1}"), **{name: flag}) for i, flag in enumerate(flags)]
        )
        assert getattr(joined, name) == expected


def test_deviations_parameters_and_sources_are_joined() -> None:
    first = entry(
        tier("tier1"), deviations=(D1,), power_source={"a": METER}, request_parameters={"a": {"x": 1}}
    )
    second = entry(
        tier("tier2"), deviations=(D1, D2), power_source={"b": NO_METER}, request_parameters={"b": {}}
    )
    [joined] = merge_entries([first, second])
    assert joined.deviations == (D1, D2)
    assert joined.power_source == {"a": METER, "b": NO_METER}
    assert joined.request_parameters == {"a": {"x": 1}, "b": {}}


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_simulated_in_part_is_simulated(order: tuple[bool, bool]) -> None:
    [joined] = merge_entries([entry(tier(f"tier{i + 1}"), simulated=s) for i, s in enumerate(order)])
    assert joined.simulated
