"""How near the search of the CI rulesets comes to the true capacity, and what it costs: seeded trials in virtual time.

    python tests/benchmarks/ci_search_trials.py [--trials 20] [--shapes speed,ttft,cache] [--ruleset ci/1] [--start 150]

The engines are those of `gate_trials.py`; `--start` is the last known capacity, about which the search begins. With
`--paired` each seed's truth is its own, as in `paired_gate_trials.py` (`--shapes cache --ruleset nightly/1`).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import replace

from gate_trials import SHAPES, official_search_s, settings_for
from paired_gate_trials import capacity

from pytest_agentperf.oracle import Unwatched
from pytest_agentperf.rehearsal import rehearsed_run, tabulated_once

NEAR = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--ruleset", default="ci/1")
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--paired", action="store_true", help="find a capacity for each seed")
    parser.add_argument("--searches", type=int, default=1, help="official searches to compare costs with")
    args = parser.parse_args()
    for name in args.shapes.split(","):
        tabulate = tabulated_once()
        settings = settings_for(name, args.ruleset)
        official_s = official_search_s(name, tabulate, args.searches) if args.searches else float("nan")
        answers, costs, near, covered, intervals = [], [], 0, 0, 0
        begun_s = time.process_time()
        for seed in range(args.first, args.first + args.trials):
            trial = replace(settings, seed=seed, nonce=f"search {seed}", start=args.start)
            with rehearsed_run(trial, Unwatched(), tabulate=tabulate) as run:
                result = run.measure("tier1")
                costs.append(sum(phase.end_ns - phase.start_ns for phase in run.phases) / 1e9)
            truth = capacity(settings, seed, tabulate) if args.paired else SHAPES[name].capacity
            answers.append(result.agents)
            near += result.agents is not None and abs(result.agents / truth - 1) <= NEAR
            if result.interval is not None:
                intervals += 1
                ends = result.interval.low, result.interval.high
                covered += (ends[0] or 0) <= truth <= (math.inf if ends[1] is None else ends[1])
        cost_s = statistics.median(costs)
        print(
            f"{name:6} {args.ruleset:10} from {args.start}: {near} of {args.trials} within {NEAR:.0%} of "
            f"{'their own capacities' if args.paired else SHAPES[name].capacity}, "
            f"{covered} of {intervals} intervals hold it, median {cost_s:,.0f} s = {cost_s / official_s:.1%} of an "
            f"official search ({official_s:,.0f} s); "
            f"{(time.process_time() - begun_s) / args.trials:.1f} s of CPU a trial; {answers}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
