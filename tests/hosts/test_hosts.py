"""Load hosts over real ssh, in network namespaces with clocks of their own; and what faults leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from network import CONTROLLER, Network, why_not

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.config.bundled import DATASETS
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.load_spec import parse_load_specs
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load import hosts as hosts_module
from pytest_agentperf.load import pool as pool_module
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.parcel import Parcel
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.sim.process import SimServer
from pytest_agentperf.worker import RequestRules, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from network import Host

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    # execnet leaves the pipes of an ssh that failed to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ENGINE = EngineConfig(
    step_base_ms=1.0, step_per_sequence_ms=0.1, output_tokens_median=8, output_tokens_p95=12
)
ALONE_S = 6.0
MS = NS_PER_S // 1_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network"), 3) as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    with SimServer(ENGINE, host=CONTROLLER) as found:
        yield found


@pytest.fixture(scope="module")
def dataset() -> Iterator[EncodedDataset]:
    with EncodedDataset(DATASETS / "demo-v1", max_prompt_tokens=100_000, history_reasoning="all") as found:
        yield found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of patience are seconds here."""
    monkeypatch.setattr(hosts_module, "ALONE_S", ALONE_S)
    monkeypatch.setattr("pytest_agentperf.load.crew._BEAT_S", 1.0)
    monkeypatch.setattr(pool_module, "_SILENT_S", 3.0)


@pytest.fixture
def whole(network: Network) -> Iterator[Network]:
    """All hosts; whatever a test did to the network is mended behind it, and nothing may run on."""
    yield network
    for host in network.hosts:
        host.mend()
    assert gone(network), [host.pids() for host in network.hosts]


def gone(network: Network) -> bool:
    return within(ALONE_S + 14, lambda: not any(host.pids() for host in network.hosts))


def within(seconds: float, done: Callable[[], object]) -> bool:
    deadline_ns = monotonic_ns() + round(seconds * NS_PER_S)
    while not (found := done()) and monotonic_ns() < deadline_ns:
        time.sleep(0.1)
    return bool(found)


class Setup:
    """Opens pools of all three hosts."""

    def __init__(self, network: Network, server: SimServer, dataset: EncodedDataset) -> None:
        self.network, self.server, self.dataset = network, server, dataset

    def config(self, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "url": self.server.url,
            "headers": {},
            "model": self.server.model,
            "parameters": {},
            "segments": str(self.dataset.folder),
            "rules": RequestRules.of(DEMO_1),
            "tokenizer": None,
        }
        return WorkerConfig(**(fields | changes)).to_wire()

    def lines(self, *, python: str = sys.executable, more: str = "") -> list[str]:
        return [self.network.line(host, python) + more for host in self.network.hosts]

    @contextmanager
    def pool(self, lines: list[str] | None = None, *, hosts: LoadHosts | None = None) -> Iterator[WorkerPool]:
        named = hosts or LoadHosts(parse_load_specs(lines or self.lines(), where="test"))
        pool = WorkerPool(self.config(), hosts=named)
        try:
            yield pool
        finally:
            pool.close()

    def spec(self, n_agents: int) -> PhaseSpec:
        return PhaseSpec(
            phase=1,
            attempt=0,
            kind="fixed",
            n_agents=n_agents,
            stagger_ns=10 * MS,
            seed=0,
            nonce="n",
            trajectories=self.dataset.prepared.ids,
            failure_wait_ns=NS_PER_S,
            tool_delay_cap_ns=100 * MS,
        )


@pytest.fixture
def setup(whole: Network, server: SimServer, dataset: EncodedDataset) -> Setup:
    return Setup(whole, server, dataset)


def poll(pool: WorkerPool, seconds: float) -> int:
    """Poll for some time; returns how many agents began."""
    began = 0
    deadline_ns = monotonic_ns() + round(seconds * NS_PER_S)
    while monotonic_ns() < deadline_ns:
        began += len(pool.poll(0.1).activations)
    return began


def pid_on(host: Host) -> int:
    (pid,) = host.pids()
    return pid


def test_three_hosts_with_clocks_days_apart_give_one_set_of_records(setup: Setup) -> None:
    with setup.pool() as pool:
        assert pool.unreachable() == {}
        start_ns = pool.start_phase(setup.spec(30))
        assert poll(pool, 3.0) == 30
        columns = pool.stop_phase()
        end_ns = monotonic_ns()
        load = pool.describe()
    assert [host["name"] for host in load["hosts"]] == [host.name for host in setup.network.hosts]
    assert sum(host["agents"] for host in load["hosts"]) == 30
    assert set(columns["agent"]) == set(range(30))
    assert not columns.failed.any()
    bound_ns = round(load["clock_error_s"] * NS_PER_S)
    assert 0 < bound_ns < 50 * MS
    assert columns["t_sent_ns"].min() >= start_ns - bound_ns
    assert columns["t_end_ns"].max() <= end_ns + bound_ns
    # Staggered starts, whoever's agents they are.
    first = [columns["t_sent_ns"][columns["agent"] == agent].min() for agent in range(30)]
    assert first[-1] - first[0] == pytest.approx(29 * 10 * MS, abs=2 * bound_ns + 30 * MS)


def test_the_dataset_is_sent_once_and_checked_each_time(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    parts = Parcel.parts

    def counted(parcel: Parcel) -> Iterator[tuple[str, str, bytes]]:
        sent.append(1)
        return parts(parcel)

    monkeypatch.setattr(Parcel, "parts", counted)
    with setup.pool() as pool:
        poll(pool, 0.1)
    sent.clear()
    with setup.pool() as pool:
        poll(pool, 0.1)
    assert sent == []
    host = setup.network.hosts[1]
    (kept,) = [folder for folder in (host.folder / "cache").iterdir() if folder.is_dir()]
    with (kept / "segments").open("r+b") as file:
        file.write(b"!!")
    with setup.pool() as pool:
        pool.start_phase(setup.spec(3))
        assert poll(pool, 1.0) == 3
        assert not pool.stop_phase().failed.any()
    assert sent == [1]


def broken(setup: Setup, fault: Callable[[Host], None]) -> str:
    """Let a fault happen to the second host in a phase; returns what ends it."""
    with setup.pool() as pool:
        pool.start_phase(setup.spec(6))
        assert poll(pool, 1.0) == 6
        fault(setup.network.hosts[1])
        with pytest.raises(LoadError) as caught:
            poll(pool, 20)
    print(f"told: {caught.value}")
    return str(caught.value)


def test_a_killed_worker(setup: Setup) -> None:
    told = broken(setup, lambda host: os.kill(pid_on(host), signal.SIGKILL))
    assert told.startswith("load worker 1 on apload2 is gone")


def test_a_stopped_worker_is_given_up_and_ended_by_the_next_probe(setup: Setup) -> None:
    hosts = LoadHosts(parse_load_specs(setup.lines(), where="test"))
    with setup.pool(hosts=hosts) as pool:
        pool.start_phase(setup.spec(6))
        assert poll(pool, 1.0) == 6
        # The first worker of its host: it holds the host's lock, and keeps it.
        stopped = pid_on(setup.network.hosts[1])
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(LoadError, match="load worker 1 on apload2 has said nothing for 3 s"):
            poll(pool, 20)
    with setup.pool(hosts=hosts) as pool:
        pool.start_phase(setup.spec(6))
        assert poll(pool, 1.0) == 6
        assert stopped not in setup.network.hosts[1].pids()
        pool.stop_phase()


def test_a_cut_network_ends_the_phase_here_and_the_load_there(setup: Setup) -> None:
    host = setup.network.hosts[1]
    told = broken(setup, lambda host: host.cut())
    assert told.startswith("load worker 1 on apload2 has said nothing")
    # Still cut: the worker ends because it is alone.
    assert within(ALONE_S + 5, lambda: not host.pids())


def test_a_killed_line(setup: Setup) -> None:
    def kill(host: Host) -> None:
        found = subprocess.run(
            ["pgrep", "-f", f"ssh .*{host.name} "], capture_output=True, text=True, check=True
        )
        for pid in found.stdout.split():
            if "sshd" not in (command := command_of(int(pid))) and command.startswith("ssh"):
                os.kill(int(pid), signal.SIGKILL)

    assert broken(setup, kill).startswith("load worker 1 on apload2 is gone")


def command_of(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        return file.read().replace(b"\0", b" ").decode()


def test_a_run_goes_on_without_a_host_that_stays_away(setup: Setup) -> None:
    hosts = LoadHosts(parse_load_specs(setup.lines(), where="test"), fewer_allowed=True)
    with setup.pool(hosts=hosts) as pool:
        poll(pool, 0.1)
    setup.network.hosts[2].cut()
    with setup.pool(hosts=hosts) as pool:
        pool.start_phase(setup.spec(4))
        assert poll(pool, 1.0) == 4
        pool.stop_phase()
        load = pool.describe()
    print(f"told: {load['hosts_lost']}")
    assert [host["name"] for host in load["hosts"]] == ["apload1", "apload2"]
    assert len(load["hosts_lost"]) == 1
    assert "apload3" in load["hosts_lost"][0]["name"]


def refused(setup: Setup, line: str) -> LoadError:
    with pytest.raises(LoadError) as caught, setup.pool([*setup.lines()[:1], line]):
        pass
    print(f"told: {caught.value}")
    return caught.value


def test_other_code_there(setup: Setup, tmp_path: Path) -> None:
    package = tmp_path / "pytest_agentperf"
    source = os.path.dirname(hosts_module.__file__).rpartition("/")[0]  # noqa: PTH120
    subprocess.run(["cp", "-r", source, package], check=True)
    with (package / "clock.py").open("a") as file:
        file.write("# edited\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    error = refused(setup, setup.network.line(setup.network.hosts[1], str(python)))
    assert "an edited copy" in error.what
    assert error.where == "load host apload2"


def test_nothing_installed_there(setup: Setup) -> None:
    error = refused(setup, setup.network.line(setup.network.hosts[1], "/usr/bin/python3"))
    assert "pytest_agentperf" in error.what
    assert "apload2" in str(error)


def test_no_such_interpreter(setup: Setup) -> None:
    error = refused(setup, setup.network.line(setup.network.hosts[1], "/nowhere/python"))
    assert error.where == "apload2"
    assert "ssh apload2" in (error.remedy or "")


def test_no_such_host(setup: Setup) -> None:
    error = refused(setup, f"ssh=nowhere//ssh_config={setup.network.ssh_config}//python={sys.executable}")
    assert error.where == "nowhere"


def test_a_full_disk_there(setup: Setup, tmp_path: Path) -> None:
    host = setup.network.hosts[1]
    host.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path))
    try:
        line = setup.lines()[1].rpartition("//cache=")[0] + f"//cache={tmp_path / 'cache'}"
        error = refused(setup, line)
    finally:
        host.run("umount", str(tmp_path))
    assert "No space left" in error.what
    assert "apload2" in error.what


def test_a_far_host_makes_the_clock_unsure(setup: Setup) -> None:
    near, far, _ = setup.network.hosts
    lines = [setup.network.line(near, sys.executable), setup.network.line(far, sys.executable, far=True)]
    with setup.pool(lines) as pool:
        pool.start_phase(setup.spec(3))
        assert poll(pool, 2.0) == 3
        pool.stop_phase()
        load = pool.describe()
    print(f"told: clock_error_s {load['clock_error_s']:.3f}")
    assert 0.05 < load["clock_error_s"] < 0.2
    assert max(load["hosts"], key=lambda item: item["clock_error_s"])["name"] == "apload2"


def test_a_host_that_is_starved_reads_late(setup: Setup) -> None:
    with setup.pool() as pool:
        pool.start_phase(setup.spec(6))
        poll(pool, 0.5)
        pid, done = pid_on(setup.network.hosts[1]), threading.Event()

        def starve() -> None:
            while not done.is_set():
                os.kill(pid, signal.SIGSTOP)
                done.wait(0.15)
                os.kill(pid, signal.SIGCONT)
                done.wait(0.05)

        thread = threading.Thread(target=starve)
        thread.start()
        try:
            poll(pool, 3.0)
        finally:
            done.set()
            thread.join()
        pool.stop_phase()
        late = {host["name"]: host["lag_p99_s"] for host in pool.describe()["hosts"]}
    print(f"told: lag_p99_s {late}")
    assert late["apload2"] > 0.1 > late["apload1"]


def test_an_endpoint_that_one_host_does_not_reach(setup: Setup) -> None:
    host = setup.network.hosts[1]
    other = f"{CONTROLLER}00"
    subprocess.run(["ip", "addr", "add", f"{other}/24", "dev", "aploadbr"], check=True)
    subprocess.run(["ip", "-n", host.name, "route", "add", "prohibit", other], check=True)
    try:
        with SimServer(ENGINE, host=other) as elsewhere:
            pool = WorkerPool(
                setup.config(url=elsewhere.url),
                hosts=LoadHosts(parse_load_specs(setup.lines(), where="test")),
            )
            try:
                print(f"told: {pool.unreachable()}")
                assert set(pool.unreachable()) == {"apload2"}
            finally:
                pool.close()
    finally:
        subprocess.run(["ip", "-n", host.name, "route", "del", "prohibit", other], check=True)
        subprocess.run(["ip", "addr", "del", f"{other}/24", "dev", "aploadbr"], check=True)


def test_a_host_in_use_is_waited_for(setup: Setup) -> None:
    waits: list[str] = []
    first = LoadHosts(parse_load_specs(setup.lines(), where="test"))
    second = LoadHosts(parse_load_specs(setup.lines(), where="test"), on_wait=waits.append)
    with setup.pool(hosts=first) as one, setup.pool(hosts=second) as other:
        one.start_phase(setup.spec(3))
        began = threading.Thread(target=lambda: other.start_phase(setup.spec(3)))
        began.start()
        assert within(5, lambda: any("another run's probe" in text for text in waits))
        assert poll(one, 1.0) == 3
        assert began.is_alive()
        one.stop_phase()
        began.join(10)
        assert not began.is_alive()
        assert poll(other, 1.0) == 3
        other.stop_phase()


CONTROLLER_SCRIPT = """
import json, sys, time
from pytest_agentperf.config.load_spec import parse_load_specs
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.pool import WorkerPool
config, lines, spec = json.loads(sys.stdin.readline())
spec["trajectories"] = tuple(spec["trajectories"])
pool = WorkerPool(config, hosts=LoadHosts(parse_load_specs(lines, where="test")))
pool.start_phase(PhaseSpec(**spec))
while not pool.poll(0.05).activations:
    pass
print("running", flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    # Requests in flight end as they do on one machine.
    pool.drain()
    while not pool.poll(0.05).drained:
        pass
    columns = pool.stop_phase()
    print(len(columns), columns.failed.sum(), flush=True)
    pool.close()
"""


@contextmanager
def controller(setup: Setup) -> Iterator[subprocess.Popen[str]]:
    """Run a phase of all hosts in a process of its own."""
    spec = setup.spec(6)
    wire = {name: getattr(spec, name) for name in PhaseSpec.__slots__}
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER_SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # As behind a terminal: one group, which Ctrl-C goes to.
        process_group=0,
    )
    assert process.stdin is not None
    with process:
        process.stdin.write(json.dumps([setup.config(), setup.lines(), wire], default=list) + "\n")
        process.stdin.flush()
        assert said(process) == "running\n"
        assert all(host.pids() for host in setup.network.hosts)
        yield process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_controller_is_gone(setup: Setup, how: signal.Signals) -> None:
    with controller(setup) as process:
        process.send_signal(how)
    assert within(10, lambda: not any(host.pids() for host in setup.network.hosts))


def test_the_lines_outlive_ctrl_c(setup: Setup) -> None:
    with controller(setup) as process:
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        requests, failed = map(int, said(process).split())
    assert requests >= 6
    assert failed == 0
    assert within(10, lambda: not any(host.pids() for host in setup.network.hosts))
