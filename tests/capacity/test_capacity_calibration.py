"""The load generator's own error in a whole run: calibrated with the load, and decisive only near a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from virtual_system import SHAPES, Watch, open_virtual, settings_for, virtual_run

from pytest_agentperf.client_doubts import ClientDoubts
from pytest_agentperf.core.client_error import Calibration
from pytest_agentperf.core.errors import LoadError, LoadLimitError
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.rehearsal import VirtualPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseSpec
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.deployed import Deployed
    from pytest_agentperf.tabulation import TabulatedDataset

SPEED = SHAPES[0]


class Calibrated:
    """A run in virtual time whose load generator measures itself as told."""

    def __init__(
        self,
        *,
        ttft_s: float = 0.0002,
        speed: float = 0.001,
        lag_s: float = 0.0005,
        agents_max: int = 1_000_000,
    ) -> None:
        self.asked: list[tuple[int, float]] = []
        self.broken = False
        self.agents_max = agents_max
        self.reach = 1e9
        self._errors = (ttft_s, speed)
        self._lag_s = lag_s
        self.run = virtual_run(settings_for(SPEED, nonce="cal"), Watch(), self._open)

    def _open(
        self, name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: BlockingClock
    ) -> Deployed:
        self.deployed = deployed = open_virtual(name, settings, encode, clock)
        deployed._client_doubts = ClientDoubts(
            self._calibrate, share_max=settings.ruleset.client_error_max, drop_pool=deployed.drop_pool
        )
        self.pool = deployed._open_pool()
        assert isinstance(self.pool, VirtualPool)
        self.pool.health = {"workers": 1, "lag_p99_s": self._lag_s}
        deployed.calibrate()
        return deployed

    def _calibrate(self, pool: Any, n_agents: int, chunks_per_s: float) -> Calibration:
        if self.broken:
            raise LoadError("the null server is gone", remedy="look after it")
        if n_agents > self.agents_max:
            raise LoadLimitError(f"this machine's limits carry {self.agents_max} agents", remedy="raise them")
        self.asked.append((n_agents, chunks_per_s))
        ttft_s, speed = self._errors
        return Calibration(
            n_agents=n_agents,
            chunks_per_s=chunks_per_s,
            chunks_per_s_reached=min(chunks_per_s, self.reach),
            requests=100,
            ttft_error_p50_s=ttft_s,
            ttft_error_p99_s=ttft_s,
            speed_error_p99=speed,
            cpu_share_max=0.1,
            workers=1,
        )

    def phase(self, n_agents: int) -> PhaseResult:
        return self.run.run_fixed("all", n_agents)


def test_the_first_calibration_comes_before_the_first_request_and_larger_ones_with_the_load() -> None:
    rig = Calibrated()
    small = rig.phase(2)
    assert rig.asked == [(64, 2_048.0)]
    assert small.load.calibration is not None
    assert small.load.calibration.n_agents == 64
    large = rig.phase(100)
    assert rig.asked[1:] == [(128, 2_048.0)]
    assert large.load.calibration is not None
    assert large.load.calibration.n_agents == 128
    rig.phase(90)
    assert len(rig.asked) == 2
    assert large.load.client_error is not None
    assert large.load.client_error.ttft_s == 0.0005
    assert large.load.client_error.speed == pytest.approx(0.001, abs=0.01)


def test_a_load_that_null_servers_do_not_reach_is_told_and_not_tried_again() -> None:
    rig = Calibrated()
    small = rig.phase(2)
    rig.reach = 100.0
    large, again = rig.phase(100), rig.phase(90)
    assert len(rig.asked) == 2
    assert [phase.load.calibration_covers for phase in (small, large, again)] == [True, False, False]
    assert large.load.calibration is not None
    assert large.load.chunks_per_s is not None
    assert large.load.chunks_per_s > large.load.calibration.chunks_per_s_reached == 100.0
    assert not large.invalid


def test_a_pool_that_lost_a_host_is_calibrated_anew() -> None:
    rig = Calibrated()
    rig.phase(2)
    assert isinstance(rig.pool, VirtualPool)
    host = {"agents": 1, "round_trip_s": 0.0, "clock_error_s": 0.0, "workers": 1}
    rig.pool.health["hosts"] = [{"name": "a", **host}, {"name": "b", **host}]
    rig.phase(2)
    before = len(rig.asked)
    rig.pool.health["hosts"] = [{"name": "a", **host}]
    rig.phase(2)
    assert len(rig.asked) == before + 1


def test_workers_that_cannot_be_had_again_leave_a_phase_invalid_and_the_run_going() -> None:
    rig = Calibrated()
    rig.phase(2)

    def no_pool() -> NoReturn:
        raise LoadError("no load host is left")

    right = rig.deployed._open_pool
    rig.deployed.drop_pool()
    rig.deployed._open_pool = no_pool
    lost = rig.phase(3)
    assert [reason.code for reason in lost.invalid] == ["load_worker_died"]
    assert lost.idle_before == "not verified"
    rig.deployed._open_pool = right
    assert not rig.phase(3).invalid


def test_a_client_that_is_precise_changes_no_verdict() -> None:
    found = Calibrated().run.measure(SPEED.tier.name)
    plain = virtual_run(settings_for(SPEED, nonce="cal"), Watch())
    assert found.agents == plain.measure(SPEED.tier.name).agents


def test_an_imprecise_client_is_no_judge_near_the_target_and_one_far_from_it() -> None:
    edge = Calibrated().run.measure(SPEED.tier.name).agents
    assert edge is not None
    rig = Calibrated(speed=0.5)
    far, near = rig.phase(1), rig.phase(edge + 1)
    assert far.invalid == ()
    assert [verdict.verdict for verdict in far.verdicts] == [Verdict.PASS]
    assert {reason.code for reason in near.invalid} == {"load_generator_saturated"}
    assert "uncertain by 50.0%" in near.invalid[0].what
    assert "--agentperf-workers" in near.invalid[0].remedy
    assert [verdict.verdict for verdict in near.verdicts] == [Verdict.INVALID]


def test_a_calibration_that_fails_makes_the_phase_invalid_and_loses_nothing() -> None:
    rig = Calibrated()
    rig.phase(1)
    rig.broken = True
    found = rig.phase(100)
    assert [reason.code for reason in found.invalid] == ["calibration_failed"]
    assert found.metrics is not None


def test_a_client_that_cannot_be_calibrated_at_all_is_told_before_anything_is_measured() -> None:
    rig = Calibrated()
    rig.broken = True
    with pytest.raises(LoadError, match="the null server is gone"):
        rig.phase(1)
    # Whatever its workers are at: they end, and their hosts are free.
    assert rig.deployed._pool is None


def test_more_agents_than_this_machine_holds_end_the_ramp_at_what_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Calibrated(agents_max=4)
    rig.phase(1)
    start = rig.pool.start_phase

    def limited(spec: PhaseSpec) -> int:
        if spec.n_agents > 4:
            raise LoadLimitError("this machine's limits carry 4 agents", remedy="raise them")
        return start(spec)

    monkeypatch.setattr(rig.pool, "start_phase", limited)
    found = rig.run.measure(SPEED.tier.name)
    assert (found.agents, found.at_least) == (4, True)
    reasons = [reason for phase in rig.run.phases for reason in phase.invalid]
    assert {(reason.code, reason.remedy) for reason in reasons} == {("client_resources", "raise them")}
