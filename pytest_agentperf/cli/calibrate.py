"""`agentperf calibrate`: what this machine's load generator adds to the truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.calibration import calibrate
from pytest_agentperf.config.bundled import find_dataset
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.results.phase_text import dataset_text
from pytest_agentperf.worker import WorkerConfig

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.client_error import Calibration

HELP = "drive a built-in server that only streams, and tell what the load generator adds to TTFT and speed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("--agents", type=int, default=1000, metavar="N", help="how many agents (%(default)s)")
    parser.add_argument(
        "--speed", type=float, default=20.0, metavar="TOK/S", help="output speed of each agent (%(default)g)"
    )
    parser.add_argument("--dataset", default="bundled:demo-v1", help="whose requests to send (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to hold the load (%(default)g)")
    parser.add_argument("--workers", type=int, help="load worker processes (default: as many as needed)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Calibrate and print the result; 1 if the load was not reached."""
    for name in ("agents", "speed", "seconds", "workers"):
        if (value := getattr(args, name)) is not None and value <= 0:
            raise ConfigError(f"{value:g}", where=f"--{name}", remedy="give more than 0")
    path = find_dataset(args.dataset, relative_to=Path.cwd())
    with EncodedDataset(
        path,
        max_prompt_tokens=sys.maxsize,
        history_reasoning="all",
        on_progress=lambda done, total: _say(dataset_text(done, total)),
    ) as dataset:
        result = _calibrate(args, dataset)
    print(result.model_dump_json(indent=2) if args.json else _text(result))
    return 0 if result.reached else 1


def _calibrate(args: argparse.Namespace, dataset: EncodedDataset) -> Calibration:
    worker = WorkerConfig.for_null_servers(dataset.folder, DEMO_1)
    pool = WorkerPool(worker.to_wire(), workers=args.workers, chunks_per_agent_s=args.speed)
    try:
        return calibrate(
            pool,
            dataset.prepared.ids,
            n_agents=args.agents,
            chunks_per_s=args.agents * args.speed,
            hold_s=args.seconds,
            on_progress=_say,
        )
    finally:
        pool.close()


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


def _text(result: Calibration) -> str:
    lines = {
        "load": f"{result.n_agents:,} agents, {result.chunks_per_s_reached:,.0f} chunks/s"
        + ("" if result.reached else f" of {result.chunks_per_s:,.0f}: this machine does not reach more"),
        "answers compared": f"{result.requests:,}",
        "added to TTFT": f"P50 {result.ttft_error_p50_s * 1e3:.2f} ms, P99 {result.ttft_error_p99_s * 1e3:.2f} ms",
        "error of output speed": f"P99 {result.speed_error_p99:.3%}",
        "load workers": f"{result.workers}, the busiest at {result.cpu_share_max:.0%} of a core",
    }
    return "\n".join(f"{name:<22} {value}" for name, value in lines.items())
