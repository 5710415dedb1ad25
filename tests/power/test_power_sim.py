from __future__ import annotations

import time

import numpy as np
import pytest

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.power import NoPower, SimPower
from pytest_agentperf.core.energy import integrate
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.power.open import open_sampler
from pytest_agentperf.power.sim import SimReader
from pytest_agentperf.sim.process import SimServer

IDLE = EngineConfig(accelerators=3, power_idle_w=100, power_peak_w=300)
LENIENT = DEMO_1.model_copy(update={"power_uncertainty_max": 0.9, "power_gap_max_s": 10.0})


def test_idle_accelerators_draw_their_idle_power() -> None:
    with SimServer(IDLE) as server:
        sampler = open_sampler(SimPower(source="sim", interval_s=0.02), accelerators=3, url=server.url)
        source = sampler.open()
        assert (source.measured, source.scope, len(source.devices)) == (False, "simulated", 3)
        for _ in range(2):  # a sampler serves one phase after the other
            sampler.start()
            time.sleep(0.3)
            series = sampler.stop()
            assert series.devices == ("0", "1", "2")
            assert np.isnan(series.power_w).all()
            for device in range(3):
                assert (np.diff(series.energy_j[series.device == device]) >= 0).all()
            energy = integrate(
                series,
                open_ns=int(series.t_ns[0]),
                close_ns=int(series.t_ns[-1]),
                devices_expected=3,
                update_period_s=0.001,
                rules=LENIENT,
            )
            # The counter and the time of its reading are a round trip apart.
            assert energy.mean_power_w == pytest.approx(300, rel=0.2)
        sampler.close()


def test_a_server_that_goes_is_a_problem_and_a_gap_never_zero() -> None:
    server = SimServer(IDLE)
    server.start()
    reader = SimReader(server.url)
    reader.open()
    assert len(list(reader.read())) == 3
    assert list(reader.take_problems()) == []
    server.stop()
    assert list(reader.read()) == []
    (problem,) = reader.take_problems()
    assert problem.code == "unreachable"
    assert server.url.removesuffix("/v1") in problem.text
    assert list(reader.take_problems()) == []
    reader.close()


def test_no_server_at_all() -> None:
    reader = SimReader("http://127.0.0.1:9/v1")
    with pytest.raises(PowerError, match="does not tell its power"):
        reader.open()
    reader.close()


def test_no_power_source() -> None:
    sampler = open_sampler(NoPower(), accelerators=8)
    assert (sampler.open().source, sampler.open().measured) == ("none", False)
    sampler.start()
    series = sampler.stop()
    sampler.close()
    assert series.t_ns.size == 0
    energy = integrate(
        series, open_ns=0, close_ns=10**9, devices_expected=1, update_period_s=0.1, rules=DEMO_1
    )
    assert energy.energy_j is None
    assert (energy.invalid_code, "power.source" in (energy.invalid_reason or "")) == ("no_source", True)
