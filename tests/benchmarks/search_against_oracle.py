"""What many seeded searches of small simulated systems answer, beside brute force: run it, read it.

    python tests/benchmarks/search_against_oracle.py [--searches 200] [--seeds 40] [--resolution 0.1]

For engines that give out for different reasons: the capacity by brute force over N with so many seeds each, and the
distribution of the search's answers, each with other answers, jitter and isolation prefixes, everything in virtual
time. A search takes about 0.2 s of CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))

from virtual_system import SHAPES, Shape, Watch, brute_force, settings_for, virtual_run

if TYPE_CHECKING:
    from pytest_agentperf.core.pass_curve import PassCurve

COLUMNS = (
    "engine", "crossing", "95 % interval", "capacity", "answers", "mean", "sd", "bias", "exact", "within a step",
    "passes again", "phases",
)  # fmt: skip


def search(shape: Shape, seed: int, resolution: float) -> tuple[int | None, int]:
    """Return a search's answer and how many phases it took."""
    watch = Watch()
    settings = settings_for(shape, nonce=f"search {seed}", resolution=resolution)
    with virtual_run(settings, watch) as run:
        result = run.measure(shape.tier.name)
    return result.agents if result.complete else None, len(watch.started)


def row(shape: Shape, curve: PassCurve, found: list[tuple[int | None, int]], resolution: float) -> list[str]:
    answers = [agents for agents, _ in found if agents is not None]
    capacity = curve.capacity
    step = max(1, int(resolution * capacity))
    probability = {point.n_agents: point.probability for point in curve.points}
    counts = Counter(answers)
    shares = [f"{n}: {counts[n]}" for n in sorted(counts)]
    if len(answers) < len(found):
        shares.append(f"none: {len(found) - len(answers)}")
    return [
        shape.name,
        f"{curve.crossing:.2f}",
        f"{curve.low:.2f} to {curve.high:.2f}",
        str(capacity),
        ", ".join(shares),
        f"{statistics.fmean(answers):.2f}",
        f"{statistics.stdev(answers):.2f}",
        f"{statistics.fmean(answers) - capacity:+.2f}",
        f"{counts[capacity] / len(found):.1%}",
        f"{sum(abs(n - capacity) <= step for n in answers) / len(found):.1%}",
        f"{statistics.fmean(probability[n] for n in answers):.1%}",
        f"{statistics.fmean(phases for _, phases in found):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=40, help="of the brute force, per N (%(default)s)")
    parser.add_argument(
        "--resolution", type=float, default=0.0, help="of the search (%(default)s: to an agent)"
    )
    parser.add_argument("--only", default="", help="engines whose name contains this")
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for shape in SHAPES:
        if options.only not in shape.name:
            continue
        curve = brute_force(shape, options.seeds)
        found = [search(shape, seed, options.resolution) for seed in range(options.searches)]
        print("| " + " | ".join(row(shape, curve, found, options.resolution)) + " |", flush=True)
        passes = [f"{point.n_agents}: {point.passes}/{point.trials}" for point in curve.points]
        print(f"  brute force: {', '.join(passes)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
