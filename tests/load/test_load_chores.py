"""What load hosts do for a calibration, played by scripts: null servers by share, on hosts that nobody else has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from load_support import HEALTH, phase_spec
from scripted_place import ScriptedPlace
from virtual_system import SHAPES, settings_for

from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.load_spec import parse_load_specs
from pytest_agentperf.core.client_error import Calibration
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.records import ColumnsBuilder
from pytest_agentperf.load import pool as pool_module
from pytest_agentperf.load.host_facts import HostFacts
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.preflight import Preflight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Open = Callable[..., WorkerPool]

HOW = {"per_server": 30_000.0, "tokens_per_s": 20.0, "answer_s": 1.0}
SPEC = phase_spec(8, phase=0, kind="warmup")


class Scripted:
    """A host that notes what it is asked for, in a log of all."""

    def __init__(self, name: str, log: list[tuple[str, str]], *, workers: int = 1, **facts: Any) -> None:
        self.name, self.log, self.workers = name, log, workers
        self.servers = 0
        self.urls: set[str] = set()
        self.breaks_at: str | None = None
        self.away: str | None = None
        fields: dict[str, Any] = {"id": name, "name": name, "cores": 16, "chunks_per_core_s": 1e5}
        self.place = ScriptedPlace(
            *[self.answer] * workers, remote=True, facts=HostFacts.here()._replace(**(fields | facts))
        )

    def answer(self, frame: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        what = frame[1] if frame[0] == "chore" else frame[0]
        if what in ("lock", "unlock", "start_null_servers", "stop_null_servers", "phase", "stop"):
            self.log.append((self.name, what))
        if what == self.breaks_at:
            yield "error", "out of memory"
        elif what == "start_null_servers":
            self.servers = frame[2]["count"]
            yield "chore", [f"http://127.0.0.1:{port}/v1" for port in range(1, self.servers + 1)]
        elif what == "phase":
            self.urls.add(frame[4])
        elif what == "stop":
            yield "answers", []
            yield "records", ColumnsBuilder().finish().to_wire(), HEALTH
        elif frame[0] == "chore":
            yield "chore", {"lock": True, "stop_null_servers": [self.name], "reach": self.away}.get(what)


@pytest.fixture
def open_pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Open]:
    (tmp_path / "segments").write_bytes(b"x")
    opened: list[WorkerPool] = []

    def open_(*hosts: Scripted) -> WorkerPool:
        left = list(hosts)
        monkeypatch.setattr(pool_module, "open_place", lambda line: left.pop(0).place)
        lines = parse_load_specs([f"{host.workers}*ssh={host.name}" for host in hosts], where="here")
        opened.append(WorkerPool({"segments": str(tmp_path)}, hosts=LoadHosts(lines)))
        return opened[-1]

    yield open_
    for pool in opened:
        pool.close()


def test_each_host_runs_null_servers_for_its_share_of_the_load(open_pool: Open) -> None:
    # By what they carry: 4 : 8 : 12, that is 120,000, 240,000 and 360,000 chunks/s.
    a = Scripted("a", [], workers=4)
    b = Scripted("b", [], workers=4, chunks_per_core_s=2e5)
    c = Scripted("c", [], workers=12)
    pool = open_pool(a, b, c)
    with pool.null_servers(8, 720_000.0, **HOW) as servers:
        # And c has four cores beside its workers.
        assert (a.servers, b.servers, c.servers) == (4, 8, 4)
        assert {name: len(urls) for name, urls in servers.urls.items()} == {"a": 4, "b": 8, "c": 4}
        pool.start_phase(SPEC, urls=servers.urls)
        pool.stop_phase()
        assert servers.stop() == {"a": ["a"], "b": ["b"], "c": ["c"]}
    # Each of its workers has one, and all have some.
    assert [len(host.urls) for host in (a, b, c)] == [4, 4, 4]


def test_one_null_server_carries_no_more_than_it_can(open_pool: Open) -> None:
    a = Scripted("a", [])
    with open_pool(a).null_servers(8, 40_000.0, **HOW):
        assert a.servers == 2


def test_a_host_without_a_core_to_spare_runs_one(open_pool: Open) -> None:
    full = Scripted("full", [], workers=16)
    with open_pool(full).null_servers(8, 400_000.0, **HOW):
        assert full.servers == 1


def test_hosts_are_held_from_the_first_null_server_to_the_end_of_the_last(open_pool: Open) -> None:
    log: list[tuple[str, str]] = []
    pool = open_pool(Scripted("a", log), Scripted("b", log))
    with pool.null_servers(8, 100.0, **HOW) as servers:
        pool.start_phase(SPEC, urls=servers.urls)
        pool.stop_phase()
        servers.stop()
    order = ["lock", "start_null_servers", "phase", "stop", "stop_null_servers", "unlock"]
    assert log == [(name, what) for what in order for name in ("a", "b")]
    # And a phase of its own takes them again, however often one is stopped.
    pool.stop_phase()
    log.clear()
    pool.start_phase(SPEC)
    pool.stop_phase()
    assert [what for name, what in log if name == "a"] == ["lock", "phase", "stop", "unlock"]


def test_what_goes_wrong_is_told_and_nothing_more_is_asked(open_pool: Open) -> None:
    """The workers' end ends null servers and lets their hosts go; one that is gone could not be asked."""
    log: list[tuple[str, str]] = []
    a, b = Scripted("a", log), Scripted("b", log)
    b.breaks_at = "start_null_servers"
    pool = open_pool(a, b)
    with pytest.raises(LoadError, match="on b failed:\nout of memory"), pool.null_servers(8, 100.0, **HOW):
        pytest.fail("b has none")
    assert log[-1] == ("b", "start_null_servers")
    pool.close()
    assert all(link.sent[-1] == ("closed",) for host in (a, b) for link in host.place.links)


def test_an_error_beside_null_servers_is_not_hidden_by_their_end(open_pool: Open) -> None:
    a = Scripted("a", [])
    a.breaks_at = "stop_null_servers"
    with (
        pytest.raises(LoadError, match="too few answers"),
        open_pool(a).null_servers(8, 100.0, **HOW),
    ):
        raise LoadError("too few answers")


@pytest.fixture
def preflight() -> Preflight:
    settings = settings_for(SHAPES[0], nonce="n")
    return Preflight(settings, next(iter(settings.system.deployments)), "m", {}, RealClock())


def test_before_a_run_each_host_is_told_and_the_one_that_does_not_reach_the_endpoint(
    open_pool: Open, preflight: Preflight
) -> None:
    a, b = Scripted("a", [], workers=2), Scripted("b", [])
    assert preflight.load_hosts(lambda: open_pool(a, b))
    assert [(check.name, check.status) for check in preflight.checks] == [
        ("load host a", "ok"),
        ("load host b", "ok"),
    ]
    assert "2 workers on 16 cores" in preflight.checks[0].what
    preflight.checks.clear()
    c, d = Scripted("c", []), Scripted("d", [])
    d.away = "No route to host"
    assert not preflight.load_hosts(lambda: open_pool(c, d))
    assert [(check.name, check.status) for check in preflight.checks] == [
        ("load host c", "ok"),
        ("load host d", "failed"),
    ]
    assert "No route to host" in preflight.checks[1].what


def test_before_a_run_a_host_whose_clock_is_unsure_is_told(open_pool: Open, preflight: Preflight) -> None:
    preflight._settings = replace(
        preflight._settings,
        ruleset=preflight._settings.ruleset.model_copy(update={"clock_error_max_s": 1e-9}),
    )
    assert preflight.load_hosts(lambda: open_pool(Scripted("a", [])))
    (check,) = preflight.checks
    assert (check.name, check.status) == ("load host a", "failed")
    assert "its clock is known to" in check.what
    assert "chrony" in (check.remedy or "")


def test_before_a_run_hosts_that_do_not_join_are_told(preflight: Preflight) -> None:
    def away() -> WorkerPool:
        raise LoadError("timed out", where="load host a", remedy="see to it")

    assert not preflight.load_hosts(away)
    (check,) = preflight.checks
    assert (check.name, check.status, check.what) == ("load hosts", "failed", "load host a: timed out")


@pytest.mark.parametrize(("reached", "status"), [(2_000.0, "ok"), (500.0, "warning")])
def test_before_a_run_null_servers_that_fall_short_are_told(
    preflight: Preflight, reached: float, status: str
) -> None:
    made = Calibration(
        n_agents=64,
        chunks_per_s=2_048.0,
        chunks_per_s_reached=reached,
        requests=300,
        ttft_error_p50_s=0.0,
        ttft_error_p99_s=0.0,
        speed_error_p99=0.0,
        cpu_share_max=0.1,
        workers=1,
    )
    preflight.load_generator(lambda: made)
    assert [check.status for check in preflight.checks] == [status]
