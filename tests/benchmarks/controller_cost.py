"""What the controller itself costs, against the number of load workers: run it, read it.

    python tests/benchmarks/controller_cost.py [--workers 1 10 100 1000] [--seconds 20] [--processes 1]
        [--records 0] [--tok-s 20] [--begin] [--json FILE]

The product's own pool, and the loop in which a run follows a phase. Its workers are simulated, 100 agents each: they
speak the workers' frames, with what agents at `--tok-s` would have done since the last one (requests of the default
dataset: 433 tokens of output, 38 turns a run), over execnet, so that what the controller serialises, reads, queues and
adds up is real. NOT real: all workers of one helper process share one pipe and one reading thread. With as many
`--processes` as workers each has its own, as a real worker does (7 MiB a process); still not real are then ssh itself,
which is a process of its own per worker, and distance. The helpers' CPU is no part of the figures, but shares the
machine; what a run does with the records after a phase is not in them either.

Hard case: every agent has met its quota of runs, so that the whole condition of the window's end is looked at in every
turn. `--records N` lets every agent have N requests in its records (650 bytes each).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import execnet

sys.path.insert(0, str(Path(__file__).parent))

from simulated_workers import REMOTE, SimulatedPlace

from pytest_agentperf.clock import RealClock, monotonic_ns, process_cpu_s
from pytest_agentperf.config.load_spec import parse_load_specs
from pytest_agentperf.core.phase import Phase, PhaseSpec, PhaseStatus, Stage, StopRule
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deployed import Deployed
from pytest_agentperf.interruption import StopRequest
from pytest_agentperf.load import pool as pool_module
from pytest_agentperf.load.host_facts import HostFacts
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.worker import RequestRules, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentperf.core.phase import PhaseEvents

AGENTS_EACH, WORKERS_PER_HOST, TRAJECTORIES = 100, 16, 500
STAGGER_S, SETTLE_S = 5.0, 3.0
GOAL = 0.10
# The default dataset's means (docs/datasets.md), and a prefill of a second.
OUTPUT_TOKENS, TURNS, TOOL_S, TTFT_S = 433, 38, 1.3, 1.0
PROJECT = Path(__file__).parents[2]


class Places:
    """Simulated hosts, over some processes."""

    def __init__(self, workers: int, processes: int, rates: Mapping[str, Any]) -> None:
        self._group = execnet.Group()
        here = HostFacts.here()._asdict()
        paths = [str(Path(__file__).parent), str(PROJECT)]
        self._masters = []
        gateways = []
        for number in range(processes):
            gateway = self._group.makegateway(f"popen//python={sys.executable}//id=simulated{number}")
            master = gateway.remote_exec(REMOTE.format(paths=paths))
            master.send(dict(rates))
            gateways.append(gateway)
            self._masters.append(master)
        self.lines: list[str] = []
        self._places: dict[str, SimulatedPlace] = {}
        for host, first in enumerate(range(0, workers, WORKERS_PER_HOST)):
            name, k = f"host{host}", host % processes
            facts = here | {"id": name, "name": name, "cores": 64, "descriptors": 1 << 20}
            # With as many processes as workers each has one of its own.
            pairs = (
                [
                    (gateways[(first + i) % processes], self._masters[(first + i) % processes])
                    for i in range(WORKERS_PER_HOST)
                ]
                if processes >= workers
                else [(gateways[k], self._masters[k])]
            )
            self._places[name] = SimulatedPlace(pairs, name, facts)
            self.lines.append(f"{min(WORKERS_PER_HOST, workers - first)}*ssh={name}")

    def open(self, line: Any) -> SimulatedPlace:
        return self._places[line.target]

    def close(self) -> None:
        self._group.terminate(timeout=10.0)


class Watched:
    """A pool that notes how old its news was."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self.ages_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def poll(self, timeout_s: float) -> PhaseEvents:
        events = self._pool.poll(timeout_s)
        now_ns = monotonic_ns()
        self.ages_s += [(now_ns - t_ns) / NS_PER_S for _, t_ns in (*events.activations, *events.completions)]
        return events


class Meter:
    """CPU, wall time and memory of this process, from mark to mark."""

    def __init__(self) -> None:
        self.cpu_s, self.wall_ns = process_cpu_s(), monotonic_ns()

    def since(self) -> tuple[float, float]:
        """Return CPU and wall seconds since the last call."""
        cpu_s, wall_ns = process_cpu_s(), monotonic_ns()
        found = cpu_s - self.cpu_s, (wall_ns - self.wall_ns) / NS_PER_S
        self.cpu_s, self.wall_ns = cpu_s, wall_ns
        return found


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def spec_of(n_agents: int, *, begin: bool) -> PhaseSpec:
    trajectories = tuple(f"trajectory-{number:05}" for number in range(TRAJECTORIES))
    begin_at = {agent: (trajectories[agent % TRAJECTORIES], agent % TURNS) for agent in range(n_agents)}
    return PhaseSpec(
        phase=1,
        attempt=0,
        kind="fixed",
        n_agents=n_agents,
        stagger_ns=round(STAGGER_S * NS_PER_S / n_agents),
        seed=0,
        nonce="cost",
        trajectories=trajectories,
        failure_wait_ns=NS_PER_S,
        begin_at=begin_at if begin else {},
    )


def follow(pool: Any, state: Phase) -> dict[str, float]:
    """Follow a phase as a run does; returns what its window and its drain took."""
    marks: dict[Stage, tuple[int, float]] = {}

    def on_status(status: PhaseStatus) -> None:
        marks.setdefault(status.stage, (monotonic_ns(), process_cpu_s()))

    run = SimpleNamespace(
        _clock=RealClock(), _poll_s=0.1, _server_metrics=None, _refuses=None, server=SimpleNamespace()
    )
    follow_: Any = Deployed._follow
    follow_(run, pool, state, "fixed", on_status, lambda tokens: False, StopRequest())
    (opened_ns, opened_s), (closed_ns, closed_s) = marks[Stage.WINDOW], marks[Stage.DRAIN]
    assert state.close_ns is not None
    return {
        "share": (closed_s - opened_s) / ((closed_ns - opened_ns) / NS_PER_S),
        "drain_s": (monotonic_ns() - state.close_ns) / NS_PER_S,
    }


def measure(workers: int, args: argparse.Namespace, config: Mapping[str, Any]) -> dict[str, float]:
    n_agents = workers * AGENTS_EACH
    request_s = TTFT_S + OUTPUT_TOKENS / args.tok_s + TOOL_S
    rates = {
        "stagger_ns": STAGGER_S * NS_PER_S / n_agents,
        "request_s": request_s,
        "trajectory_s": TURNS * request_s,
        "records_each": args.records,
        "no_records": RequestColumns.concatenate([]).to_wire(),
    }
    before_mib = rss_mib()
    places = Places(workers, min(args.processes, workers), rates)
    hosts = LoadHosts(parse_load_specs(places.lines, where="here"))
    figures: dict[str, float] = {"workers": workers, "agents": n_agents}
    try:
        with patch.object(pool_module, "open_place", places.open):
            meter = Meter()
            pool = WorkerPool(config, hosts=hosts)
            figures["join_cpu_s"], figures["join_s"] = meter.since()
            figures["worker_kib"] = (rss_mib() - before_mib) * 1024 / workers
            spec = spec_of(n_agents, begin=args.begin)
            meter.since()
            start_ns = pool.start_phase(spec)
            figures["start_cpu_s"], figures["start_s"] = meter.since()
            figures["slack_s"] = (start_ns - monotonic_ns()) / NS_PER_S
            rule = StopRule(
                settle_ns=round(SETTLE_S * NS_PER_S),
                min_window_ns=round(args.seconds * NS_PER_S),
                min_trajectories=30,
                min_trajectories_per_agent=1,
                phase_max_ns=3600 * NS_PER_S,
            )
            state = Phase(n_agents, rule, start_ns)
            for agent in range(n_agents):
                state.trajectory_completed(agent, start_ns)
            watched = Watched(pool)
            frames = Frames(pool)
            figures |= follow(watched, state)
            figures["frames_s"] = frames.count / ((monotonic_ns() - start_ns) / NS_PER_S)
            ages_s = sorted(watched.ages_s)
            figures["known_p50_s"], figures["known_max_s"] = ages_s[len(ages_s) // 2], ages_s[-1]
            figures["phase_mib"] = rss_mib()
            meter.since()
            pool.look()
            figures["look_cpu_s"], figures["look_s"] = meter.since()
            columns = pool.stop_phase()
            figures["stop_cpu_s"], figures["stop_s"] = meter.since()
            figures["records"], figures["stop_mib"] = len(columns), rss_mib()
            figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pool.close()
    finally:
        places.close()
    return figures


class Frames:
    """Counts what a pool takes from its workers."""

    def __init__(self, pool: WorkerPool) -> None:
        self.count = 0
        crew: Any = pool._crew
        take = crew.next

        def counted(timeout_s: float) -> Any:
            found = take(timeout_s)
            self.count += found is not None
            return found

        crew.next = counted


@contextlib.contextmanager
def worker_config() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="agentperf-controller-") as folder:
        Path(folder, "segments").write_bytes(b"x")
        yield WorkerConfig(
            url="http://127.0.0.1:9/v1",
            headers={},
            model="simulated",
            parameters={},
            segments=folder,
            rules=RequestRules.of(AA_AGENTPERF_2026_06),
            tokenizer=None,
        ).to_wire()


COLUMNS = (
    ("workers", "workers", "{:,.0f}"),
    ("agents", "agents", "{:,.0f}"),
    ("share", "share of a core in the window", "{:.2%}"),
    ("frames_s", "frames/s", "{:.0f}"),
    ("known_p50_s", "news is old, median", "{:.2f} s"),
    ("known_max_s", "at most", "{:.2f} s"),
    ("drain_s", "window's end until done", "{:.2f} s"),
    ("worker_kib", "RSS per worker", "{:.0f} KiB"),
    ("join_s", "joining", "{:.2f} s"),
    ("start_s", "start_phase", "{:.3f} s"),
    ("slack_s", "then left until the start", "{:.3f} s"),
    ("look_cpu_s", "CPU of a look", "{:.2f} s"),
    ("records", "records", "{:,.0f}"),
    ("stop_s", "stop_phase", "{:.2f} s"),
    ("stop_cpu_s", "its CPU", "{:.2f} s"),
    ("stop_mib", "RSS then", "{:,.0f} MiB"),
    ("peak_mib", "peak", "{:,.0f} MiB"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=20.0, help="of the window (%(default)g)")
    parser.add_argument(
        "--processes", type=int, default=1, help="of simulated workers, together (%(default)s)"
    )
    parser.add_argument("--records", type=int, default=0, help="requests of each agent (%(default)s)")
    parser.add_argument("--tok-s", type=float, default=20.0, help="output speed of each agent (%(default)g)")
    parser.add_argument("--begin", action="store_true", help="agents begin in the midst of their runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = []
    print("| " + " | ".join(title for _, title, _ in COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    with worker_config() as config:
        for workers in args.workers:
            # Each in a process of its own: what one has taken of memory is not the next one's.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found.append(process.submit(measure, workers, args, config).result())
            print(
                "| " + " | ".join(form.format(found[-1][name]) for name, _, form in COLUMNS) + " |",
                flush=True,
            )
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"{args.processes} processes of simulated workers",
        file=sys.stderr,
    )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    worst = max(figures["share"] for figures in found)
    print(
        f"{worst:.1%} of a core at most{'' if worst < GOAL else f': MORE THAN {GOAL:.0%}'}", file=sys.stderr
    )
    return worst >= GOAL


if __name__ == "__main__":
    raise SystemExit(main())
