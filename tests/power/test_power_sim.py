from __future__ import annotations

import time

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.energy import integrate
from pytest_agentperf.power.sim import NoPowerSampler, SimPowerSampler
from pytest_agentperf.sim.process import SimServer

IDLE = EngineConfig(accelerators=3, power_idle_w=100, power_peak_w=300)


def test_idle_accelerators_draw_their_idle_power() -> None:
    with SimServer(IDLE) as server:
        sampler = SimPowerSampler(server.url, interval_s=0.02)
        for _ in range(2):  # a sampler serves one phase after the other
            sampler.start()
            time.sleep(0.3)
            readings = sampler.stop()
            times = sorted({reading.t_ns for reading in readings})
            assert [reading.t_ns for reading in readings] == sorted(reading.t_ns for reading in readings)
            # One in the beginning, one at the end.
            assert len(times) >= 2
            assert len(readings) == 3 * len(times)
            assert {reading.device for reading in readings} == {"0", "1", "2"}
            for device in ("0", "1", "2"):
                counter = [r.energy_j for r in readings if r.device == device and r.energy_j is not None]
                assert counter == sorted(counter)
            energy = integrate(
                readings,
                open_ns=times[0],
                close_ns=times[-1],
                devices_expected=3,
                coverage_min=0.5,
                gap_max_s=10.0,
            )
            assert energy.energy_j is not None
            # The counter and the time of its reading are a round trip apart.
            watts = energy.energy_j / ((times[-1] - times[0]) / 1e9)
            assert 200 < watts < 400


def test_a_new_start_begins_anew() -> None:
    with SimServer(IDLE) as server:
        sampler = SimPowerSampler(server.url + "/", interval_s=60)
        sampler.start()
        first = sampler.stop()
        sampler.start()
        second = sampler.stop()
    # However short, a phase is read at both of its ends.
    assert len(first) == len(second) == 2 * 3
    assert first[-1].t_ns < second[0].t_ns


def test_no_server_means_no_readings_never_zero() -> None:
    server = SimServer(IDLE)
    server.start()
    url = server.url
    server.stop()
    sampler = SimPowerSampler(url, interval_s=0.01)
    sampler.start()
    readings = sampler.stop()
    assert list(readings) == []
    energy = integrate(
        readings, open_ns=0, close_ns=10**9, devices_expected=1, coverage_min=0.9, gap_max_s=1.0
    )
    assert energy.energy_j is None
    assert energy.invalid_reason


def test_stop_without_start() -> None:
    assert list(SimPowerSampler("http://127.0.0.1:9/v1", interval_s=1).stop()) == []


def test_no_power_source() -> None:
    sampler = NoPowerSampler()
    sampler.start()
    assert list(sampler.stop()) == []
    assert (sampler.source, sampler.measured) == ("none", False)
    assert not SimPowerSampler.measured
