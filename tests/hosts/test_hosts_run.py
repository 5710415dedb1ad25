"""Whole runs with load hosts: the capacity that one machine finds, also where a host is lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from network import CONTROLLER, Network, why_not

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
SUITES = Path(__file__).parents[2] / "suites"
# About 24 agents at tier 1.
ENGINE = EngineConfig(
    step_base_ms=1.2,
    step_per_sequence_ms=1.8,
    output_tokens_median=12,
    output_tokens_p95=26,
    output_tokens_max=48,
)
SYSTEM = """
schema: agentperf-system/1
name: far
title: A simulated server that several hosts reach
accelerator: {{name: simulated, vendor: none, per_system: 8, per_rack: 8}}
submitter: {{name: tests}}
ruleset: demo/1
# The machine that plays all hosts may be busy: what is tested is not how fast it is.
overrides: {{client_lag_p99_max_s: 0.5, client_error_max: 0.9, clock_error_max_s: 0.2}}
deployments:
  all:
    suite: deepseek_v4_pro
    edition: "2026-06"
    tiers: {{tier1: {{expected_agents: 18}}}}
    endpoint: {{url: "{url}", model: "{model}"}}
    allocated_accelerators: 8
    search_start: 8
    serving: {{framework: sim}}
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("network"), 3) as found:
        yield found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with SimServer(ENGINE, host=CONTROLLER) as server:
        path = tmp_path_factory.mktemp("systems") / "far.yaml"
        path.write_text(SYSTEM.format(url=server.url, model=server.model))
        yield path


def command(system: Path, results: Path, *lines: str) -> list[str]:
    options = ["--agentperf-tier=tier1", f"--agentperf-results={results}", "-p", "no:cacheprovider"]
    load = [f"--agentperf-load={line}" for line in lines]
    return [
        sys.executable,
        "-m",
        "pytest",
        str(SUITES / "deepseek_v4_pro"),
        f"--system={system}",
        *options,
        *load,
    ]


def entry_in(results: Path) -> dict[str, Any]:
    (path,) = results.glob("*/leaderboard.json")
    found: dict[str, Any] = json.loads(path.read_text())["entries"][0]
    return found


def measured(system: Path, results: Path, *lines: str) -> dict[str, Any]:
    done = subprocess.run(command(system, results, *lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return entry_in(results)


def test_three_hosts_find_what_one_machine_finds(network: Network, system: Path, tmp_path: Path) -> None:
    here = measured(system, tmp_path / "here")
    there = measured(
        system, tmp_path / "there", *(network.line(host, sys.executable) for host in network.hosts)
    )
    agents = [entry["tiers"][0]["agents"] for entry in (here, there)]
    # The search's resolution under this ruleset is 10 %.
    assert agents[1] == pytest.approx(agents[0], rel=0.1)
    confirm = next(phase for phase in there["phases"] if phase["kind"] == "confirm")
    assert [host["name"] for host in confirm["load"]["hosts"]] == [host.name for host in network.hosts]
    assert sum(host["agents"] for host in confirm["load"]["hosts"]) == confirm["n_agents"]
    assert not any(host.pids() for host in network.hosts)


def test_a_run_that_loses_a_host_ends_with_the_others(network: Network, system: Path, tmp_path: Path) -> None:
    lines = [network.line(host, sys.executable) for host in network.hosts]
    lost = network.hosts[1]
    process = subprocess.Popen(
        command(system, tmp_path, *lines), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
    reader.start()
    deadline_s = time.monotonic() + 120
    while b'"kind":"ramp"' not in b"".join(path.read_bytes() for path in tmp_path.glob("*/journal.jsonl")):
        assert time.monotonic() < deadline_s, "".join(said)
        time.sleep(0.2)
    lost.cut()
    try:
        assert process.wait(timeout=300) == 0, "".join(said)
    finally:
        lost.mend()
        reader.join(10)
        process.stdout.close()
    entry = entry_in(tmp_path)
    broken = [phase for phase in entry["phases"] if phase["invalid"]]
    assert [reason["code"] for phase in broken for reason in phase["invalid"]] == ["load_worker_died"]
    assert lost.name in broken[0]["invalid"][0]["what"]
    confirm = next(phase for phase in entry["phases"] if phase["kind"] == "confirm")
    assert [host["name"] for host in confirm["load"]["hosts"]] == [
        network.hosts[0].name,
        network.hosts[2].name,
    ]
    assert [host["name"] for host in confirm["load"]["hosts_lost"]] == [f"1*ssh={lost.name}"]
    assert entry["tiers"][0]["agents"] > 18
