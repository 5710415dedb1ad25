"""What a run makes of a server that breaks, and what it does to one between phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from test_capacity_run import Rig

from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.phase import PhaseSpec
    from pytest_agentperf.core.records import RequestColumns


def failing(
    n_agents: int, failure: str, share: float = 1.0, health: str = "alive"
) -> Callable[[PhaseSpec, Rig], None]:
    """Let the last answers of every phase at `n_agents` fail."""

    def after_start(spec: PhaseSpec, rig: Rig) -> None:
        stop = type(rig.pool).stop_phase

        def stop_phase() -> RequestColumns:
            columns = stop(rig.pool)
            if spec.n_agents == n_agents and spec.kind != "warmup":
                rig.server.health = health  # type: ignore[assignment]
                last = columns["t_end_ns"].argsort()[-max(1, round(share * len(columns))) :]
                for row in last:
                    columns.texts["failure"][row] = failure
            return columns

        rig.pool.stop_phase = stop_phase  # type: ignore[method-assign]

    return after_start


def asked(rig: Rig, *, works: bool) -> list[int]:
    """Let the server answer a request alone, or fail at it; returns how often it was asked."""
    asks: list[int] = []

    def still_works() -> bool:
        asks.append(1)
        return works

    rig.run._opened("all")
    rig.deployed._still_works = still_works
    return asks


def test_a_crash_is_told_with_the_servers_last_words() -> None:
    rig = Rig()
    rig.after_start = failing(2, "cut", 0.1, health="dead")
    rig.run.measure("tier1")
    reason = next(reason for phase in rig.run.phases for reason in phase.invalid)
    assert reason.log_tail == ("out of memory",)
    assert "; the last it said: out of memory" in reason.what


def test_an_engine_that_is_dead_behind_a_living_front_has_crashed() -> None:
    rig = Rig()
    asks = asked(rig, works=False)
    rig.after_start = failing(2, "http_503", 0.5)
    rig.run.measure("tier1")
    assert asks
    assert rig.codes()[0] == "server_crashed"
    assert rig.server.revivals >= 1


def test_failures_of_a_server_that_works_are_its_service() -> None:
    rig = Rig()
    asks = asked(rig, works=True)
    rig.after_start = failing(2, "http_503", 0.5)
    result = rig.run.measure("tier1")
    assert asks
    assert rig.codes() == []
    assert (result.verdict, result.agents) == (Verdict.PASS, 1)


def test_a_server_that_recovered_within_the_phase_is_not_asked() -> None:
    rig = Rig()
    asks = asked(rig, works=False)
    # Fewer than what would be a reason to ask.
    rig.after_start = failing(2, "http_503", 0.01)
    rig.run.measure("tier1")
    assert asks == []
    assert rig.codes() == []


def test_nothing_is_reset_unless_the_ruleset_allows_it_and_the_system_asks_for_it() -> None:
    rig = Rig()
    rig.run.measure("tier1")
    assert set(rig.server.resets) == {()}
    deployment = rig.settings.system.deployments["all"].model_copy(update={"reset": ("/reset_prefix_cache",)})
    rig = Rig(reset_allowed=True)
    rig.settings.system.deployments["all"] = deployment
    rig.run.measure("tier1")
    assert rig.server.resets == [("/reset_prefix_cache",)] * len(rig.watch.started)
