"""`agentperf doctor`: could a run be valid here, and if not, what to do; as a checklist, before anything is spent."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.cli.load_hosts import load_table
from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.core.checks import SIGNS, Check, failures, ok, skipped, warning
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06, find_ruleset
from pytest_agentperf.deploy.lock import SystemLock
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.host_checks import check_host
from pytest_agentperf.opening import NotRunnable, Opening, load_hosts_of, max_prompt_tokens
from pytest_agentperf.results.phase_text import dataset_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

HELP = "check host, endpoint, dataset and power before a run: could it be valid, and if not, what to do"
_PACKAGES = {
    "pynvml": ("nvidia-ml-py", "power of NVIDIA devices of this host (`power.source: nvml`)"),
    "amdsmi": ("amdsmi", "power of AMD devices of this host (`power.source: amdsmi`)"),
    "tokenizers": ("tokenizers", "token counts by the model's own tokenizer"),
    "xdist": ("pytest-xdist", "several systems at once (`-n`)"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument(
        "--system", metavar="NAME|PATH", help="the system to check; without it this host only"
    )
    parser.add_argument(
        "--suite", default="deepseek_v4_pro", help="a bundled suite's name or a path (%(default)s)"
    )
    parser.add_argument(
        "--tier", action="append", default=[], help="only the deployment of this tier; repeatable"
    )
    parser.add_argument("--dataset", help="a dataset instead of the suite's")
    parser.add_argument("--ruleset", help="a ruleset instead of the system's or the suite's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="RULE=VALUE", help="change one rule; repeatable"
    )
    parser.add_argument("--output-length", choices=("natural", "exact"), help="how long answers are to be")
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="SPEC",
        help="where load workers are to run, as `2*ssh=user@host`: let them join and compare them; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Check, print the checklist, and return 1 if something failed."""
    found = {"this host": _host()} if args.system is None else _system(args)
    hosts = None
    if args.load:
        rules = find_ruleset(args.ruleset) if args.ruleset else AA_AGENTPERF_2026_06
        hosts = load_table(args.load, start=Path.cwd(), rules=rules)
        found["load hosts"] = hosts.checks
    if args.json:
        told = {name: [check.model_dump() for check in checks] for name, checks in found.items()}
        if hosts is not None:
            told["load table"] = [row._asdict() for row in hosts.rows]
        print(json.dumps(told, indent=2))
    else:
        if hosts is not None:
            print("\n".join([*hosts.lines(), ""]))
        print("\n".join(_lines(found)))
    return 1 if any(failures(checks) for checks in found.values()) else 0


def _host() -> list[Check]:
    return [*check_host(workers=None, agents=None), *_packages()]


def _packages() -> Iterator[Check]:
    for module, (package, purpose) in _PACKAGES.items():
        if find_spec(module) is not None:
            yield ok(package, f"installed: {purpose}")
        else:
            yield skipped(package, f"not installed: {purpose}", f"pip install {package}, if you need that")


def _system(args: argparse.Namespace) -> dict[str, list[Check]]:
    settings = _settings(args)
    found: dict[str, list[Check]] = {}
    # Its questions would disturb a run, and a run its answers.
    with SystemLock(settings):
        for tier in settings.selected:
            there = settings.deployment_for(tier)
            if there is None:
                found[f"{settings.system.name}, {tier}"] = [
                    warning(
                        "deployment",
                        "the system has none for this tier",
                        f"add one to {settings.system_path}",
                    )
                ]
            elif (title := f"{settings.system.name}, deployment {there[0]}") not in found:
                found[title] = _deployment(there[0], settings)
    return found


def _settings(args: argparse.Namespace) -> RunSettings:
    suite = Path(args.suite) if Path(args.suite).exists() else SUITES / args.suite
    options = RunOptions(
        ruleset=args.ruleset,
        overrides=tuple(args.set),
        dataset=args.dataset,
        tiers=tuple(args.tier),
        output_length=args.output_length,
        load=tuple(args.load),
    )
    here = Path.cwd()
    return resolve(suite, find_system_file(args.system, start=here), options, start=here)


def _deployment(name: str, settings: RunSettings) -> list[Check]:
    try:
        opening = Opening(name, settings, RealClock(), hosts=load_hosts_of(settings))
    except (NotRunnable, ConfigError) as error:
        return [*_host(), Check(name="endpoint", status="failed", what=str(error))]
    encoded: list[EncodedDataset] = []

    def encode() -> EncodedDataset:
        encoded.append(
            EncodedDataset(
                settings.dataset_path,
                max_prompt_tokens=max_prompt_tokens(settings),
                history_reasoning=settings.suite.history_reasoning,
                on_progress=lambda done, total: print(
                    f"{dataset_text(done, total)} …", file=sys.stderr, flush=True
                ),
            )
        )
        return encoded[0]

    try:
        opening.check(encode)
        return list(opening.checks)
    finally:
        opening.close()
        for dataset in encoded:
            dataset.close()


def _lines(found: Mapping[str, Sequence[Check]]) -> Iterator[str]:
    for title, checks in found.items():
        yield title
        width = max((len(check.name) for check in checks), default=0)
        for check in checks:
            yield f"  {SIGNS[check.status]} {check.name:<{width}}  {check.what}"
            if check.remedy and check.status != "ok":
                yield f"    {'':<{width}}→ {check.remedy}"
        yield ""
    statuses = [check.status for checks in found.values() for check in checks]
    bad, doubtful = statuses.count("failed"), statuses.count("warning")
    if bad:
        yield f"A run could not be valid: {bad} failed (✗), {doubtful} to know (!)."
    else:
        yield "Nothing stands in the way of a valid run" + (f"; {doubtful} to know (!)." if doubtful else ".")
