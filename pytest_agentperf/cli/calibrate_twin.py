"""`agentperf calibrate-twin`: fit a system's engine model to results that were measured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.fit_text import fit_json, fit_text
from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.rewrite import rewritten
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.rehearsal import tabulated
from pytest_agentperf.twin import POWER, Fit, Free, Twin, value_at
from pytest_agentperf.twin_results import Measured, measured, read_entry

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.config.system import Deployment
    from pytest_agentperf.core.leaderboard import Entry
    from pytest_agentperf.tabulation import TabulatedDataset

HELP = "fit a system's model to a leaderboard, report the fit, and write a system with the fitted model"
_DEFAULT_FREE = ("step_per_sequence_ms", "prefill_tokens_per_s", POWER)
_SPAN = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("system", metavar="NAME|PATH", help="a system with a `simulate:` block to begin from")
    parser.add_argument(
        "--results", type=Path, required=True, metavar="LEADERBOARD", help="a run's leaderboard.json"
    )
    parser.add_argument("--suite", help="the suite's name or path (default: the results')")
    parser.add_argument("--deployment", help="only this deployment (default: all that have results)")
    parser.add_argument(
        "--free",
        action="append",
        default=[],
        metavar="NAME[=LOW:HIGH]",
        help=f"a parameter to fit, as prefill_pool.step_base_ms; repeatable (default: {', '.join(_DEFAULT_FREE)}; "
        f"bounds: {_SPAN:g} times less and more than now)",
    )
    parser.add_argument("--dataset", help="a dataset instead of the suite's")
    parser.add_argument(
        "--phases", type=int, default=4, metavar="K", help="compare at most so many phases (%(default)s)"
    )
    parser.add_argument(
        "--evaluations", type=int, default=60, metavar="E", help="try at most so many models (%(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help="the new system's file (default: NAME-fitted.yaml here)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Fit, write and print."""
    for name in ("phases", "evaluations"):
        if getattr(args, name) < 1:
            raise ConfigError(f"{getattr(args, name)}", where=f"--{name}", remedy="give at least 1")
    path = find_system_file(args.system, start=Path.cwd())
    system = load_system(path)
    output: Path = args.output or Path(f"{system.name}-fitted.yaml")
    _refuse_to_overwrite(output)
    suite = Path(args.suite) if args.suite else None
    entry = read_entry(args.results, suite=suite.name if suite else None, system=system.name)
    settings = _settings(args, entry, path)
    chosen = {
        name: (deployment, found)
        for name, deployment in system.deployments.items()
        if args.deployment in (None, name)
        and deployment.simulate is not None
        and (found := measured(entry, name, at_most=args.phases)) is not None
    }
    if not chosen:
        raise ConfigError(
            f"no deployment of {path} has both a `simulate:` block and valid phases in these results",
            where=str(args.results),
            remedy=f"name it as in the results: {', '.join(sorted({p.deployment for p in entry.phases})) or 'none'}",
        )
    dataset = tabulated(settings, lambda done, total: None)
    if dataset.prepared.digest != entry.dataset.digest:
        raise ConfigError(
            f"the results are of another dataset: {entry.dataset.name}, digest {entry.dataset.digest[:12]}…",
            where=str(settings.dataset_path),
            remedy="name that one with --dataset",
        )
    fits = {
        name: _fit(args, settings, name, deployment, found, dataset)
        for name, (deployment, found) in chosen.items()
    }
    values = {
        ("deployments", name, "simulate", *parameter.split(".")): after
        for name, fit in fits.items()
        for parameter, (_, after) in fit.parameters.items()
    }
    text = rewritten(path.read_text(encoding="utf-8"), values, where=str(path))
    begun = f"# Fitted by agentperf calibrate-twin to {args.results.name} of {entry.submitter}"
    with output.open("x", encoding="utf-8") as file:
        file.write(f"{begun}; begun from {path.name}.\n{text}")
    load_system(output)
    if args.json:
        print(json.dumps({"output": str(output), **fit_json(fits, chosen_phases(chosen))}, indent=2))
    else:
        print(fit_text(fits, chosen_phases(chosen)))
        print(f"written: {output}")
    return 0


def chosen_phases(chosen: dict[str, tuple[Deployment, Measured]]) -> dict[str, Measured]:
    """Return what was measured, by deployment."""
    return {name: found for name, (_, found) in chosen.items()}


def _refuse_to_overwrite(output: Path) -> None:
    if output.exists():
        raise ConfigError("it exists already", where=str(output), remedy="name another with --output")


def _settings(args: argparse.Namespace, entry: Entry, path: Path) -> RunSettings:
    name = args.suite or entry.suite["name"]
    suite = Path(name) if Path(name).exists() else SUITES / name
    options = RunOptions(
        dataset=args.dataset,
        edition=entry.edition,
        output_length=entry.output_length,
        seed=entry.seeds.assignment_seed,
        nonce="calibrate-twin",
        rehearse=True,
    )
    # The rules of the results, whatever they were: phases must be as long, and end as they did.
    return replace(resolve(suite, path, options, start=Path.cwd()), ruleset=entry.ruleset)


def _fit(
    args: argparse.Namespace,
    settings: RunSettings,
    name: str,
    deployment: Deployment,
    found: Measured,
    dataset: TabulatedDataset,
) -> Fit:
    assert deployment.simulate is not None
    if found.accelerators and found.accelerators != deployment.allocated_accelerators:
        raise ConfigError(
            f"the results are of {found.accelerators} accelerators, the system has "
            f"{deployment.allocated_accelerators}",
            where=f"deployments.{name}.allocated_accelerators",
            remedy="begin from a system of the same size",
        )
    powered = any(one.power_w is not None for one in found.phases)
    free = [
        _free(text, value_at(deployment.simulate, text.partition("=")[0]))
        for text in args.free or _DEFAULT_FREE
        if args.free or powered or text != POWER
    ]

    def tell(number: int, rms: float) -> None:
        print(f"{name}: model {number}, residual {rms:.3f}", file=sys.stderr, flush=True)

    twin = Twin(settings, name, found.phases, found.capacities, dataset)
    return twin.fit(free, evaluations=args.evaluations, on_evaluation=tell)


def _free(text: str, value: float) -> Free:
    name, given, bounds = text.partition("=")
    if not given:
        return Free(name, value / _SPAN, value * _SPAN)
    low, _, high = bounds.partition(":")
    try:
        free = Free(name, float(low), float(high))
    except ValueError:
        free = Free(name, 0.0, 0.0)
    if not 0 <= free.low < free.high < float("inf"):
        raise ConfigError(f"no bounds: {text!r}", where="--free", remedy="write NAME=LOW:HIGH, as 0.5:2")
    return free
