"""A server that is gone ends its phase soon, and not when the phase would have ended."""

from __future__ import annotations

import math

import pytest
from test_capacity_run import Rig
from virtual_system import FailingServer

from pytest_agentperf.core.phase import PhaseEvents, PhaseSpec
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.liveness import Liveness

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


def test_a_dead_server_is_noticed_with_the_first_failures() -> None:
    assert Liveness(Health("dead")).gone(FAILED, S)


def test_nobody_is_asked_while_anything_is_answered() -> None:
    server = Health("dead")
    liveness = Liveness(server)
    both = PhaseEvents(failures=2, ttft_s=(math.inf, 0.5, math.inf))
    assert not any(
        liveness.gone(events, t * S) for t, events in enumerate((NOTHING, ANSWERED, both, NOTHING))
    )
    assert server.asked == 0


def test_failures_of_a_server_that_lives_are_its_service() -> None:
    liveness = Liveness(Health("alive"))
    assert not any(liveness.gone(FAILED, t * S) for t in range(600))


def test_a_network_that_stays_away_ends_it_within_a_minute_and_one_that_returns_does_not() -> None:
    server = Health("unreachable")
    liveness = Liveness(server)
    assert not any(liveness.gone(FAILED, t * S) for t in range(25))
    assert not liveness.gone(ANSWERED, 25 * S)
    assert not any(liveness.gone(FAILED, t * S) for t in range(26, 50))
    assert any(liveness.gone(NOTHING, t * S) for t in range(50, 65))
    assert server.asked < 20


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
