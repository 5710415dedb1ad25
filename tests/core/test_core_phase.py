from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

import pytest
from core_support import S, steady
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_agentperf.core.phase import (
    Completion,
    Phase,
    PhaseEvents,
    PhaseSpec,
    Stage,
    StopRule,
    stagger_ns,
)
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06 as OFFICIAL

START = 1_000 * S
QUIET = PhaseEvents()


def rule(**changes: Any) -> StopRule:
    """The official proportions, small: settle 30 s, window 600 s, 4 trajectories, 1 per agent, at most 2,000 s."""
    values: dict[str, Any] = {
        "settle_ns": 30 * S,
        "min_window_ns": 600 * S,
        "min_trajectories": 4,
        "min_trajectories_per_agent": 1,
        "phase_max_ns": 2_000 * S,
    }
    return StopRule(**{**values, **changes})


def at(seconds: float) -> int:
    return START + round(seconds * S)


def started(n: int = 2, stop: StopRule | None = None, *, last_active: float = 10) -> Phase:
    """A phase whose agents became active by `last_active` seconds."""
    phase = Phase(n, stop or rule(), START)
    phase.update(PhaseEvents(activations=[Completion(i, at(i)) for i in range(n - 1)]), at(n))
    phase.update(PhaseEvents(activations=[Completion(n - 1, at(last_active))]), at(last_active))
    return phase


def done(*pairs: tuple[int, float]) -> PhaseEvents:
    return PhaseEvents(completions=[Completion(agent, at(t)) for agent, t in pairs])


# The window's opening


def test_ramp_lasts_until_every_agent_is_active() -> None:
    phase = Phase(3, rule(), START)
    assert (
        phase.update(PhaseEvents(activations=[Completion(0, at(0)), Completion(2, at(2))]), at(500))
        is Stage.RAMP
    )
    assert phase.open_ns is None
    assert phase.update(PhaseEvents(activations=[Completion(1, at(501))]), at(502)) is Stage.SETTLE


def test_the_window_opens_a_settling_time_after_the_last_first_send() -> None:
    phase = Phase(2, rule(), START)
    # Reported late and out of order: what counts is when the agents sent.
    events = PhaseEvents(activations=[Completion(1, at(12)), Completion(0, at(3))])
    assert phase.update(events, at(20)) is Stage.SETTLE
    assert phase.open_ns == at(42)
    assert phase.update(QUIET, at(42) - 1) is Stage.SETTLE
    assert phase.update(QUIET, at(42)) is Stage.WINDOW


def test_an_agent_becomes_active_once() -> None:
    phase = Phase(2, rule(), START)
    phase.update(PhaseEvents(activations=[Completion(0, at(1)), Completion(0, at(9))]), at(10))
    assert phase.stage is Stage.RAMP
    phase.update(PhaseEvents(activations=[Completion(1, at(2)), Completion(0, at(11))]), at(12))
    assert phase.open_ns == at(32)


def test_a_poll_that_comes_late_finds_the_window_where_it_was() -> None:
    phase = Phase(1, rule(), START)
    assert phase.update(PhaseEvents(activations=[Completion(0, at(0))]), at(300)) is Stage.WINDOW
    assert phase.open_ns == at(30)


# The stop rule: each condition alone keeps the window open


def test_the_window_stays_open_for_its_least_duration() -> None:
    phase = started()
    events = done((0, 50), (0, 60), (1, 70), (1, 80))
    assert phase.update(events, at(640) - 1) is Stage.WINDOW
    assert phase.update(QUIET, at(640)) is Stage.DRAIN
    assert (phase.open_ns, phase.close_ns) == (at(40), at(640))


def test_the_window_stays_open_for_the_least_number_of_trajectories() -> None:
    phase = started()
    assert phase.update(done((0, 50), (0, 60), (1, 70)), at(900)) is Stage.WINDOW
    assert phase.update(done((0, 910)), at(950)) is Stage.DRAIN
    assert phase.close_ns == at(910)


def test_the_window_stays_open_for_the_last_agents_quota() -> None:
    phase = started(3, rule(min_trajectories_per_agent=2))
    events = done((0, 50), (0, 60), (0, 70), (1, 70), (1, 80), (1, 90), (2, 100))
    assert phase.update(events, at(900)) is Stage.WINDOW
    assert phase.agents_short_of_quota == 1
    assert phase.update(done((2, 930)), at(990)) is Stage.DRAIN
    assert phase.close_ns == at(930)


def test_many_trajectories_of_one_agent_do_not_stand_in_for_another() -> None:
    phase = started()
    assert phase.update(done(*((0, 50.0 + i) for i in range(40))), at(1_900)) is Stage.WINDOW


def test_without_a_quota_any_agents_will_do() -> None:
    phase = started(stop=rule(min_trajectories_per_agent=0))
    assert phase.agents_short_of_quota == 0
    assert phase.update(done(*((0, 50.0 + i) for i in range(4))), at(700)) is Stage.DRAIN
    assert phase.close_ns == at(640)


def test_the_window_closes_when_all_held_not_when_asked() -> None:
    phase = started()
    events = done((0, 650), (1, 700), (0, 660), (1, 800), (0, 820), (1, 830))
    assert phase.update(events, at(1_500)) is Stage.DRAIN
    assert phase.close_ns == at(800)  # the fourth completion


def test_completions_count_from_the_start_of_the_phase() -> None:
    phase = started()
    # All before the window, two of them before the other agent was active.
    phase.update(done((0, 3), (0, 4), (0, 35), (1, 36)), at(39))
    assert phase.completions == 4
    assert phase.update(QUIET, at(640)) is Stage.DRAIN
    assert phase.close_ns == at(640)


def test_completions_after_the_window_are_not_the_phases() -> None:
    """The load goes on through the drain; its trajectories must not raise the phase's rate."""
    phase = started()
    phase.update(done((0, 50), (1, 60), (0, 70), (1, 640), (0, 641)), at(650))
    assert (phase.close_ns, phase.completions) == (at(640), 4)
    phase.update(done((1, 660), (0, 639)), at(700))
    assert phase.completions == 5  # the one from before the close that was told late


# The drain


def test_the_drain_waits_for_the_last_request() -> None:
    phase = started()
    phase.update(done((0, 50), (1, 60), (0, 70), (1, 80)), at(640))
    assert phase.update(QUIET, at(3_000)) is Stage.DRAIN
    assert phase.update(PhaseEvents(drained=True), at(3_100)) is Stage.DONE
    assert (phase.close_ns, phase.end_ns, phase.timed_out) == (at(640), at(3_100), False)
    assert phase.update(QUIET, at(3_200)) is Stage.DONE
    assert phase.end_ns == at(3_100)


def test_drained_means_nothing_while_the_window_is_open() -> None:
    phase = started()
    assert phase.update(PhaseEvents(drained=True), at(100)) is Stage.WINDOW


# The time limit


def test_the_time_limit_closes_the_window() -> None:
    phase = started()
    assert phase.update(done((0, 50)), at(2_000) - 1) is Stage.WINDOW
    assert phase.update(QUIET, at(2_100)) is Stage.DRAIN
    assert phase.timed_out
    assert (phase.open_ns, phase.close_ns) == (at(40), at(2_000))


def test_conditions_met_at_the_limit_are_met() -> None:
    phase = started()
    phase.update(done((0, 50), (1, 60), (0, 70), (1, 2_000)), at(2_000))
    assert (phase.timed_out, phase.close_ns) == (False, at(2_000))


def test_conditions_met_before_the_limit_are_met_however_late_the_poll() -> None:
    phase = started()
    phase.update(done((0, 50), (1, 60), (0, 70), (1, 1_999)), at(2_500))
    assert (phase.timed_out, phase.close_ns) == (False, at(1_999))


def test_conditions_met_after_the_limit_are_too_late_however_late_the_poll() -> None:
    phase = started()
    phase.update(done((0, 50), (1, 60), (0, 70), (1, 2_001)), at(2_500))
    assert (phase.timed_out, phase.close_ns) == (True, at(2_000))


@pytest.mark.parametrize("last_active", [None, 1_980.0, 1_970.0])
def test_a_time_limit_before_steady_state_leaves_an_empty_window(last_active: float | None) -> None:
    """No window, or one that opens after the limit or exactly at it."""
    phase = Phase(2, rule(), START)
    phase.update(PhaseEvents(activations=[Completion(0, at(0))]), at(1))
    if last_active is not None:
        phase.update(PhaseEvents(activations=[Completion(1, at(last_active))]), at(last_active))
    phase.update(QUIET, at(2_050))
    assert phase.timed_out
    assert phase.open_ns == phase.close_ns == at(2_000)
    assert phase.stage is Stage.DRAIN


# However the events reach it


class Script(NamedTuple):
    n: int
    stop: StopRule
    activations: list[Completion]
    completions: list[Completion]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """A phase of few seconds: everything happens in the first 60 of at most 50."""
    n = draw(st.integers(1, 4))
    stop = StopRule(
        settle_ns=draw(st.integers(0, 5)),
        min_window_ns=draw(st.integers(1, 20)),
        min_trajectories=draw(st.integers(1, 8)),
        min_trajectories_per_agent=draw(st.integers(0, 2)),
        phase_max_ns=draw(st.integers(1, 50)),
    )
    active = [draw(st.integers(0, 12)) for _ in range(n)]
    completions = [
        Completion(agent, active[agent] + draw(st.integers(1, 50)))
        for agent in draw(st.lists(st.integers(0, n - 1), max_size=16))
    ]
    activations = [Completion(agent, t) for agent, t in enumerate(active)]
    return Script(n, stop, activations, sorted(completions, key=lambda c: c.t_ns))


def run(script: Script, polls: list[int]) -> tuple[Any, ...]:
    """Poll at these times, each time with all that happened since."""
    phase = Phase(script.n, script.stop, 0)
    seen = -1
    for now in polls:
        phase.update(
            PhaseEvents(
                activations=[a for a in script.activations if seen < a.t_ns <= now],
                completions=[c for c in script.completions if seen < c.t_ns <= now],
            ),
            now,
        )
        seen = now
    return phase.open_ns, phase.close_ns, phase.timed_out, phase.completions, phase.stage


def expected(script: Script) -> tuple[Any, ...]:
    """The rule, read out of METHODOLOGY §3 and §4.10, with all events on the table."""
    stop = script.stop
    open_ns = max(a.t_ns for a in script.activations) + stop.settle_ns
    times = [c.t_ns for c in script.completions]
    per_agent = [[c.t_ns for c in script.completions if c.agent == agent] for agent in range(script.n)]
    for close_ns in range(open_ns + stop.min_window_ns, stop.phase_max_ns + 1):
        if bisect_right(times, close_ns) >= stop.min_trajectories and all(
            bisect_right(mine, close_ns) >= stop.min_trajectories_per_agent for mine in per_agent
        ):
            return open_ns, close_ns, False, bisect_right(times, close_ns), Stage.DRAIN
    limit = stop.phase_max_ns
    return min(open_ns, limit), limit, True, bisect_right(times, limit), Stage.DRAIN


@steady
@given(scripts(), st.sets(st.integers(0, 79)))
@example(
    Script(1, StopRule(0, 1, 1, 1, 10), [Completion(0, 0)], [Completion(0, 15)]),
    set(),
)
def test_the_window_does_not_depend_on_the_polls(script: Script, polls: set[int]) -> None:
    """Whatever the polls, also one single late one: the window is the one that the events give."""
    assert run(script, [*sorted(polls), 80]) == expected(script)


# Rules and starts


def test_the_official_stop_rule() -> None:
    assert StopRule.from_ruleset(OFFICIAL) == StopRule(
        settle_ns=30_000_000_000,
        min_window_ns=600_000_000_000,
        min_trajectories=30,
        min_trajectories_per_agent=3,
        phase_max_ns=21_600_000_000_000,
    )


def test_the_warm_up_ends_when_every_agent_has_completed_a_trajectory() -> None:
    phase = Phase(2, StopRule.for_warmup(OFFICIAL), START)
    activations = [Completion(0, at(0)), Completion(1, at(0.1))]
    assert phase.update(PhaseEvents(activations=activations), at(1)) is Stage.WINDOW
    assert phase.update(done((0, 40), (0, 50)), at(60)) is Stage.WINDOW
    assert phase.update(done((1, 70)), at(71)) is Stage.DRAIN
    assert (phase.close_ns, phase.timed_out) == (at(70), False)


def test_the_warm_up_ends_when_its_time_is_up() -> None:
    phase = Phase(1, StopRule.for_warmup(OFFICIAL), START)
    phase.update(PhaseEvents(activations=[Completion(0, at(0))]), at(1))
    assert phase.update(QUIET, at(600) - 1) is Stage.WINDOW
    assert phase.update(QUIET, at(600)) is Stage.DRAIN
    assert phase.timed_out


@pytest.mark.parametrize(
    ("n", "pause_ns"),
    [(1, 100_000_000), (600, 100_000_000), (601, 99_833_611), (1_200, 50_000_000), (60_000, 1_000_000)],
)
def test_the_stagger_is_a_tenth_of_a_second_or_a_minute_in_all(n: int, pause_ns: int) -> None:
    assert stagger_ns(n, OFFICIAL) == pause_ns


@steady
@given(st.integers(1, 100_000))
def test_all_agents_start_within_a_minute(n: int) -> None:
    spec = PhaseSpec(
        phase=0,
        attempt=0,
        kind="ramp",
        n_agents=n,
        stagger_ns=stagger_ns(n, OFFICIAL),
        seed=0,
        nonce="",
        trajectories=("a",),
        failure_wait_ns=S,
    )
    assert spec.start_offset_ns(0) == 0
    assert 0 < spec.start_offset_ns(n) <= 60 * S + n


def test_agents_start_one_after_another() -> None:
    spec = PhaseSpec(0, 0, "ramp", 3, 100, 0, "", ("a",), S)
    assert [spec.start_offset_ns(agent) for agent in range(3)] == [0, 100, 200]
