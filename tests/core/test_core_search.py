from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from core_support import steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06 as OFFICIAL
from pytest_agentperf.core.search import CapacitySearch, Probe, SearchRules, Status, TierOutcome
from pytest_agentperf.core.verdict import TierVerdict, Verdict

PASS, FAIL, INVALID, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE
System = Callable[[Probe], Verdict]


def judged(verdicts: Mapping[str, Verdict]) -> dict[str, TierVerdict]:
    return {tier: TierVerdict(tier=tier, verdict=verdict) for tier, verdict in verdicts.items()}


def rules(**changes: Any) -> SearchRules:
    values: dict[str, Any] = {
        "start": 1,
        "max_agents": 1_000,
        "ramp_factor": 2,
        "resolution": 0.0,
        "confirm": True,
        "confirm_descents_max": 2,
        "invalid_retries": 1,
    }
    return SearchRules(**{**values, **changes})


def carries(capacity: int) -> System:
    return lambda probe: PASS if probe.n_agents <= capacity else FAIL


def scripted(*verdicts: Verdict, then: System) -> System:
    """These verdicts first, whatever is asked."""
    left = list(verdicts)
    return lambda probe: left.pop(0) if left else then(probe)


def at(n: int, *verdicts: Verdict, otherwise: System) -> System:
    """These verdicts at n, one after another."""
    left = list(verdicts)
    return lambda probe: left.pop(0) if probe.n_agents == n and left else otherwise(probe)


def search(system: System, found: SearchRules, limit: int = 200) -> tuple[TierOutcome, list[Probe]]:
    """Search one tier to its end."""
    state = CapacitySearch(["t"], found)
    probes: list[Probe] = []
    while probe := state.next_probe("t"):
        assert len(probes) < limit, "the search does not end"
        assert state.outcome("t").status is Status.SEARCHING
        assert state.outcome("t").agents is None
        probes.append(probe)
        state.record(probe, judged({"t": system(probe)}), reason="the loop ran late")
    return state.outcome("t"), probes


def steps(probes: list[Probe]) -> list[tuple[int, str]]:
    return [(probe.n_agents, probe.kind) for probe in probes]


# On systems that are what they are


def test_ramp_bisect_confirm() -> None:
    outcome, probes = search(carries(11), rules())
    assert steps(probes) == [
        *((n, "ramp") for n in (1, 2, 4, 8, 16)),
        *((n, "bisect") for n in (12, 10, 11)),
        (11, "confirm"),
    ]
    assert outcome == TierOutcome(
        tier="t",
        status=Status.DONE,
        agents=11,
        at_least=False,
        confirmed=True,
        passed_max=11,
        failed_min=12,
        contradictions=(),
        reason=None,
    )


@pytest.mark.parametrize("capacity", range(41))
@pytest.mark.parametrize(
    "found", [rules(), rules(max_agents=40), rules(max_agents=40, start=7, confirm=False)]
)
def test_the_capacity_is_found_exactly(capacity: int, found: SearchRules) -> None:
    outcome, _ = search(carries(capacity), found)
    assert (outcome.status, outcome.agents) == (Status.DONE, capacity)


limits = st.integers(1, 200).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, m)))


@steady
@given(st.integers(0, 250), limits, st.integers(2, 4), st.booleans())
def test_the_capacity_is_found_from_any_start_below_any_limit(
    capacity: int, limit: tuple[int, int], factor: int, confirm: bool
) -> None:
    max_agents, start = limit
    found = rules(start=start, max_agents=max_agents, ramp_factor=factor, confirm=confirm)
    outcome, probes = search(carries(capacity), found)
    asked = [probe.n_agents for probe in probes]
    assert (outcome.status, outcome.reason, outcome.contradictions) == (Status.DONE, None, ())
    assert outcome.agents == outcome.passed_max == min(capacity, max_agents)
    assert outcome.at_least == (capacity >= max_agents)
    assert outcome.failed_min == (None if outcome.at_least else capacity + 1)
    assert asked[0] == start
    assert max(asked) <= max_agents
    # No number is asked twice, but for the answer's confirmation.
    repeated = [outcome.agents] if confirm and outcome.agents else []
    assert sorted(asked) == sorted([*set(asked), *repeated])
    assert outcome.confirmed == bool(repeated)
    assert len(asked) <= 2 * math.log2(max_agents) + 4


def test_capacity_0_means_that_a_single_agent_failed() -> None:
    outcome, probes = search(carries(0), rules(start=64))
    assert [probe.n_agents for probe in probes] == [64, 32, 16, 8, 4, 2, 1]
    assert (outcome.agents, outcome.at_least, outcome.confirmed, outcome.failed_min) == (0, False, False, 1)


def test_a_coarse_resolution_does_not_stop_short_of_one_agent() -> None:
    outcome, probes = search(carries(0), rules(start=100, resolution=0.9))
    assert probes[-1].n_agents == 1
    assert outcome.agents == 0


def test_at_least_the_limit() -> None:
    outcome, probes = search(carries(10**9), rules(max_agents=100))
    assert steps(probes)[-2:] == [(100, "ramp"), (100, "confirm")]
    assert (outcome.agents, outcome.at_least, outcome.confirmed, outcome.failed_min) == (
        100,
        True,
        True,
        None,
    )


def test_resolution_is_one_percent_of_n() -> None:
    """At 1,488 agents 1 % is 14: a gap of 16 is cut once more, one of 8 is not."""
    outcome, probes = search(carries(1_500), rules(max_agents=10_000, resolution=0.01))
    bisected = [probe.n_agents for probe in probes if probe.kind == "bisect"]
    assert bisected == [1_536, 1_280, 1_408, 1_472, 1_504, 1_488, 1_496]
    assert (outcome.agents, outcome.failed_min) == (1_496, 1_504)


@steady
@given(st.integers(1, 20_000))
def test_resolution_is_never_finer_nor_coarser(capacity: int) -> None:
    outcome, probes = search(carries(capacity), rules(max_agents=40_000, resolution=0.01))
    assert outcome.agents is not None
    assert outcome.failed_min is not None
    assert outcome.agents <= capacity < outcome.failed_min
    assert outcome.failed_min - outcome.agents <= max(1, outcome.agents / 100)
    # Before the last cut the gap was still too wide: nothing was measured in vain.
    before = sorted({0, *(p.n_agents for p in probes if p.kind != "confirm")} - {probes[-2].n_agents})
    low = max(n for n in before if n <= capacity)
    high = min((n for n in before if n > capacity), default=10**9)
    assert high - low > max(1, low // 100)


def test_attempts_count_the_probes_at_that_number() -> None:
    system = at(4, INVALID, PASS, PASS, otherwise=carries(4))
    _, probes = search(system, rules())
    assert [(p.n_agents, p.attempt) for p in probes if p.n_agents == 4] == [(4, 0), (4, 1), (4, 2)]
    assert all(p.attempt == 0 for p in probes if p.n_agents != 4)


# Confirmation


def test_the_answer_is_repeated_once() -> None:
    _, probes = search(carries(5), rules())
    assert [probe for probe in probes if probe.kind == "confirm"] == [Probe(5, "confirm", 1)]
    outcome, probes = search(carries(5), rules(confirm=False))
    assert (outcome.agents, outcome.confirmed) == (5, False)
    assert all(probe.kind != "confirm" for probe in probes)


def test_a_failed_confirmation_goes_down_to_the_next_passed() -> None:
    # Where it lies within the resolution of the failure, nothing else is asked.
    outcome, probes = search(
        at(640, PASS, FAIL, otherwise=carries(640)), rules(resolution=0.3, max_agents=2_000)
    )
    assert steps(probes)[-2:] == [(640, "confirm"), (512, "confirm")]
    assert (outcome.status, outcome.agents, outcome.confirmed, outcome.failed_min) == (
        Status.DONE,
        512,
        True,
        640,
    )
    assert outcome.contradictions == ("640 agents failed after they had passed",)


def test_after_a_failed_confirmation_the_answer_keeps_its_resolution() -> None:
    outcome, probes = search(at(6, PASS, FAIL, otherwise=carries(6)), rules())
    # Passed: 1, 2, 4, 6; failed: 8, 7. The next passed, 4, would be two steps too low.
    assert steps(probes)[-3:] == [(6, "confirm"), (5, "bisect"), (5, "confirm")]
    assert (outcome.status, outcome.agents, outcome.confirmed, outcome.failed_min) == (
        Status.DONE,
        5,
        True,
        6,
    )


def test_at_most_two_descents() -> None:
    system = at(6, PASS, FAIL, otherwise=at(5, PASS, FAIL, otherwise=carries(6)))
    outcome, probes = search(system, rules())
    assert steps(probes)[-4:] == [(6, "confirm"), (5, "bisect"), (5, "confirm"), (4, "confirm")]
    assert (outcome.status, outcome.agents, outcome.confirmed) == (Status.DONE, 4, True)


def test_a_third_failed_confirmation_is_invalid() -> None:
    system = carries(6)
    for n in (6, 5, 4):
        system = at(n, PASS, FAIL, otherwise=system)
    outcome, probes = search(system, rules())
    assert steps(probes)[-4:] == [(6, "confirm"), (5, "bisect"), (5, "confirm"), (4, "confirm")]
    assert (outcome.status, outcome.agents, outcome.at_least) == (Status.INVALID, None, False)
    assert "not confirmed 3 times, the last time at 4 agents" in (outcome.reason or "")


def test_a_failed_confirmation_at_one_agent_is_capacity_0() -> None:
    outcome, probes = search(at(1, PASS, FAIL, otherwise=carries(1)), rules())
    assert steps(probes) == [(1, "ramp"), (2, "ramp"), (1, "confirm")]
    assert (outcome.status, outcome.agents, outcome.confirmed) == (Status.DONE, 0, False)


def test_a_failed_confirmation_with_nothing_passed_below_searches_below() -> None:
    outcome, probes = search(at(8, PASS, FAIL, otherwise=carries(8)), rules(start=8))
    assert steps(probes)[-5:] == [
        (8, "confirm"), (4, "bisect"), (6, "bisect"), (7, "bisect"), (7, "confirm")
    ]  # fmt: skip
    assert (outcome.agents, outcome.confirmed) == (7, True)


def test_a_failed_confirmation_at_the_limit_is_no_longer_at_least() -> None:
    outcome, _ = search(at(100, PASS, FAIL, otherwise=carries(100)), rules(max_agents=100))
    assert (outcome.agents, outcome.at_least, outcome.failed_min) == (99, False, 100)


# INVALID


def test_a_ramp_that_the_load_generator_ends_is_at_least_what_passed() -> None:
    state = CapacitySearch(["t"], rules())
    asked = []
    while probe := state.next_probe("t"):
        asked.append((probe.n_agents, probe.kind))
        beyond = probe.n_agents > 8
        state.record(
            probe, judged({"t": INVALID if beyond else PASS}), reason="too late", load_generator=beyond
        )
    outcome = state.outcome("t")
    assert asked[-3:] == [(16, "ramp"), (16, "ramp"), (8, "confirm")]
    assert (outcome.status, outcome.agents, outcome.at_least, outcome.confirmed) == (
        Status.DONE,
        8,
        True,
        True,
    )
    assert outcome.reason == "INVALID at N = 16 in 2 attempts: too late"


def test_the_load_generators_reach_is_no_answer_below_a_failure() -> None:
    state = CapacitySearch(["t"], rules())
    while probe := state.next_probe("t"):
        if probe.n_agents == 12:
            state.record(probe, judged({"t": INVALID}), reason="too late", load_generator=True)
        else:
            state.record(probe, judged({"t": PASS if probe.n_agents <= 8 else FAIL}))
    assert (state.outcome("t").status, state.outcome("t").agents) == (Status.INVALID, None)


@pytest.mark.parametrize("verdict", [INVALID, INCONCLUSIVE])
def test_an_invalid_phase_moves_no_bound_and_is_repeated(verdict: Verdict) -> None:
    outcome, probes = search(at(8, verdict, otherwise=carries(11)), rules())
    plain_outcome, plain = search(carries(11), rules())
    assert outcome == plain_outcome
    assert steps(probes) == [*steps(plain)[:4], (8, "ramp"), *steps(plain)[4:]]


@pytest.mark.parametrize("kind", ["ramp", "bisect", "confirm"])
def test_invalid_again_and_again_ends_the_search_and_says_why(kind: str) -> None:
    def system(probe: Probe) -> Verdict:
        return INVALID if probe.kind == kind and probe.n_agents > 4 else carries(6)(probe)

    outcome, probes = search(system, rules())
    assert steps(probes)[-2] == steps(probes)[-1]
    assert steps(probes)[-3] != steps(probes)[-1]
    assert (outcome.status, outcome.agents) == (Status.INVALID, None)
    assert outcome.reason == f"INVALID at N = {probes[-1].n_agents} in 2 attempts: the loop ran late"
    assert outcome.passed_max == {"ramp": 4, "bisect": 4, "confirm": 6}[kind]
    assert outcome.failed_min == {"ramp": None, "bisect": 8, "confirm": 7}[kind]


def test_retries_are_the_rulesets() -> None:
    outcome, probes = search(lambda _: INVALID, rules(invalid_retries=3))
    assert len(probes) == 4
    assert (outcome.reason or "").startswith("INVALID at N = 1 in 4 attempts")
    assert (
        search(at(1, INVALID, INVALID, INVALID, otherwise=carries(3)), rules(invalid_retries=3))[0].agents
        == 3
    )


def test_a_valid_phase_in_between_starts_the_count_anew() -> None:
    outcome, _ = search(at(1, INVALID, PASS, INVALID, PASS, otherwise=carries(1)), rules())
    assert (outcome.status, outcome.agents, outcome.confirmed) == (Status.DONE, 1, True)


# Several tiers


def drive(state: CapacitySearch, tier: str, judge: Callable[[Probe], dict[str, Verdict]]) -> list[Probe]:
    probes: list[Probe] = []
    while probe := state.next_probe(tier):
        assert len(probes) < 300, "the search does not end"
        probes.append(probe)
        state.record(probe, judged(judge(probe)))
    return probes


@steady
@given(st.lists(st.integers(0, 70), min_size=1, max_size=4), st.integers(1, 60), st.booleans())
def test_tiers_share_their_probes(capacities: list[int], start: int, confirm: bool) -> None:
    tiers = {f"tier{i}": capacity for i, capacity in enumerate(capacities)}
    state = CapacitySearch(tiers, rules(start=start, max_agents=60, confirm=confirm))
    probes: list[Probe] = []
    for tier in tiers:
        probes += drive(state, tier, lambda p: {t: carries(c)(p) for t, c in tiers.items()})
    for tier, capacity in tiers.items():
        outcome = state.outcome(tier)
        assert (outcome.status, outcome.agents) == (Status.DONE, min(capacity, 60))
        assert outcome.confirmed == (confirm and capacity > 0)
    # Nothing is asked twice for any tier's sake, but the answers.
    asked = [probe.n_agents for probe in probes if probe.kind != "confirm"]
    assert len(asked) == len(set(asked))
    assert len(probes) - len(asked) <= len(set(capacities))
    assert len({(p.n_agents, p.attempt) for p in probes}) == len(probes)


def test_a_second_pass_in_another_tiers_probe_confirms() -> None:
    state = CapacitySearch(["a", "b"], rules())
    for tier in ("a", "b"):
        drive(state, tier, lambda p: {"a": carries(3)(p), "b": carries(3)(p)})
    assert state.outcome("b").confirmed
    assert drive(state, "b", lambda _: {}) == []


def test_contradictions_of_a_non_monotone_system_are_reported() -> None:
    """Tier a fails at 4 and passes at 8; the probes at 8 are made for tier b."""

    def judge(probe: Probe) -> dict[str, Verdict]:
        n = probe.n_agents
        return {"a": FAIL if n == 4 or n > 8 else PASS, "b": carries(20)(probe)}

    state = CapacitySearch(["a", "b"], rules())
    drive(state, "b", judge)
    drive(state, "a", judge)
    outcome = state.outcome("a")
    assert outcome.contradictions == ("4 agents failed, 8 passed",)
    assert (outcome.agents, outcome.failed_min, outcome.confirmed) == (3, 4, True)
    assert state.outcome("b").contradictions == ()


def test_a_pass_after_a_failure_at_the_same_number_is_reported_and_not_believed() -> None:
    state = CapacitySearch(["a"], rules())
    for attempt, verdict in enumerate((FAIL, PASS)):
        state.record(Probe(4, "ramp", attempt), judged({"a": verdict}))
    outcome = state.outcome("a")
    assert outcome.contradictions == ("4 agents passed after they had failed",)
    assert (outcome.passed_max, outcome.failed_min) == (0, 4)


def test_an_outcome_is_final() -> None:
    """What other tiers' probes say later against it is reported, but the search stays ended."""
    state = CapacitySearch(["a", "b"], rules())
    drive(state, "a", lambda p: {"a": carries(10)(p)})
    before = state.outcome("a")
    state.record(Probe(3, "bisect", 0), judged({"a": FAIL, "b": FAIL}))
    state.record(Probe(20, "ramp", 0), judged({"a": PASS, "b": FAIL}))
    state.record(Probe(5, "bisect", 0), judged({"a": PASS, "b": FAIL}))
    state.record(Probe(5, "bisect", 1), judged({"a": INVALID, "b": FAIL}))
    after = state.outcome("a")
    assert state.next_probe("a") is None
    assert after.contradictions == (
        "3 agents failed after the search had ended at 10",
        "20 agents passed after the search had ended at 10",
    )
    assert (after.agents, after.status, after.failed_min) == (before.agents, before.status, before.failed_min)


# On systems that are not what they are

noise = st.sampled_from([PASS, PASS, PASS, FAIL, FAIL, INVALID, INCONCLUSIVE])
Log = list[tuple[Probe, dict[str, Verdict]]]


@steady
@given(st.data(), limits, st.sampled_from([0.0, 0.01, 0.3]), st.booleans(), st.integers(0, 3))
def test_noise_ends_and_any_answer_was_measured(
    data: st.DataObject, limit: tuple[int, int], resolution: float, confirm: bool, descents: int
) -> None:
    max_agents, start = limit
    found = rules(
        start=start,
        max_agents=max_agents,
        resolution=resolution,
        confirm=confirm,
        confirm_descents_max=descents,
    )
    log: list[tuple[int, Verdict]] = []

    def system(probe: Probe) -> Verdict:
        log.append((probe.n_agents, data.draw(noise)))
        return log[-1][1]

    cuts = math.log2(max_agents) + 2
    outcome, _ = search(system, found, limit=math.ceil(2 * (2 * cuts + (descents + 1) * (cuts + 1))))
    if outcome.status is Status.INVALID:
        assert outcome.agents is None
        assert outcome.reason
        return
    agents = outcome.agents
    assert agents is not None
    if agents == 0:
        assert (1, FAIL) in log
    else:
        assert log.count((agents, PASS)) >= (2 if confirm else 1)
        assert not [n for n, verdict in log if verdict is FAIL and n <= agents]
    assert outcome.failed_min == min((n for n, verdict in log if verdict is FAIL), default=None)
    assert outcome.at_least == (outcome.failed_min is None) == (FAIL not in [v for _, v in log])


@steady
@given(st.data(), limits)
def test_noise_on_several_tiers_ends_and_replays_to_the_same_state(
    data: st.DataObject, limit: tuple[int, int]
) -> None:
    max_agents, start = limit
    found = rules(start=start, max_agents=max_agents)
    tiers = ["a", "b", "c"]
    state = CapacitySearch(tiers, found)
    log: Log = []

    def judge(probe: Probe) -> dict[str, Verdict]:
        log.append((probe, {tier: data.draw(noise) for tier in tiers}))
        return log[-1][1]

    for tier in tiers:
        drive(state, tier, judge)
        ended = state.outcome(tier)
        assert ended.status is not Status.SEARCHING
        for n in [p.n_agents for p, verdicts in log if verdicts[tier] is FAIL]:
            # A failure at or below the answer can only have come after it.
            late = f"{n} agents failed after the search had ended at {ended.agents}"
            assert not ended.agents or n > ended.agents or late in ended.contradictions
    # A resumed run reads its journal and stands where the broken-off one stood, at every step.
    resumed = CapacitySearch(tiers, found)
    for probe, verdicts in log:
        assert probe in [resumed.next_probe(tier) for tier in tiers]
        resumed.record(probe, judged(verdicts))
    assert [resumed.outcome(t) for t in tiers] == [state.outcome(t) for t in tiers]
    assert [resumed.next_probe(t) for t in tiers] == [None] * 3


@steady
@given(st.integers(0, 100), st.integers(0, 20))
def test_a_search_resumes_in_the_middle(capacity: int, done: int) -> None:
    state, twin = CapacitySearch(["t"], rules()), CapacitySearch(["t"], rules())
    _, probes = search(carries(capacity), rules())
    for probe in probes[:done]:
        for one in (state, twin):
            one.record(probe, judged({"t": carries(capacity)(probe)}))
    assert state.outcome("t") == twin.outcome("t")
    rest = drive(twin, "t", lambda p: {"t": carries(capacity)(p)})
    assert rest == probes[done:]


# The rules


def test_the_official_rules() -> None:
    assert SearchRules.from_ruleset(OFFICIAL, start=4, max_agents=5_000) == SearchRules(
        start=4,
        max_agents=5_000,
        ramp_factor=2,
        resolution=0.01,
        confirm=True,
        confirm_descents_max=2,
        invalid_retries=1,
    )


@pytest.mark.parametrize(("start", "max_agents"), [(0, 10), (11, 10), (-1, 10), (1, 0)])
def test_a_start_outside_the_range_is_refused(start: int, max_agents: int) -> None:
    with pytest.raises(ValueError, match="start must lie in"):
        rules(start=start, max_agents=max_agents)
