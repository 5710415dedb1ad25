"""How often a gate is right that replays its baseline's trajectories, for an engine whose cache thrashes at its limit.

    python tests/benchmarks/paired_gate_trials.py [--seeds 50] [--repeats 20] [--first 0] [--ruleset nightly/1]

Where the sum of a few contexts decides, the capacity differs from seed to seed by more than a gate's tolerance, so that
one truth for all seeds says nothing. Here each seed has its own: where half of the phases keep the targets over a whole
window of two hours, by going up after each that does and down after each that does not (Dixon and Mood 1948). Gates
with that seed are asked about 5 % below it and 5 % above it; from one phase to the next the answers and the jitter
differ, here as there.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from gate_trials import OFF, SHAPES, gate, settings_for

from pytest_agentperf.core.pass_curve import pass_curve
from pytest_agentperf.oracle import Unwatched
from pytest_agentperf.rehearsal import rehearsed_run, tabulated_once

if TYPE_CHECKING:
    from gate_trials import Trial

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.rehearsal import Tabulate

SHAPE = "cache"
_WHOLE_S = 7_200.0
_STEP = 3
_PHASES = 16


def keeps_targets(settings: RunSettings, n_agents: int, seed: int, nonce: str, tabulate: Tabulate) -> bool:
    """Say whether the percentiles of a whole window keep their targets."""
    rules = settings.ruleset
    whole = {
        "min_window_s": _WHOLE_S,
        "pass_window_min_s": _WHOLE_S,
        "window_max_s": _WHOLE_S,
        "warmup_agents": 0,
    }
    trial = replace(settings, seed=seed, nonce=nonce, ruleset=rules.model_copy(update=whole))
    with rehearsed_run(trial, Unwatched(), tabulate=tabulate) as run:
        (judged,) = run.run_fixed("all", n_agents).verdicts
    # Where nobody got an answer there is no margin.
    return all(margin is not None and margin >= 0 for margin in (judged.speed_margin, judged.ttft_margin))


def capacity(settings: RunSettings, seed: int, tabulate: Tabulate) -> float:
    """Return with how many agents half of the phases with this seed keep the targets."""
    found: dict[int, list[bool | None]] = {}
    n_agents = round(SHAPES[SHAPE].capacity)
    for number in range(_PHASES):
        passed = keeps_targets(settings, n_agents, seed, f"truth {seed} {number}", tabulate)
        found.setdefault(n_agents, []).append(passed)
        n_agents += _STEP if passed else -_STEP
    if len({passed for verdicts in found.values() for passed in verdicts}) == 1:
        raise SystemExit(f"seed {seed}: the edge lies beyond the {min(found)} to {max(found)} agents tried")
    return pass_curve(found).crossing


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--repeats", type=int, default=20, help="gates per seed and threshold")
    parser.add_argument("--ruleset", default="nightly/1")
    args = parser.parse_args()
    tabulate = tabulated_once()
    settings = settings_for(SHAPE, args.ruleset)
    trials: dict[str, list[Trial]] = {"PASS": [], "FAIL": []}
    for seed in range(args.first, args.first + args.seeds):
        edge = capacity(settings, seed, tabulate)
        thresholds = {"PASS": math.floor(edge / (1 + OFF)), "FAIL": math.ceil(edge / (1 - OFF))}
        for expected, threshold in thresholds.items():
            found = [
                gate(settings, threshold, seed, tabulate, nonce=f"paired {seed} {i}")
                for i in range(args.repeats)
            ]
            trials[expected] += found
            print(
                f"seed {seed}: {edge:.1f} agents; {threshold}, should {expected}: "
                f"{dict(Counter(trial.verdict for trial in found))}",
                flush=True,
            )
    for expected, found in trials.items():
        print(
            f"{SHAPE} {args.ruleset}, should {expected}: {dict(Counter(trial.verdict for trial in found))} of "
            f"{len(found)}; median {statistics.median(trial.steady_s for trial in found):,.0f} s, phases "
            f"{dict(Counter(trial.phases for trial in found))}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
