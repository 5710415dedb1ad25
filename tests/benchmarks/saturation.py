"""Whether the product tells a slow server from a slow client: run it, read it.

    python tests/benchmarks/saturation.py [--agents N] [--seconds 10] [--throttle signals|quota]

One phase each, by the product's own run and against its simulated server: with a fast server, to compare; (a) with
a server that is slow by itself, where the phase must stay valid whatever its verdict; (b) with the fast server and
the load worker held to 10 % of a core, where it must be INVALID for `load_generator_saturated`. `signals` stops the
worker for 180 ms of every 200; `quota` gives it 10 ms of CPU in every 100 ms (needs a writable cpu cgroup), which
binds only if the load needs more. Takes about a minute and a half.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.run import RunOptions, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun

SUITE, DEPLOYMENT = "deepseek_v4_pro", "v4-pro"
STOPPED_S, RUNNING_S = 0.18, 0.02
LATENESS = ("lag_p99_s", "send_late_p99_s", "lag_max_s")
QUOTA_US, PERIOD_US = 10_000, 100_000


class Case(NamedTuple):
    """A server, and whether the load worker is throttled."""

    name: str
    engine: Mapping[str, float]
    throttled: bool


# A step that grows with the batch: the more agents, the slower each.
SLOW = {"step_base_ms": 40.0, "step_per_sequence_ms": 1.0, "prefill_tokens_per_s": 40_000.0}
FAST = {"step_base_ms": 10.0, "step_per_sequence_ms": 0.05, "prefill_tokens_per_s": 1e8}
CASES = (
    Case("fast server, free client", FAST, throttled=False),
    Case("slow server, free client", SLOW, throttled=False),
    Case("fast server, client at 10 % of a core", FAST, throttled=True),
)


class Throttle:
    """Holds processes back from `start` to `stop`."""

    def __init__(self, how: str) -> None:
        self._how = how
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._quota = contextlib.ExitStack()

    def start(self, pids: list[int]) -> None:
        if self._how == "quota":
            self._quota.enter_context(cpu_quota(pids))
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._stop_and_go, args=(pids,))
        self._thread.start()

    def stop(self) -> None:
        self._quota.close()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _stop_and_go(self, pids: list[int]) -> None:
        try:
            while not self._stop.is_set():
                send(signal.SIGSTOP, pids)
                self._stop.wait(STOPPED_S)
                send(signal.SIGCONT, pids)
                self._stop.wait(RUNNING_S)
        finally:
            send(signal.SIGCONT, pids)


class Watch:
    """Throttles the load worker while the fixed phase runs."""

    def __init__(self, throttle: Throttle | None) -> None:
        self.throttle = throttle
        self._started = False

    def dataset_progress(self, done: int, total: int) -> None:
        """Nothing."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        # The warm-up before has opened the pool.
        if kind == "fixed" and self.throttle is not None:
            pids = load_workers()
            print(f"  throttled: {len(pids)} load worker", flush=True)
            self.throttle.start(pids)

    def phase_status(self, status: PhaseStatus) -> None:
        """Nothing."""

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        if self.throttle is not None:
            self.throttle.stop()
        return run.result


def load_workers() -> list[int]:
    """Return the child processes of this one that are not its simulated server."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True
    )
    found = []
    for line in table.stdout.splitlines():
        pid, parent, command = line.split(None, 2)
        ours = int(parent) == os.getpid() and "sys.stdin.readline" in command
        if ours and "pytest_agentperf.sim" not in command:
            found.append(int(pid))
    return found


def send(signal_: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_)


@contextlib.contextmanager
def cpu_quota(pids: list[int]) -> Iterator[None]:
    """Hold processes to a quota of CPU time; raises OSError where no cpu cgroup can be made."""
    first = Path("/sys/fs/cgroup/cpu")
    root = first if first.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"agentperf-saturation-{os.getpid()}"
    group.mkdir()
    try:
        if root == first:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(QUOTA_US))
        else:
            (group / "cpu.max").write_text(f"{QUOTA_US} {PERIOD_US}")
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(OSError):
                (root / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def settings_for(case: Case, seconds: float) -> RunSettings:
    """Resolve a run of the bundled simulated system under `demo/1`, with the case's engine."""
    options = RunOptions(overrides=(f"min_window_s={seconds}",), workers=1)
    system_path = find_system_file("sim", start=Path.cwd())
    settings = resolve(SUITES / SUITE, system_path, options, start=Path.cwd())
    deployment = settings.system.deployments[DEPLOYMENT]
    assert deployment.simulate is not None
    engine = deployment.simulate.model_copy(
        update={
            **case.engine,
            "output_tokens_median": 24.0,
            "output_tokens_p95": 48.0,
            "max_batch": 10_000,
        }
    )
    # The settings are frozen; their deployments are a dictionary.
    settings.system.deployments[DEPLOYMENT] = deployment.model_copy(update={"simulate": engine})
    return settings


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--agents", type=int, help="default: 40, with a quota 100, which must need more than it"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of the phase's window (%(default)s)")
    parser.add_argument("--throttle", choices=("signals", "quota"), default="signals")
    args = parser.parse_args()
    n_agents = args.agents or (100 if args.throttle == "quota" else 40)
    right = True
    for case in CASES:
        print(case.name, flush=True)
        settings = settings_for(case, args.seconds)
        watch = Watch(Throttle(args.throttle) if case.throttled else None)
        try:
            with CapacityRun(settings, watch) as run:
                result = run.run_fixed(DEPLOYMENT, n_agents)
        finally:
            if watch.throttle is not None:
                watch.throttle.stop()
        print_result(result, settings.ruleset.client_lag_p99_max_s)
        codes = {reason.code for reason in result.invalid}
        agrees = "load_generator_saturated" in codes if case.throttled else not codes
        right &= agrees
        print(f"  {'as it should be' if agrees else 'WRONG'}", flush=True)
    return 0 if right else 1


def print_result(result: PhaseResult, limit_s: float) -> None:
    metrics = result.metrics
    if metrics is not None:
        ttft_s = metrics.ttft_p95_s or float("inf")
        print(
            f"  {metrics.requests} requests in {metrics.window_s:.1f} s, TTFT P95 {ttft_s:.3f} s,"
            f" output speed P25 {metrics.output_speed_p25_tok_s:.1f} tok/s"
        )
    late = ", ".join(f"{name} {(getattr(result.load, name) or 0.0) * 1e3:.1f} ms" for name in LATENESS)
    print(
        f"  load worker: {late} (limit {limit_s * 1e3:.0f} ms),"
        f" {result.load.cpu_share_max or 0.0:.1%} of a core"
    )
    print(
        "  verdicts: " + ", ".join(f"{verdict.tier} {verdict.verdict.value}" for verdict in result.verdicts)
    )
    for reason in result.invalid:
        print(f"  invalid: {reason.code}: {reason.what}")


if __name__ == "__main__":
    sys.exit(main())
