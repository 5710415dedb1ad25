"""A server that is gone ends its phase soon, and not when the phase would have ended."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_capacity_run import Rig
from virtual_system import FailingServer

from pytest_agentperf.core.answers_so_far import AnswersSoFar, UnderWay
from pytest_agentperf.core.phase import PhaseEvents, PhaseSpec
from pytest_agentperf.core.records import ColumnsBuilder
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.liveness import Liveness, Looks

if TYPE_CHECKING:
    from collections.abc import Callable

S = 1_000_000_000
NOTHING = PhaseEvents()
FAILED = PhaseEvents(failures=3, ttft_s=(math.inf,) * 3)
ANSWERED = PhaseEvents(ttft_s=(0.2,))


class Health(FailingServer):
    """Only says how it is."""

    def __init__(self, health: str) -> None:
        self.health = health  # type: ignore[assignment]
        self.asked = 0

    def state(self):  # type: ignore[no-untyped-def]
        self.asked += 1
        return self.health


def under_way(*requests: UnderWay) -> AnswersSoFar:
    return AnswersSoFar.of(ColumnsBuilder().finish(), requests)


def followed(server: Health, *open_: UnderWay, refuses: Callable[[], bool] | None = lambda: True) -> Liveness:
    return Liveness(server, lambda: under_way(*open_), refuses)


def test_a_dead_server_is_noticed_with_the_first_failures() -> None:
    assert followed(Health("dead")).gone(FAILED, S) == "gone"


def test_nobody_is_asked_while_anything_is_answered() -> None:
    server = Health("dead")
    liveness = followed(server)
    both = PhaseEvents(failures=2, ttft_s=(math.inf, 0.5, math.inf))
    assert not any(
        liveness.gone(events, t * S) for t, events in enumerate((NOTHING, ANSWERED, both, NOTHING))
    )
    assert server.asked == 0


def test_failures_of_a_server_that_lives_are_its_service() -> None:
    liveness = followed(Health("alive"), refuses=lambda: False)
    assert not any(liveness.gone(FAILED, t * S) for t in range(600))
    # Where nothing can be asked, nothing is concluded.
    liveness = followed(Health("alive"), refuses=None)
    assert not any(liveness.gone(FAILED, t * S) for t in range(600))


def test_a_network_that_stays_away_ends_it_within_a_minute_and_one_that_returns_does_not() -> None:
    server = Health("unreachable")
    liveness = followed(server)
    assert not any(liveness.gone(FAILED, t * S) for t in range(25))
    assert not liveness.gone(ANSWERED, 25 * S)
    assert not any(liveness.gone(FAILED, t * S) for t in range(26, 50))
    assert any(liveness.gone(NOTHING, t * S) == "gone" for t in range(50, 65))
    assert server.asked < 20


def test_a_front_that_refuses_everything_for_half_a_minute_has_no_engine() -> None:
    asked: list[int] = []

    def refuses() -> bool:
        asked.append(1)
        return True

    # One that is on its way to be refused, too.
    liveness = followed(Health("alive"), UnderWay(0, 0, 29 * S, None), refuses=refuses)
    found = [liveness.gone(FAILED, t * S) for t in range(40)]
    assert found.index("refusing") in range(30, 36)
    assert len(asked) == found.count("refusing"), "nobody is asked before"


@pytest.mark.parametrize(
    ("open_", "why"),
    [
        (UnderWay(0, 0, 25 * S, 28 * S), "it streams an answer"),
        (UnderWay(0, 0, 1 * S, None), "one has waited since the beginning, in its queue perhaps"),
    ],
)
def test_a_server_that_turns_others_away_while_it_serves_one_sheds_load(open_: UnderWay, why: str) -> None:
    liveness = followed(Health("alive"), open_)
    assert not any(liveness.gone(FAILED, t * S) for t in range(600)), why


def test_a_few_failures_or_an_answer_in_between_are_no_dead_engine() -> None:
    liveness = followed(Health("alive"))
    assert not any(liveness.gone(PhaseEvents(failures=1, ttft_s=(math.inf,)), t * S) for t in range(7))
    assert not any(liveness.gone(NOTHING, t * S) for t in range(7, 300))
    liveness = followed(Health("alive"))
    events = [ANSWERED if t % 25 == 0 else FAILED for t in range(300)]
    assert not any(liveness.gone(event, t * S) for t, event in enumerate(events))


def test_who_looks_at_what_is_under_way_takes_no_answer_from_another() -> None:
    def fields(count: int) -> AnswersSoFar:
        found = under_way(*[UnderWay(0, 0, 0, 1)] * count)
        return found._replace(ended=np.ones(count, dtype=bool))

    counts = iter([1, 2, 4])
    looks = Looks(
        lambda: AnswersSoFar.concatenate([fields(next(counts)), under_way(UnderWay(9, 0, 0, None))])
    )
    assert list(looks.under_way().agent) == [9]
    found = looks.fresh()
    assert (int(found.ended.sum()), list(found.agent[~found.ended])) == (3, [9])
    assert int(looks.fresh().ended.sum()) == 4


@pytest.mark.parametrize(
    ("health", "back", "code"),
    [
        ("dead", False, "server_crashed"),
        ("unreachable", False, "network_failed"),
        ("dead", True, "network_failed"),
    ],
)
def test_a_phase_is_broken_off_and_is_invalid(health: str, back: bool, code: str) -> None:
    rig = Rig()

    def after_start(spec: PhaseSpec, rig: Rig) -> None:
        if spec.kind == "warmup" or spec.n_agents != 2 or spec.attempt:
            return
        rig.server.health = health  # type: ignore[assignment]
        poll, stop = rig.pool.poll, rig.pool.stop_phase

        def poll_failures(timeout_s: float) -> PhaseEvents:
            return poll(timeout_s)._replace(failures=1, ttft_s=(math.inf,), completions=())

        def stop_phase():  # type: ignore[no-untyped-def]
            rig.pool.poll, rig.pool.stop_phase = poll, stop  # type: ignore[method-assign]
            columns = stop()
            columns.texts["failure"][:] = ["cut"] * len(columns)
            if back:
                rig.server.health = "alive"
            return columns

        rig.pool.poll = poll_failures  # type: ignore[method-assign]
        rig.pool.stop_phase = stop_phase  # type: ignore[method-assign]

    rig.after_start = after_start
    rig.run.measure("tier1")
    phase = next(p for p in rig.run.phases if p.kind != "warmup" and p.n_agents == 2)
    assert [reason.code for reason in phase.invalid] == [code]
    assert all(verdict.verdict is Verdict.INVALID for verdict in phase.verdicts)
    assert (phase.end_ns - phase.start_ns) / 1e9 < 45


def refusing(n_agents: int, times: int) -> tuple[Callable[[PhaseSpec, Rig], None], list[bool]]:
    """Let phases at `n_agents` meet a front that refuses everything; the list says whether it does at the moment."""
    now: list[bool] = []
    left = [times]

    def after_start(spec: PhaseSpec, rig: Rig) -> None:
        if spec.kind == "warmup" or spec.n_agents != n_agents or not left[0]:
            return
        left[0] -= 1
        now.append(True)
        poll, look, stop = rig.pool.poll, rig.pool.look, rig.pool.stop_phase

        def poll_failures(timeout_s: float) -> PhaseEvents:
            return poll(timeout_s)._replace(failures=1, ttft_s=(math.inf,), completions=())

        def stop_phase():  # type: ignore[no-untyped-def]
            rig.pool.poll, rig.pool.look, rig.pool.stop_phase = poll, look, stop  # type: ignore[method-assign]
            columns = stop()
            columns.texts["failure"][:] = ["http_5xx"] * len(columns)
            now.clear()
            return columns

        rig.pool.poll = poll_failures  # type: ignore[method-assign]
        rig.pool.look = under_way  # type: ignore[method-assign]
        rig.pool.stop_phase = stop_phase  # type: ignore[method-assign]

    return after_start, now


@pytest.mark.parametrize("recovers", [False, True])
def test_a_dead_engine_behind_a_front_ends_its_phase_and_is_a_crash(recovers: bool) -> None:
    rig = Rig()
    rig.after_start, now = refusing(2, 1)
    rig.run._opened("all")
    rig.deployed._refuses = lambda: bool(now)
    rig.deployed._still_works = lambda: recovers
    result = rig.run.measure("tier1")
    phase = next(p for p in rig.run.phases if p.kind != "warmup" and p.n_agents == 2)
    (reason,) = phase.invalid
    assert reason.code == "server_crashed"
    assert ("left alone, it works again" in reason.what) is recovers
    assert (phase.end_ns - phase.start_ns) / 1e9 < 45
    # One that works again is not restarted.
    assert rig.server.revivals == (not recovers)
    assert (result.verdict, result.agents) == (Verdict.PASS, undisturbed())


def test_a_front_that_refuses_everything_again_at_the_same_number_of_agents_fails() -> None:
    rig = Rig()
    rig.after_start, now = refusing(2, 2)
    rig.run._opened("all")
    rig.deployed._refuses = lambda: bool(now)
    rig.deployed._still_works = lambda: True
    result = rig.run.measure("tier1")
    first, second = (p.verdicts[0] for p in rig.run.phases if p.kind != "warmup" and p.n_agents == 2)
    assert (first.verdict, second.verdict, second.violated) == (
        Verdict.INVALID,
        Verdict.FAIL,
        ("survival",),
    )
    assert (result.verdict, result.agents) == (Verdict.PASS, 1)


def undisturbed() -> int | None:
    return Rig().run.measure("tier1").agents
