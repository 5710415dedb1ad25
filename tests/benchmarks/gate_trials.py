"""How often gates are right, and what they cost: seeded trials in virtual time of three engines near their limits.

    python tests/benchmarks/gate_trials.py [--trials 100] [--shapes speed,ttft,cache] [--rulesets ci/1,nightly/1]

Each engine carries about 200 agents; its true capacity is where half of the official phases pass, each with a seed of
its own, which gives agents other trajectories (`--oracle` finds it again). A gate is asked about a threshold 5 % below
that, which should PASS, and one 5 % above it, which should FAIL. Costs are steady-state seconds of the system per
trial, ramp-in and drain included, against a full official search.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.run import RunOptions, settle
from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System
from pytest_agentperf.core.gate import GateTarget
from pytest_agentperf.core.pass_curve import pass_curve
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.oracle import Unwatched
from pytest_agentperf.rehearsal import rehearsed_run, tabulated_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.rehearsal import Tabulate

OFF = 0.05


class Shape(NamedTuple):
    """An engine, its service level, and how many agents it carries under the official rules."""

    engine: dict[str, float]
    output_speed_tok_s: float
    ttft_s: float
    capacity: float


SHAPES = {
    # Every further sequence makes each step longer.
    "speed": Shape(
        {"step_base_ms": 8, "step_per_sequence_ms": 0.2, "step_per_context_ktoken_ms": 0.002,
         "prefill_tokens_per_s": 400_000, "kv_blocks": 10_000_000, "max_batch": 2_000},
        20, 10, 167.8,
    ),
    # More agents wait for a place in the batch.
    "ttft": Shape(
        {"step_base_ms": 20, "step_per_sequence_ms": 0.02, "step_per_context_ktoken_ms": 0.0002,
         "prefill_tokens_per_s": 60_000, "kv_blocks": 10_000_000, "max_batch": 130},
        10, 10, 213.4,
    ),
    # Now and then the cache begins to thrash, and recovers.
    "cache": Shape(
        {"step_base_ms": 20, "step_per_sequence_ms": 0.02, "step_per_context_ktoken_ms": 0.0002,
         "prefill_tokens_per_s": 120_000, "kv_blocks": 100_000, "max_batch": 2_000},
        10, 10, 213.8,
    ),
}  # fmt: skip


def settings_for(name: str, ruleset: str) -> RunSettings:
    shape = SHAPES[name]
    suite = Suite.model_validate(
        {
            "name": "trials",
            "title": "trials",
            "model": "sim",
            "max_context_tokens": 163_840,
            "max_tokens": 16_384,
            "history_reasoning": "all",
            "edition": "1",
            "editions": {
                "1": {
                    "source": "trials",
                    "tiers": {
                        "tier1": {
                            "output_speed_p25_tok_s": shape.output_speed_tok_s,
                            "ttft_p95_s": shape.ttft_s,
                        }
                    },
                }
            },
            "sampling": {
                "parameters": {},
                "source": "trials",
                "max_effort": {"default": {"parameters": {}, "source": "trials"}},
            },
            "ruleset": ruleset,
        }
    )
    engine = EngineConfig.model_validate(
        {"output_tokens_median": 150, "jitter_cv": 0.05, "accelerators": 8, **shape.engine}
    )
    system = System.model_validate(
        {
            "name": name,
            "title": name,
            "accelerator": {"name": "simulated", "vendor": "none"},
            "submitter": {"name": "trials"},
            "deployments": {
                "all": {
                    "endpoint": {"builtin": "sim"},
                    "allocated_accelerators": 8,
                    "serving": {"framework": "sim"},
                    "simulate": engine.model_dump(),
                }
            },
        }
    )
    options = RunOptions(nonce="trials", rehearse=True)
    return settle(suite, Path("trials.yaml"), system, Path(f"{name}.yaml"), options, start=Path.cwd())


class Trial(NamedTuple):
    verdict: str
    phases: int
    steady_s: float


def gate(
    settings: RunSettings, threshold: int, seed: int, tabulate: Tabulate, nonce: str | None = None
) -> Trial:
    """Ask one gate; its seed draws starts and assignment, its nonce answers and jitter."""
    target = GateTarget(baseline_agents=threshold, tolerance=0.0, source="trial")
    settings = replace(
        settings,
        seed=seed,
        nonce=nonce or f"trial {seed}",
        gate={"tier1": target},
        # No number beyond the threshold: an improvement is not what is asked here.
        max_agents=threshold,
        ruleset=settings.ruleset.model_copy(update={"warmup_agents": 0}),
    )
    with rehearsed_run(settings, Unwatched(), tabulate=tabulate) as run:
        result = run.measure("tier1")
        steady_s = sum(phase.end_ns - phase.start_ns for phase in run.phases) / 1e9
        return Trial(str(result.verdict), len(run.phases), steady_s)


def official_verdicts(
    name: str, numbers: Iterable[int], seeds: int, tabulate: Tabulate
) -> dict[int, list[bool | None]]:
    """Return whether official phases at each number of agents passed, one a seed."""
    settings = settings_for(name, "aa-agentperf/2026-06")
    rules = settings.ruleset.model_copy(update={"warmup_agents": 0})
    found: dict[int, list[bool | None]] = {}
    for n_agents in numbers:
        for seed in range(seeds):
            trial = replace(settings, seed=seed, nonce=f"oracle {seed}", ruleset=rules)
            with rehearsed_run(trial, Unwatched(), tabulate=tabulate) as run:
                (judged,) = run.run_fixed("all", n_agents).verdicts
            passed = {Verdict.PASS: True, Verdict.FAIL: False}.get(judged.verdict)
            found.setdefault(n_agents, []).append(passed)
    return found


def official_search_s(name: str, tabulate: Tabulate, searches: int) -> float:
    """Return the median cost of a full official search, in steady-state seconds."""
    settings = settings_for(name, "aa-agentperf/2026-06")
    costs = []
    for seed in range(searches):
        with rehearsed_run(replace(settings, nonce=f"search {seed}"), Unwatched(), tabulate=tabulate) as run:
            run.measure("tier1")
            costs.append(sum(phase.end_ns - phase.start_ns for phase in run.phases) / 1e9)
    return statistics.median(costs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rulesets", default="ci/1,nightly/1")
    parser.add_argument("--searches", type=int, default=1, help="official searches to compare costs with")
    parser.add_argument("--oracle", type=int, metavar="SEEDS", help="find the true capacities instead")
    args = parser.parse_args()
    for name in args.shapes.split(","):
        tabulate = tabulated_once()
        capacity = SHAPES[name].capacity
        if args.oracle:
            numbers = range(round(capacity) - 8, round(capacity) + 9, 4)
            curve = pass_curve(official_verdicts(name, numbers, args.oracle, tabulate))
            print(f"{name}: {curve.crossing:.1f} agents ({curve.low:.1f} to {curve.high:.1f})", flush=True)
            continue
        official_s = official_search_s(name, tabulate, args.searches) if args.searches else math.nan
        print(f"{name}: an official search takes {official_s:,.0f} s", flush=True)
        for ruleset in args.rulesets.split(","):
            settings = settings_for(name, ruleset)
            for expected, threshold in (
                ("PASS", math.floor(capacity / (1 + OFF))),
                ("FAIL", math.ceil(capacity / (1 - OFF))),
            ):
                begun_s = time.process_time()
                trials = [
                    gate(settings, threshold, seed, tabulate)
                    for seed in range(args.first, args.first + args.trials)
                ]
                found = Counter(trial.verdict for trial in trials)
                cost_s = statistics.median(trial.steady_s for trial in trials)
                print(
                    f"{name:6} {ruleset:10} {threshold:4} agents, should {expected}: {dict(found)}; median "
                    f"{cost_s:,.0f} s = {cost_s / official_s:.1%} of a search, phases "
                    f"{dict(Counter(t.phases for t in trials))}; "
                    f"{(time.process_time() - begun_s) / len(trials):.1f} s of CPU a trial",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
