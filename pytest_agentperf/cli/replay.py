"""`agentperf replay`: one phase at a fixed number of agents against any endpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.cli.phase_display import PhaseDisplay
from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.run import RunOptions, RunSettings, settle
from pytest_agentperf.config.suite import FILE_NAME, load_suite
from pytest_agentperf.config.system import (
    Accelerator,
    Deployment,
    Endpoint,
    Serving,
    Submitter,
    System,
    load_system,
)
from pytest_agentperf.core.errors import ConfigError, LoadError
from pytest_agentperf.deploy.lock import SystemLock
from pytest_agentperf.opening import NotRunnable, opener
from pytest_agentperf.results.phase_text import result_text
from pytest_agentperf.results.records_file import write_records
from pytest_agentperf.results.tables import number

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.deployed import PhaseRun

HELP = "run one phase at a fixed number of agents against any endpoint, records to a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--url", help="base URL of an OpenAI-compatible API, as http://127.0.0.1:8000/v1")
    target.add_argument("--system", metavar="NAME|PATH", help="a system; its first deployment for the suite")
    parser.add_argument("--agents", type=int, required=True, metavar="N", help="how many agents")
    parser.add_argument(
        "--suite", default="deepseek_v4_pro", help="a bundled suite's name or a path (%(default)s)"
    )
    parser.add_argument("--model", help="the name that the endpoint serves (default: the suite's model)")
    parser.add_argument("--framework", default="default", help="whose request parameters (vllm, sglang, …)")
    parser.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the API key")
    parser.add_argument("--dataset", help="a dataset instead of the suite's")
    parser.add_argument("--ruleset", default="demo/1", help="the rules of the phase (%(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="RULE=VALUE", help="change one rule; repeatable"
    )
    parser.add_argument("--output-length", choices=("natural", "exact"), help="how long answers are")
    parser.add_argument("--seed", type=int, default=0, help="seed of the assignment (%(default)s)")
    parser.add_argument(
        "--workers", type=int, help="load worker processes (default: as many as the agents need)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("replay.parquet"), help="records file (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the phase, write its records and print its numbers."""
    if args.agents < 1:
        raise ConfigError(f"{args.agents} agents", where="--agents", remedy="give at least 1")
    if args.output.exists():
        raise ConfigError("it exists already", where=str(args.output), remedy="choose another --output")
    if not args.output.parent.is_dir():
        raise ConfigError("no such folder", where=str(args.output.parent), remedy="choose another --output")
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"{args.workers} workers", where="--workers", remedy="give at least 1")
    settings = _settings(args)
    deployment = next((found[0] for tier in settings.tiers if (found := settings.deployment_for(tier))), None)
    if deployment is None:
        raise ConfigError(
            f"the system has no deployment for suite {settings.suite.name}",
            where=str(settings.system_path),
            remedy="add one, or use --url",
        )
    display = _Display(args.output)
    # A URL alone says nothing of what else runs there; a system is measured by one run at a time.
    lock = contextlib.nullcontext() if args.system is None else SystemLock(settings)
    open_ = opener(settings, logs=lambda: args.output.parent, on_progress=display.server_progress)
    with lock, CapacityRun(settings, display, open_=open_) as capacity:
        try:
            result = capacity.run_fixed(deployment, args.agents)
        except NotRunnable as reason:
            raise ConfigError(str(reason)) from None
        finally:
            display.end()
    _print_result(settings, result, args.output)
    return 1 if result.invalid or result.metrics is None else 0


def _settings(args: argparse.Namespace) -> RunSettings:
    suite_path = Path(args.suite) if Path(args.suite).exists() else SUITES / args.suite
    suite_file = suite_path / FILE_NAME if suite_path.is_dir() else suite_path
    suite = load_suite(suite_file)
    options = RunOptions(
        ruleset=args.ruleset,
        overrides=tuple(args.set),
        dataset=args.dataset,
        output_length=args.output_length,
        seed=args.seed,
        workers=args.workers,
    )
    if args.system is not None:
        path = find_system_file(args.system, start=Path.cwd())
        return settle(suite, suite_file, load_system(path), path, options, start=Path.cwd())
    system = System(
        name="replay",
        title=args.url,
        accelerator=Accelerator(name="unknown", vendor="unknown"),
        submitter=Submitter(name="unknown"),
        deployments={
            "replay": Deployment(
                endpoint=_endpoint(args),
                allocated_accelerators=1,
                serving=Serving(framework=args.framework),
            )
        },
    )
    return settle(suite, suite_file, system, Path("the command line"), options, start=Path.cwd())


def _endpoint(args: argparse.Namespace) -> Endpoint:
    """Return the endpoint of the flags; raises ConfigError, without the value, which may hold a key."""
    try:
        return Endpoint(url=args.url, api_key_env=args.api_key_env, model=args.model)
    except ValidationError as invalid:
        first = invalid.errors(include_input=False, include_url=False, include_context=False)[0]
        raise ConfigError(
            first["msg"].removeprefix("Value error, "),
            where="--" + str(first["loc"][0]).replace("_", "-"),
            remedy="correct it (not shown here)",
        ) from None


class _Display(PhaseDisplay):
    """Writes the fixed phase's records to the file."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self._output = output

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """Write the records."""
        result = super().phase_finished(run)
        if result.kind == "warmup":
            return result
        try:
            write_records(self._output, result, run.columns)
        except OSError as error:
            raise LoadError(
                f"the records cannot be written: {error.strerror or error}",
                where=str(self._output),
                remedy="make room or choose another --output, and run again",
            ) from None
        return result.model_copy(update={"records": str(self._output)})


def _print_result(settings: RunSettings, result: PhaseResult, output: Path) -> None:
    print(result_text(result))
    m = result.metrics
    if m is not None:
        print(f"  requests {m.requests} in a window of {m.window_s:.1f} s, failed: {m.failures or 'none'}")
        print(
            f"  TTFT P50 {number(m.ttft_p50_s, 3, otherwise='∞')} s, P95 {number(m.ttft_p95_s, 3, otherwise='∞')} s"
        )
        print(
            f"  output speed P25 {number(m.output_speed_p25_tok_s)} tok/s,"
            f" P50 {number(m.output_speed_p50_tok_s)} tok/s; throughput {number(m.throughput_tok_s)} tok/s"
        )
        share = "unknown" if m.cached_share is None else f"{m.cached_share:.1%}"
        print(f"  prompt tokens from the cache: {share}; trajectories completed: {m.trajectories_completed}")
    for deviation in settings.deviations:
        print(f"  deviation: {deviation.rule} {deviation.expected} → {deviation.actual}")
    print(f"records: {output}")
