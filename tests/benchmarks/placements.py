"""What each placement of load workers costs: until they are ready, and while a phase runs.

    python tests/benchmarks/placements.py [--agents 60] [--seconds 10]

It needs root and sshd; Ray is measured if it is installed.
Three workers each: processes of this machine; one in each of three network namespaces, over ssh; three actors of a Ray
cluster whose nodes are those namespaces, joined as a client. All against one simulated server, so that the records can
be compared; the machine's cores are shared by all of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "hosts"))
from network import CONTROLLER, Network, why_not

from pytest_agentperf.config.bundled import DATASETS
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.load_spec import parse_load_specs
from pytest_agentperf.core.latency import output_speed_tok_s, ttft_s
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.sim.process import SimServer
from pytest_agentperf.worker import RequestRules, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = EngineConfig(
    step_base_ms=2.0, step_per_sequence_ms=0.2, output_tokens_median=20, output_tokens_p95=40
)
RAY_PORT = 6399


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    if (missing := why_not()) is not None:
        print(missing)
        return 1
    with (
        tempfile.TemporaryDirectory() as folder,
        Network(Path(folder), 3) as network,
        SimServer(ENGINE, host=CONTROLLER) as server,
        EncodedDataset(DATASETS / "demo-v1", max_prompt_tokens=1 << 30, history_reasoning="all") as dataset,
    ):
        config = WorkerConfig(
            url=server.url,
            headers={},
            model=server.model,
            parameters={},
            segments=str(dataset.folder),
            rules=RequestRules.of(DEMO_1),
            tokenizer=None,
        ).to_wire()
        print(
            "placement | ready, first time | again | controller's CPU | workers' CPU | requests/s | TTFT P50, P95 (ms) "
            "| speed P25 (tok/s) | clock known to"
        )
        for name, lines in placements(network):
            print(row(name, lines, config, dataset, args), flush=True)
    return 0


def placements(network: Network) -> Iterator[tuple[str, list[str]]]:
    """Yield each placement and its lines."""
    yield "3*popen", ["3*popen"]
    yield "3 hosts over ssh", [network.line(host, sys.executable) for host in network.hosts]
    if find_spec("ray") is None:
        print("(Ray is not installed)")
        return
    begun_s = time.monotonic()
    head, *others = network.hosts
    ray = f"{Path(sys.executable).parent}/ray"
    common = f"--num-cpus=1 --object-store-memory={100 << 20}"
    try:
        remote(network, head.name, f"{ray} start --head --node-ip-address={head.address} --port={RAY_PORT} {common} "
                                   "--ray-client-server-port=10001 --include-dashboard=false")  # fmt: skip
        for host in others:
            remote(network, host.name, f"{ray} start --address={head.address}:{RAY_PORT} "
                                       f"--node-ip-address={host.address} {common}")  # fmt: skip
        print(f"(the Ray cluster was up after {time.monotonic() - begun_s:.0f} s)")
        yield (
            "3 actors of a Ray cluster",
            [f"3*ray://{head.address}:10001//cache={network.hosts[0].folder / 'ray'}"],
        )
    finally:
        for host in network.hosts:
            remote(network, host.name, f"{ray} stop --force")


def remote(network: Network, host: str, command: str) -> None:
    """Run a command on a host."""
    environment = f"export PATH={Path(sys.executable).parent}:$PATH RAY_USAGE_STATS_ENABLED=0; "
    subprocess.run(
        ["ssh", "-F", str(network.ssh_config), host, environment + command],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


def row(
    name: str, lines: list[str], config: dict[str, object], dataset: EncodedDataset, args: argparse.Namespace
) -> str:
    """Open a placement twice, and run a phase the second time."""
    specs = parse_load_specs(lines, where="benchmark")
    ready_s = []
    for attempt in range(2):
        begun_s = time.monotonic()
        pool = WorkerPool(config, hosts=LoadHosts(specs))
        ready_s.append(time.monotonic() - begun_s)
        if attempt == 0:
            pool.close()
    try:
        spec = PhaseSpec(
            phase=0,
            attempt=0,
            kind="fixed",
            n_agents=args.agents,
            stagger_ns=NS_PER_S // args.agents,
            seed=0,
            nonce=name,
            trajectories=dataset.prepared.ids,
            failure_wait_ns=NS_PER_S,
            tool_delay_cap_ns=NS_PER_S // 2,
        )
        pool.start_phase(spec)
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        while time.monotonic() - begun_s < args.seconds:
            pool.poll(0.1)
        cpu = (time.process_time() - begun_cpu_s) / (time.monotonic() - begun_s)
        columns = pool.stop_phase()
        load = pool.describe()
    finally:
        pool.close()
    ttft, speed = ttft_s(columns), output_speed_tok_s(columns)
    shares = [host["cpu_share_max"] for host in load["hosts"]]
    waits = ", ".join(f"{np.percentile(ttft, share) * 1e3:.1f}" for share in (50, 95))
    return (
        f"{name} | {ready_s[0]:.1f} s | {ready_s[1]:.1f} s | {cpu:.1%} of a core | at most {max(shares):.1%} | "
        f"{len(columns) / args.seconds:,.0f} | {waits} | "
        f"{np.nanpercentile(speed, 25):.1f} | {load['clock_error_s'] * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.exit(main())
