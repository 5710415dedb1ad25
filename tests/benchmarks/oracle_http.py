"""The search over real HTTP against brute force in virtual time: run it, read it.

    python tests/benchmarks/oracle_http.py [--searches 2] [--seeds 15]

For three engines that give out for different reasons: the band that brute force over N finds ("all seeds pass up
to …, none from …"), and what the whole product reports over loopback. Takes a few minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))

from virtual_system import SHAPES, brute_force, settings_for

from pytest_agentperf.capacity import CapacityRun

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun


class Probes:
    """Notes what was probed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def dataset_progress(self, done: int, total: int) -> None:
        """Nothing."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Nothing."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Nothing."""

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        result = run.result
        self.lines += [f"{result.n_agents}{'+' if v.verdict == 'PASS' else '-'}" for v in result.verdicts]
        return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=15)
    args = parser.parse_args()
    right = True
    for shape in SHAPES:
        band = brute_force(shape, args.seeds)
        print(
            f"{shape.name}: all pass up to {band.all_pass_up_to}, none from {band.none_pass_from}", flush=True
        )
        for _ in range(args.searches):
            probes = Probes()
            with CapacityRun(settings_for(shape), probes) as run:
                result = run.measure("tier1")
            ok = result.agents is not None and band.contains(result.agents)
            right &= ok
            print(
                f"  search over HTTP: {result.agents} agents, {'agrees' if ok else 'DISAGREES'} "
                f"(binding: {result.binding_constraint}; probes {' '.join(probes.lines)})",
                flush=True,
            )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
