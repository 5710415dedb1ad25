"""Which calibration speaks for a phase: never one of other hosts or fewer workers, and no endless new ones."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_agentperf.core.calibrations import Calibrations
from pytest_agentperf.core.client_error import Calibration
from pytest_agentperf.core.errors import LoadLimitError


class Rig:
    """Null servers that reach so many chunks/s, and workers as described."""

    def __init__(
        self, *, reach: float = 1e9, agents_max: int = 1_000_000, workers: int = 1, **hosts: int
    ) -> None:
        self.reach = reach
        self.agents_max = agents_max
        self.made: list[tuple[int, float]] = []
        self.pool: dict[str, Any] = {}
        self.describe(workers, **hosts)
        self._known = Calibrations()

    def describe(self, workers: int = 1, **hosts: int) -> None:
        """Workers of this machine, or of hosts by name."""
        self.pool = {"workers": workers}
        if hosts:
            told = [{"name": name, "workers": count} for name, count in hosts.items()]
            self.pool = {"workers": sum(hosts.values()), "hosts": told}

    def covers(self, n_agents: int, chunks_per_s: float) -> bool:
        return self._known.find(self.pool, n_agents, chunks_per_s, self._make).covers

    def _make(self, n_agents: int, chunks_per_s: float) -> Calibration:
        self.made.append((n_agents, chunks_per_s))
        if n_agents > self.agents_max:
            raise LoadLimitError("too few descriptors", remedy="ulimit -n")
        return Calibration(
            n_agents=n_agents,
            chunks_per_s=chunks_per_s,
            chunks_per_s_reached=min(self.reach, chunks_per_s),
            requests=100,
            ttft_error_p50_s=0.0,
            ttft_error_p99_s=0.0,
            speed_error_p99=0.0,
            cpu_share_max=0.1,
            workers=self.pool["workers"],
        )


def test_one_calibration_serves_all_that_is_no_larger() -> None:
    rig = Rig()
    assert [rig.covers(n, 10.0 * n) for n in (1, 64, 3)] == [True] * 3
    assert rig.made == [(64, 2_048.0)]


def test_after_a_host_was_lost_the_others_are_calibrated_anew() -> None:
    rig = Rig(a=4, b=4, c=4)
    assert rig.covers(100, 3_000.0)
    rig.describe(a=4, c=4)
    assert rig.covers(100, 3_000.0)
    assert len(rig.made) == 2
    # As many as before, and others.
    rig.describe(a=4, b=4)
    assert rig.covers(100, 3_000.0)
    assert len(rig.made) == 3


def test_fewer_workers_are_calibrated_anew_and_more_are_not() -> None:
    rig = Rig(workers=2)
    assert rig.covers(64, 100.0)
    rig.describe(3)
    assert rig.covers(64, 100.0)
    assert len(rig.made) == 1
    rig.describe(1)
    assert rig.covers(64, 100.0)
    assert len(rig.made) == 2


def test_what_null_servers_do_not_reach_is_not_covered_and_tried_once() -> None:
    rig = Rig(reach=30_000.0)
    assert rig.covers(1_000, 20_000.0)
    assert not rig.covers(1_000, 100_000.0)
    asked = list(rig.made)
    assert [rig.covers(1_000, 100_000.0 + i) for i in range(5)] == [False] * 5
    assert rig.covers(1_000, 29_000.0)
    assert rig.made == asked == [(1_024, 32_768.0), (1_024, 131_072.0)]


def test_where_there_is_no_room_for_more_it_is_calibrated_at_what_the_phase_had() -> None:
    rig = Rig(agents_max=1_000)
    assert rig.covers(900, 3_000.0)
    assert rig.made == [(1_024, 4_096.0), (900, 4_096.0)]
    with pytest.raises(LoadLimitError):
        rig.covers(1_001, 3_000.0)


@pytest.mark.parametrize("hosts", [1, 20])
def test_every_host_gets_a_share_that_tells_something(hosts: int) -> None:
    rig = Rig(**{f"h{i}": 15 for i in range(hosts)})
    rig.covers(1, 1.0)
    ((n_agents, chunks_per_s),) = rig.made
    assert n_agents / hosts >= 64
    assert chunks_per_s / hosts >= 2_048.0
