"""Events a second and the error of TTFT with 1 and 2 load workers, against servers that know: run it, read it.

    python tests/benchmarks/load_growth.py [--agents 300] [--speed 20] [--seconds 8] [--repeats 3]

The product's own calibration, in turns: a load with one worker, the same load with two, twice the load with two. The
null servers note when they wrote what; what the client adds to that is the error. Workers and null servers share this
machine's cores: on two of them two workers and their servers have half a core each, so that this shows that a load
is split without loss, and not how much two workers carry. Repeats times 35 s.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pytest_agentperf.calibration import calibrate
from pytest_agentperf.config.bundled import find_dataset
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.worker import WorkerConfig


class Case(NamedTuple):
    workers: int
    load: int
    """In units of the first one's."""


class Figures(NamedTuple):
    events_s: float
    core_per_event_us: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    speed_p99: float


CASES = (Case(1, 1), Case(2, 1), Case(2, 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=300, help="of the single load (%(default)s)")
    parser.add_argument("--speed", type=float, default=20.0, help="tokens/s of each (%(default)g)")
    parser.add_argument("--seconds", type=float, default=8.0, help="for which a load is held (%(default)g)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    found: dict[Case, list[Figures]] = {case: [] for case in CASES}
    path = find_dataset("bundled:demo-v1", relative_to=Path.cwd())
    with contextlib.ExitStack() as stack:
        dataset = stack.enter_context(
            EncodedDataset(path, max_prompt_tokens=sys.maxsize, history_reasoning="all")
        )
        config = WorkerConfig.for_null_servers(dataset.folder, DEMO_1)
        pools = {}
        for workers in {case.workers for case in CASES}:
            pools[workers] = WorkerPool(config.to_wire(), workers=workers)
            stack.callback(pools[workers].close)
        for _ in range(args.repeats):
            for case in CASES:
                found[case].append(run(pools[case.workers], dataset, case, args))
    report(found)


def run(pool: WorkerPool, dataset: EncodedDataset, case: Case, args: argparse.Namespace) -> Figures:
    n_agents = args.agents * case.load
    result = calibrate(
        pool,
        dataset.prepared.ids,
        n_agents=n_agents,
        chunks_per_s=n_agents * args.speed,
        hold_s=args.seconds,
    )
    events_s = result.chunks_per_s_reached
    return Figures(
        events_s,
        result.cpu_share_max * case.workers / events_s * 1e6,
        result.ttft_error_p50_s * 1e3,
        result.ttft_error_p99_s * 1e3,
        result.speed_error_p99,
    )


def report(found: dict[Case, list[Figures]]) -> None:
    medians = {case: Figures(*map(median, zip(*runs, strict=True))) for case, runs in found.items()}
    unit = medians[CASES[0]]
    print("| workers | load | events/s | core per event | TTFT error P50 | P99 (runs) | speed error P99 |")
    print("|---|---|---|---|---|---|---|")
    for case, one in medians.items():
        runs = sorted(run.ttft_p99_ms for run in found[case])
        print(
            f"| {case.workers} | {case.load} × | {one.events_s:,.0f} ({one.events_s / unit.events_s:.2f} ×) | "
            f"{one.core_per_event_us:.1f} µs ({one.core_per_event_us / unit.core_per_event_us:.2f} ×) | "
            f"{one.ttft_p50_ms:.2f} ms ({one.ttft_p50_ms / unit.ttft_p50_ms:.2f} ×) | "
            f"{one.ttft_p99_ms:.2f} ms ({runs[0]:.2f} to {runs[-1]:.2f}) | {one.speed_p99:.3%} |"
        )
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, Python {platform.python_version()}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
