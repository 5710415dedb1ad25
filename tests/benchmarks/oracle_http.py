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

from virtual_system import DEMO_SET, SHAPES, Shape, VirtualSystem, brute_force

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.run import RunOptions, RunSettings, settle
from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.core.records import RequestColumns


def settings_for(shape: Shape) -> RunSettings:
    suite = Suite.model_validate(
        {
            "name": "oracle",
            "title": "oracle",
            "model": "sim",
            "max_context_tokens": 131_072,
            "max_tokens": 16_384,
            "history_reasoning": "all",
            "edition": "1",
            "editions": {
                "1": {"source": "tests", "tiers": {"tier1": shape.tier.model_dump(exclude={"name"})}}
            },
            "sampling": {
                "parameters": {},
                "source": "tests",
                "max_effort": {"default": {"parameters": {}, "source": "tests"}},
            },
            "dataset": "bundled:demo-v1",
            "ruleset": "demo/1",
        }
    )
    system = System.model_validate(
        {
            "name": "sim",
            "title": shape.name,
            "accelerator": {"name": "simulated", "vendor": "none"},
            "submitter": {"name": "tests"},
            "overrides": {"resolution": 0.0},
            "deployments": {
                "all": {
                    "endpoint": {"builtin": "sim"},
                    "allocated_accelerators": shape.engine.accelerators,
                    "serving": {"framework": "sim"},
                    "simulate": shape.engine.model_dump(),
                }
            },
        }
    )
    options = RunOptions(dataset=str(DEMO_SET))
    return settle(suite, Path("suite.yaml"), system, Path("sim.yaml"), options, start=Path.cwd())


class Probes:
    """Notes what was probed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Nothing."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Nothing."""

    def phase_finished(self, result: PhaseResult, columns: RequestColumns) -> PhaseResult:
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
        nonces = [f"brute-{seed}" for seed in range(args.seeds)]
        band = brute_force(VirtualSystem(shape.engine), shape.tier, shape.n_max, nonces)
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
