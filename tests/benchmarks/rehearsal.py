"""How fast a rehearsal is: wall seconds per phase, and microseconds per request in the engine and outside of it.

    python tests/benchmarks/rehearsal.py --system gb300 [--suite deepseek_v4_pro] [--tier tier1] [--agents 1840]

With `--agents` one phase at that number, else the whole search. The engine's calls are timed one by one, which costs
about half a microsecond each, counted as "outside"; `--untimed` leaves that out. A compiled engine's cannot be timed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.rehearsal import rehearsed_run
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.software import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun


class Watch:
    """Prints a line per phase."""

    def __init__(self) -> None:
        self.engine_s = 0.0
        self.requests = 0
        self.virtual_s = 0.0
        self.wall_s = 0.0

    def dataset_progress(self, done: int, total: int) -> None: ...

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        self._begun_s = time.process_time()
        self._engine_begun_s = self.engine_s

    def phase_status(self, status: PhaseStatus) -> None: ...

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        wall_s = time.process_time() - self._begun_s
        engine_s = self.engine_s - self._engine_begun_s
        result, n = run.result, max(1, len(run.columns))
        virtual_s = (result.end_ns - result.start_ns) / 1e9
        self.requests += n
        self.virtual_s += virtual_s
        self.wall_s += wall_s
        m = result.metrics
        print(
            f"{result.kind:8}{result.n_agents:6} agents {virtual_s / 3600:6.2f} h in {wall_s:7.2f} s, {n:8,} requests, "
            f"µs each: engine {engine_s / n * 1e6:6.1f} outside {(wall_s - engine_s) / n * 1e6:6.1f}  "
            + (f"P25 {m.output_speed_p25_tok_s:6.1f} P95 {m.ttft_p95_s} s " if m else "")
            + " ".join(f"{v.tier} {v.verdict}" for v in result.verdicts),
            flush=True,
        )
        return result


def time_engine(watch: Watch) -> None:
    def timed(name: str) -> None:
        plain: Callable[..., Any] = getattr(Engine, name)

        def call(*args: Any) -> Any:
            begun = time.process_time()
            found = plain(*args)
            watch.engine_s += time.process_time() - begun
            return found

        setattr(Engine, name, call)

    for name in ("submit", "advance", "cancel", "stats"):
        timed(name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", default="sim")
    parser.add_argument("--suite", default="deepseek_v4_pro")
    parser.add_argument("--tier", default="tier1")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--ruleset")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--untimed", action="store_true")
    args = parser.parse_args()
    if compiled() and not args.untimed:
        parser.error("this package is compiled, and its calls cannot be timed: use --untimed")
    system = find_system_file(args.system, start=Path.cwd())
    options = RunOptions(ruleset=args.ruleset, overrides=tuple(args.set), tiers=(args.tier,), nonce="0")
    settings = resolve(SUITES / args.suite, system, options, start=Path.cwd())
    watch = Watch()
    if not args.untimed:
        time_engine(watch)
    begun_s = time.process_time()
    with rehearsed_run(settings, watch) as run:
        if args.agents:
            found = settings.deployment_for(args.tier)
            assert found is not None
            run.run_fixed(found[0], args.agents)
        else:
            result = run.measure(args.tier)
            print(f"{result.agents} agents")
    all_s = time.process_time() - begun_s
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{watch.virtual_s / 3600:.1f} virtual hours, {watch.requests:,} requests: {watch.wall_s:.1f} s "
        f"({watch.wall_s / watch.requests * 1e6:.1f} µs each), with the dataset {all_s:.1f} s; peak {peak_mib:,.0f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
