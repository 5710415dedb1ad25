"""A whole run in virtual time, with servers and load generators that fail on cue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from virtual_system import (
    DEMO_SET,
    SHAPES,
    FailingServer,
    Shape,
    Watch,
    open_virtual,
    settings_for,
    virtual_run,
)

from pytest_agentperf.core.errors import EndpointError, LoadError
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.dataset import open_dataset
from pytest_agentperf.rehearsal import VirtualPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseSpec
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.deployed import Deployed, PhaseRun
    from pytest_agentperf.tabulation import TabulatedDataset

SPEED = SHAPES[0]
FAST = SloTier(name="fast", output_speed_p25_tok_s=180, ttft_p95_s=5)
SLOW = SloTier(name="slow", output_speed_p25_tok_s=60, ttft_p95_s=5)


class Rig:
    """One run whose parts a test can get at."""

    def __init__(
        self, shape: Shape = SPEED, *tiers: SloTier, watch: Watch | None = None, **overrides: Any
    ) -> None:
        self.watch = watch or Watch()
        self.opened = 0
        self.settings = settings_for(shape, *tiers, nonce="rig", **overrides)
        self.run = virtual_run(self.settings, self.watch, self.open)
        self.after_start: Callable[[PhaseSpec, Rig], None] = lambda spec, rig: None

    def open(
        self, name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: BlockingClock
    ) -> Deployed:
        self.opened += 1
        deployed = open_virtual(name, settings, encode, clock)
        assert isinstance(deployed.server, FailingServer)
        self.server = deployed.server
        self.deployed = deployed
        pool = deployed._open_pool()
        assert isinstance(pool, VirtualPool)
        self.pool = pool
        start = pool.start_phase

        def start_phase(spec: PhaseSpec) -> int:
            began = start(spec)
            self.after_start(spec, self)
            return began

        pool.start_phase = start_phase  # type: ignore[method-assign]
        return deployed

    def codes(self) -> list[str]:
        return [reason.code for phase in self.run.phases for reason in phase.invalid]


def losing_connections(columns: RequestColumns) -> RequestColumns:
    """The records of a phase whose first request lost its connection."""
    columns.texts["failure"][0] = "cut"
    return columns


def test_tiers_of_a_deployment_share_their_probes() -> None:
    rig = Rig(SPEED, SLOW, FAST)
    slow = rig.run.measure("slow")
    probes = len(rig.watch.started)
    fast = rig.run.measure("fast")
    assert slow.agents is not None
    assert fast.agents is not None
    assert 1 <= fast.agents < slow.agents
    asked = [n for kind, n in rig.watch.started[probes:] if kind != "confirm"]
    assert not set(asked) & {n for _, n in rig.watch.started[:probes]}
    assert rig.opened == 1


def test_the_warm_up_is_no_probe_and_stays_within_the_maximum() -> None:
    rig = Rig(warmup_agents=8)
    object.__setattr__(rig.settings, "max_agents", 3)
    result = rig.run.measure("tier1")
    assert rig.watch.started[0] == ("warmup", 3)
    assert rig.run.phases[0].verdicts == ()
    assert (result.agents, result.at_least) == (3, True)


def test_every_phase_cuts_tool_delays_as_the_ruleset_says() -> None:
    rig = Rig(tool_delay_max_s=0.25)
    caps_ns: set[int | None] = set()
    rig.after_start = lambda spec, _: caps_ns.add(spec.tool_delay_cap_ns)
    rig.run.measure("tier1")
    assert caps_ns == {250_000_000}


def test_no_phase_number_is_used_twice_even_if_a_phase_is_lost() -> None:
    class Broken(Watch):
        def phase_finished(self, run: PhaseRun) -> PhaseResult:
            if run.result.kind != "warmup" and not self.lost:
                self.lost = True
                raise LoadError("the records cannot be written")
            return super().phase_finished(run)

        lost = False

    rig = Rig(watch=Broken())
    numbers: list[int] = []
    rig.after_start = lambda spec, _: numbers.append(spec.phase)
    with pytest.raises(LoadError):
        rig.run.measure("tier1")
    rig.run.measure("tier1")
    # Isolation prefixes are made from it: a repeated one would find its own cache entries.
    assert len(numbers) == len(set(numbers))
    assert all(p.metrics is None or p.metrics.first_turn_cached_tokens_max == 0 for p in rig.run.phases)


def crash_at(n_agents: int, times: int, health: str = "dead") -> Callable[[PhaseSpec, Rig], None]:
    left = [times]

    def after_start(spec: PhaseSpec, rig: Rig) -> None:
        stop = type(rig.pool).stop_phase
        crashes = spec.n_agents == n_agents and spec.kind != "warmup" and left[0] > 0
        left[0] -= crashes

        def stop_phase() -> RequestColumns:
            columns = stop(rig.pool)
            if crashes:
                rig.server.health = health  # type: ignore[assignment]
                return losing_connections(columns)
            return columns

        rig.pool.stop_phase = stop_phase  # type: ignore[method-assign]

    return after_start


def test_a_server_that_crashes_once_makes_the_phase_invalid_and_is_brought_back_warm() -> None:
    rig = Rig()
    rig.after_start = crash_at(4, times=1)
    result = rig.run.measure("tier1")
    assert rig.codes() == ["server_crashed"]
    crashed = next(phase for phase in rig.run.phases if phase.invalid)
    assert crashed.verdicts[0].verdict is Verdict.INVALID
    assert rig.server.revivals == 1
    at = rig.watch.started.index(("ramp", 4))
    assert rig.watch.started[at + 1 : at + 3] == [("warmup", 2), ("ramp", 4)]
    assert result.agents is not None
    assert result.agents > 4


def test_a_second_crash_at_the_same_number_of_agents_is_fail() -> None:
    rig = Rig()
    rig.after_start = crash_at(4, times=2)
    result = rig.run.measure("tier1")
    verdicts = [p.verdicts[0] for p in rig.run.phases if p.n_agents == 4]
    assert [v.verdict for v in verdicts[:2]] == [Verdict.INVALID, Verdict.FAIL]
    assert verdicts[1].violated == ("survival",)
    assert (result.agents, result.failed_min) == (3, 4)


def test_a_failing_network_is_never_the_servers_failure() -> None:
    rig = Rig()
    rig.after_start = crash_at(4, times=2, health="unreachable")
    result = rig.run.measure("tier1")
    assert rig.codes() == ["network_failed", "network_failed"]
    assert (result.verdict, result.agents) == (Verdict.INVALID, None)


def test_a_phase_before_the_server_stays_away_is_kept() -> None:
    rig = Rig()
    rig.after_start = crash_at(4, times=1)

    def gone(patience_s: float) -> None:
        raise EndpointError(f"gone for {patience_s:g} s")

    original = rig.open

    def open_(
        name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: BlockingClock
    ) -> Deployed:
        deployed = original(name, settings, encode, clock)
        rig.server.revive = gone  # type: ignore[method-assign]
        return deployed

    rig.run._open_deployment = open_
    with pytest.raises(EndpointError, match="gone for 30 s"):
        rig.run.measure("tier1")
    assert rig.codes() == ["server_crashed"]
    known = rig.run.known("tier1")
    assert known is not None
    assert (known.complete, known.passed_max) == (False, 2)


@pytest.mark.parametrize("sign", ["lag_p99_s", "send_late_p99_s"])
def test_a_late_load_generator_voids_the_phase_and_ends_the_ramp_at_its_reach(sign: str) -> None:
    rig = Rig(SPEED, SloTier(name="tier1", output_speed_p25_tok_s=1, ttft_p95_s=100))
    rig.after_start = lambda spec, rig: rig.pool.health.update({sign: 0.2 if spec.n_agents > 8 else 0.0})
    result = rig.run.measure("tier1")
    assert rig.codes() == ["load_generator_saturated"] * 2
    assert (result.agents, result.at_least, result.verdict) == (8, True, Verdict.PASS)
    assert "late by 200 ms" in (result.reason or "")


def test_no_descriptors_here_is_not_the_servers_failure() -> None:
    rig = Rig()

    def after_start(spec: PhaseSpec, rig: Rig) -> None:
        stop = type(rig.pool).stop_phase

        def stop_phase() -> RequestColumns:
            columns = stop(rig.pool)
            if spec.n_agents == 2 and spec.kind == "ramp":
                columns.texts["failure"][0] = "client_resources"
            return columns

        rig.pool.stop_phase = stop_phase  # type: ignore[method-assign]

    rig.after_start = after_start
    result = rig.run.measure("tier1")
    assert rig.codes() == ["client_resources"] * 2
    assert (result.agents, result.at_least) == (1, True)


def test_a_server_that_does_not_drain_voids_the_next_phase() -> None:
    rig = Rig(warmup_agents=0)
    rig.after_start = lambda spec, rig: setattr(rig.server, "in_flight", 3.0 if spec.n_agents == 1 else 0.0)
    rig.run.measure("tier1")
    second = rig.run.phases[1]
    assert (second.n_agents, second.idle_before) == (2, "not reached")
    assert [reason.code for reason in second.invalid] == ["server_not_idle"]
    assert rig.run.phases[0].idle_before == "verified"


def test_a_budget_ends_the_search_with_what_it_knows() -> None:
    rig = Rig()
    object.__setattr__(rig.settings, "budget", rig.settings.budget._replace(seconds=15.0))
    result = rig.run.measure("tier1")
    assert (result.complete, result.agents, result.verdict) == (False, None, None)
    assert result.passed_max >= 1
    assert result.reason == "the budget of 15 s was spent"
    assert all(phase.metrics is not None for phase in rig.run.phases)


def test_the_published_phase_is_the_confirming_one() -> None:
    rig = Rig()
    result = rig.run.measure("tier1")
    published = next(phase for phase in rig.run.phases if phase.phase == result.published_phase)
    assert (published.kind, published.n_agents) == ("confirm", result.agents)
    assert published.metrics == result.metrics


def test_trajectories_per_hour_are_those_of_the_window() -> None:
    rig = Rig()
    result = rig.run.measure("tier1")
    published = next(phase for phase in rig.run.phases if phase.phase == result.published_phase)
    assert published.metrics is not None
    columns = rig.watch.records[rig.run.phases.index(published)]
    turns = {id_: len(open_dataset(DEMO_SET).load(id_).turns) for id_ in rig.run.dataset.ids}
    last = [
        turn == turns[id_ or ""] - 1
        for turn, id_ in zip(columns["turn"], columns.texts["trajectory"], strict=True)
    ]
    ends = columns["t_end_ns"][last]
    inside = (ends >= published.window_open_ns) & (ends <= published.window_close_ns)
    assert published.metrics.trajectories_in_window == inside.sum() > 0
    assert published.metrics.trajectories_completed == (ends <= published.window_close_ns).sum()


def test_every_agent_replays_the_same_in_every_phase() -> None:
    rig = Rig()
    rig.run.measure("tier1")
    walks: list[dict[int, list[str]]] = []
    for columns in rig.watch.records:
        walk: dict[int, list[str]] = {}
        for agent, ordinal, turn, id_ in zip(
            columns["agent"], columns["ordinal"], columns["turn"], columns.texts["trajectory"], strict=True
        ):
            if turn == 0:
                walk.setdefault(int(agent), []).insert(int(ordinal), str(id_))
        walks.append(walk)
    for walk in walks:
        for agent, ids in walk.items():
            longest = max((other[agent] for other in walks if agent in other), key=len)
            assert ids == longest[: len(ids)]
