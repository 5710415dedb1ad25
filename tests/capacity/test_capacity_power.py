"""Power inside a run: its window, the pause before it, meters beside it; in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from test_capacity_run import SPEED, Rig

from pytest_agentperf.core.power import DeviceState, PowerDevice, PowerProblem, PowerSource, Scope
from pytest_agentperf.core.power_series import PowerSeries
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.power.metering import Metering
from pytest_agentperf.results.artifact import store_phase

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.deployed import PhaseRun

IDLE_W, BUSY_W = 100.0, 400.0


class VirtualSampler:
    """A `PowerSampler` that knows afterwards: idle power in the pause, busy power from the phase's start on."""

    def __init__(self, rig: PowerRig, clock: BlockingClock, *, scope: Scope, devices: int) -> None:
        self.rig, self.clock = rig, clock
        self.names = tuple(f"{scope}/{number}" for number in range(devices))
        self.scope = scope
        self.lost: str | None = None
        self.slowed: tuple[str, ...] = ()
        self.opened = self.closed = 0

    def open(self) -> PowerSource:
        self.opened += 1
        devices = tuple(PowerDevice(id=name) for name in self.names)
        return PowerSource(
            source="virtual", scope=self.scope, measured=True, update_period_s=0.001, devices=devices
        )

    def start(self) -> None:
        self.start_ns = self.clock.now_ns()

    def stop(self) -> PowerSeries:
        times = np.arange(self.start_ns, self.clock.now_ns() + 1, 10_000_000, dtype=np.int64)
        power_w = np.where(times < self.rig.phase_ns, IDLE_W, BUSY_W)
        kept = [name for name in self.names if name != self.lost]
        problem = PowerProblem("device_lost", self.lost, f"device {self.lost} is lost: see to it")
        return PowerSeries(
            tuple(kept),
            np.repeat(times, len(kept)),
            np.tile(np.arange(len(kept), dtype=np.int32), len(times)),
            np.repeat(power_w, len(kept)),
            np.full(len(times) * len(kept), np.nan),
            (problem,) if self.lost else (),
            tuple(DeviceState(device=name) for name in kept),
            tuple(DeviceState(device=name, throttle_reasons=self.slowed) for name in kept),
        )

    def close(self) -> None:
        self.closed += 1


class PowerRig(Rig):
    phase_ns = 0

    def __init__(self, **overrides: Any) -> None:
        # In virtual time the server's tokens cost milliseconds; readings are every ten.
        super().__init__(SPEED, warmup_agents=0, power_uncertainty_max=0.5, **overrides)
        self.runs: list[PhaseRun] = []
        self.after_start = self.began

    def began(self, spec: object, rig: Rig) -> None:
        self.phase_ns = self.run._clock.now_ns()

    def open(self, name: str, settings: Any, source: Any, clock: BlockingClock) -> Any:
        deployed = super().open(name, settings, source, clock)
        n = SPEED.engine.accelerators
        self.sampler = VirtualSampler(self, clock, scope="gpu+hbm", devices=n)
        self.meter = VirtualSampler(self, clock, scope="rack", devices=1)
        deployed._open_metering = lambda: Metering(self.sampler, (self.meter,), n_accelerators=n)
        return deployed


def phase(rig: PowerRig) -> PhaseResult:
    return rig.run.run_fixed("all", 4)


def test_energy_of_the_window_idle_power_of_the_pause_and_the_rack_beside() -> None:
    rig = PowerRig(idle_pause_s=2.0)
    result = phase(rig)
    n = SPEED.engine.accelerators
    assert result.energy.mean_power_w == pytest.approx(BUSY_W * n)
    # Between its last reading and the first of the phase the line already rises.
    assert result.power.idle_power_w == pytest.approx(IDLE_W * n, rel=0.02)
    (rack,) = result.power.facility
    assert (rack.source, rack.scope, rack.devices) == ("virtual", "rack", ("rack/0",))
    # Never mixed: a rack of the same power does not double the accelerators'.
    assert rack.energy.mean_power_w == pytest.approx(BUSY_W)
    assert result.power.throttled == ()


def test_no_idle_power_without_a_pause_or_of_a_busy_server() -> None:
    assert phase(PowerRig(idle_pause_s=0.0)).power.idle_power_w is None
    rig = PowerRig(idle_pause_s=2.0, idle_max_s=1.0)
    rig.run._opened("all")
    rig.server.in_flight = 1.0
    result = phase(rig)
    assert result.idle_before == "not reached"
    assert result.power.idle_power_w is None
    assert result.energy.mean_power_w is not None


def test_a_lost_device_makes_power_invalid_and_leaves_the_verdict() -> None:
    rig = PowerRig()
    rig.run._opened("all")
    rig.sampler.lost = "gpu+hbm/3"
    result = phase(rig)
    assert result.energy.energy_j is None
    assert result.energy.invalid_code == "too_few_devices"
    assert "device gpu+hbm/3 is lost" in (result.energy.invalid_reason or "")
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.PASS]
    assert result.power.facility[0].energy.mean_power_w is not None


def test_throttling_is_flagged_with_its_reason() -> None:
    rig = PowerRig()
    rig.run._opened("all")
    rig.sampler.slowed = ("power cap", "hot")
    result = phase(rig)
    assert result.power.throttled is not None
    assert result.power.throttled[3] == "device gpu+hbm/3: power cap, hot"
    assert result.power.after[3].throttle_reasons == ("power cap", "hot")


def test_samplers_stay_open_from_phase_to_phase_and_when_a_real_server_is_revived() -> None:
    rig = PowerRig()
    phase(rig)
    rig.deployed.needs_revival = True
    phase(rig)
    assert (rig.sampler.opened, rig.sampler.closed, rig.server.revivals) == (1, 0, 1)
    rig.run.close()
    assert (rig.sampler.closed, rig.meter.closed) == (1, 1)


def test_a_simulated_servers_sampler_goes_with_it() -> None:
    rig = PowerRig()
    rig.run._opened("all")
    rig.sampler.scope = "simulated"
    rig.deployed.open_power()
    phase(rig)
    rig.deployed.revive()
    assert rig.sampler.closed == 1
    phase(rig)


def test_all_readings_are_stored_apart_from_records(tmp_path: Path) -> None:
    rig = PowerRig()
    rig.run._opened("all")
    run = rig.deployed.run_phase(
        "fixed", 2, phase=3, attempt=0, tiers=(), crashed_before=False,
        on_status=lambda status: None, spent=lambda tokens: False,
    )  # fmt: skip
    stored = store_phase(tmp_path, run.result, run.columns, *run.sampled)
    assert stored.power.samples == "power/003-fixed-2.parquet"
    assert stored.power.facility[0].samples == "facility/003-fixed-2-0.parquet"
    frame = pd.read_parquet(tmp_path / stored.power.samples)
    assert list(frame.columns) == ["t_ns", "device", "power_w", "energy_j"]
    assert len(frame) == len(run.sampled.accelerators.t_ns)
    assert set(frame["device"]) == set(rig.sampler.names)
    assert frame["power_w"].notna().all()
    assert frame["energy_j"].isna().all(), "what was not read is null, never 0"
    # The clock is that of the records: the window can be cut out again.
    inside = frame["t_ns"].between(run.result.window_open_ns, run.result.window_close_ns)
    assert (frame.loc[inside, "power_w"] == BUSY_W).all()
