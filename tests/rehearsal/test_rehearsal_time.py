"""Virtual time: nothing real is read or waited for, polling decides nothing, and equal seeds give equal bytes."""

from __future__ import annotations

import socket
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from virtual_system import SHAPES, Watch, demo_set, settings_for, virtual_run

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.clock import RealClock
from pytest_agentperf.core.assignment import assigned_trajectories
from pytest_agentperf.core.records import INT_COLUMNS, TEXT_COLUMNS
from pytest_agentperf.rehearsal import VirtualPool, open_rehearsed, rehearsed_run
from pytest_agentperf.results.entry import build_entry
from pytest_agentperf.sim.clock import VirtualClock
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.sampler import EngineSampler

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings

SPEED = SHAPES[0]


def entry_json(settings: RunSettings) -> str:
    watch = Watch()
    with rehearsed_run(settings, watch) as run:
        result = run.measure("tier1")
        assert run.state.begun is not None
        # When it was is a label.
        begun = run.state.begun.model_copy(update={"created_utc": "2026-01-01T00:00:00+00:00"})
        entry = build_entry(
            settings,
            begun=begun,
            tiers=[result],
            phases=run.phases,
            request_parameters=run.request_parameters,
            power_sources=run.power_sources,
            simulated=run.simulated,
        )
    return entry.model_dump_json()


def test_equal_seeds_give_equal_results_to_the_byte() -> None:
    assert entry_json(settings_for(SPEED, nonce="a")) == entry_json(settings_for(SPEED, nonce="a"))
    assert entry_json(settings_for(SPEED, nonce="a")) != entry_json(settings_for(SPEED, nonce="b"))


def test_no_clock_is_read_nothing_sleeps_and_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def real(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something real was asked for")

    settings = settings_for(SPEED, nonce="n")
    with monkeypatch.context() as poisoned:
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
                     "process_time", "sleep"):  # fmt: skip
            poisoned.setattr(time, name, real)
        for module in [m for name, m in sys.modules.items() if name.startswith("pytest_agentperf")]:
            for name in ("monotonic_ns", "unix_time_s", "wall_clock_offset_ns", "process_cpu_s"):
                if hasattr(module, name):
                    poisoned.setattr(module, name, real)
        poisoned.setattr(RealClock, "now_ns", real)
        poisoned.setattr(RealClock, "sleep", real)
        poisoned.setattr(socket, "socket", real)
        with rehearsed_run(settings, Watch()) as run:
            result = run.measure("tier1")
    assert result.agents


def test_how_often_is_polled_decides_nothing() -> None:
    columns, results = [], []
    for poll_s in (0.05, 0.37, 3.0):
        watch = Watch()

        def open_(*args: Any, poll_s: float = poll_s) -> Any:
            deployed = open_rehearsed(*args)
            deployed._poll_s = poll_s
            return deployed

        settings = settings_for(SPEED, nonce="n", warmup_agents=0)
        with virtual_run(settings, watch, open_) as run:
            results.append(run.run_fixed("all", 9))
        columns.append(watch.records[0])
    for result, records in zip(results[1:], columns[1:], strict=True):
        assert result.metrics == results[0].metrics
        assert result.verdicts == results[0].verdicts
        assert (result.window_open_ns, result.window_close_ns) == (
            results[0].window_open_ns,
            results[0].window_close_ns,
        )
        # The load goes on until a poll finds the phase drained: only what follows the window differs.
        close_ns = results[0].window_close_ns
        kept, known = records["t_sent_ns"] < close_ns, columns[0]["t_sent_ns"] < close_ns
        for name in INT_COLUMNS:
            assert sorted(records[name][kept]) == sorted(columns[0][name][known])
        for name in TEXT_COLUMNS:
            assert records.texts[name].count("stop") >= columns[0].texts[name].count("stop")
    assert len(columns[0]) < len(columns[-1])


def test_agents_work_through_what_the_methodology_assigns() -> None:
    settings = settings_for(SPEED, nonce="n")
    dataset = demo_set(settings, print)
    pool = VirtualPool(VirtualClock(), client=None, table=dataset.table)  # type: ignore[arg-type]
    ids = dataset.prepared.ids
    for agent in (0, 3, 3):
        wanted = list(islice(assigned_trajectories(7, agent, ids), 60))
        assert list(islice(pool._assigned(7, agent, ids), 60)) == wanted


def test_the_energy_of_the_window_is_the_engines_own() -> None:
    watch = Watch()
    with rehearsed_run(settings_for(SPEED, nonce="n", warmup_agents=0), watch) as run:
        result = run.run_fixed("all", 9)
        energy = result.energy
        assert run.power_sources["all"].measured is False
    assert energy.invalid_reason is None
    assert energy.devices == SPEED.engine.accelerators
    assert energy.energy_j is not None
    assert energy.mean_power_w is not None
    low, high = SPEED.engine.power_idle_w, SPEED.engine.power_peak_w
    assert low < energy.mean_power_w / energy.devices < high
    assert energy.mean_power_w == pytest.approx(energy.energy_j / (result.metrics.window_s))  # type: ignore[union-attr]


def test_readings_are_shares_of_the_engines_counter() -> None:
    clock = VirtualClock(start_ns=3)
    engine = Engine(SPEED.engine, start_ns=3, every_chunk=False)
    sampler = EngineSampler(engine, clock, accelerators=8, interval_s=0.25)
    assert len(sampler.open().devices) == 8
    sampler.start()
    clock.sleep(1.1)
    series = sampler.stop()
    clock.sleep(1.0)
    assert series.t_ns.tolist() == list(
        np.repeat([3, 250_000_003, 500_000_003, 750_000_003, 1_000_000_003, 1_100_000_003], 8)
    )
    last = series.t_ns == 1_100_000_003
    assert series.energy_j[last] == pytest.approx([1.1 * SPEED.engine.power_idle_w] * 8)


def test_sources_and_callbacks_run_in_the_order_of_their_times() -> None:
    clock, seen = VirtualClock(), []

    class Ticks:
        def __init__(self) -> None:
            self.times = [5, 20, 20, 40]

        def advance(self, until_ns: int) -> int | None:
            return self.times[0] if self.times and self.times[0] <= until_ns else None

        def tell(self) -> None:
            seen.append(("tick", self.times.pop(0), clock.now_ns()))

    clock.attach(Ticks())
    clock.call_at(20, lambda: seen.append(("callback", 20, clock.now_ns())))
    clock.call_at(10, lambda: seen.append(("callback", 10, clock.now_ns()))).cancel()
    clock.run_until(30)
    assert seen == [("tick", 5, 5), ("tick", 20, 20), ("tick", 20, 20), ("callback", 20, 20)]
    assert clock.now_ns() == 30
    clock.run_until(40)
    assert seen[-1] == ("tick", 40, 40)


def test_a_run_that_is_no_rehearsal_keeps_its_real_clock() -> None:
    assert isinstance(CapacityRun(settings_for(SPEED), Watch())._clock, RealClock)
