"""The same phases over HTTP and in virtual time, and how far apart what they measure is: run it, read it.

    python tests/benchmarks/virtual_against_http.py [--agents 1 4 12] [--repeats 5] [--seconds 15]

The same agents replay the same trajectories with the same seeds: once in virtual time, and several times by the
product's own workers against its simulated server in another process. The step times have no jitter, so that
repeats differ by nothing but real time. Repeats that the product itself calls INVALID are counted and left out. A
row takes repeats times (seconds + about 10 s).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))

from as_served import run_as_served, run_over_http
from virtual_system import Shape, settings_for

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.latency import output_speed_tok_s, ttft_s
from pytest_agentperf.core.slo import SloTier

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.records import RequestColumns

NONCE = "the-same"
FIGURES = ("TTFT P50", "TTFT P95", "speed P25", "speed P50", "speed P95", "cached")
ENGINE = EngineConfig(
    step_base_ms=8, step_per_sequence_ms=0.5, prefill_tokens_per_s=20_000, kv_blocks=2_000,
    output_tokens_median=32, output_tokens_p95=60, output_tokens_max=64,
)  # fmt: skip
SHAPE = Shape("agreement", ENGINE, SloTier(name="tier1", output_speed_p25_tok_s=1, ttft_p95_s=100), 99)


def settings(seconds: float) -> RunSettings:
    return settings_for(SHAPE, nonce=NONCE, warmup_agents=0, min_window_s=seconds)


def figures(columns: RequestColumns) -> list[float]:
    ttft, speed = ttft_s(columns), output_speed_tok_s(columns)
    speed = speed[~np.isnan(speed)]
    cached = columns["cached_tokens"].sum() / columns["prompt_tokens"].sum()
    return [*np.percentile(ttft, (50, 95)), *np.percentile(speed, (25, 50, 95)), float(cached)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 4, 12])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each phase's window (%(default)s)")
    options = parser.parse_args()
    print("| agents | requests | " + " | ".join(FIGURES) + " |")
    print("|" + "---|" * (2 + len(FIGURES)))
    for agents in options.agents:
        expected_columns = run_as_served(settings(options.seconds), agents)
        expected = figures(expected_columns)
        runs = [run_over_http(settings(options.seconds), agents) for _ in range(options.repeats)]
        valid = [columns for columns, result in runs if not result.invalid]
        late_ms = [(result.load.lag_p99_s or 0.0) * 1e3 for _, result in runs]
        found = np.array([figures(columns) for columns in valid])
        requests = f"{min(map(len, valid))} to {max(map(len, valid))}" if valid else "none valid"
        print(f"| {agents}, virtual | {len(expected_columns)} | {' | '.join(f'{e:.4g}' for e in expected)} |")
        if len(valid) > 1:
            ratios = [
                f"{column.mean() / e:.3f} ± {column.std(ddof=1) / e:.3f}"
                for column, e in zip(found.T, expected, strict=True)
            ]
            print(f"| HTTP ÷ virtual | {requests} | {' | '.join(ratios)} |")
        print(
            f"  {len(runs) - len(valid)} of {len(runs)} INVALID; P99 of reads late: {min(late_ms):.1f} to "
            f"{max(late_ms):.1f} ms; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    main()
