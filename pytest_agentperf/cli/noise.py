"""`agentperf noise`: how much runs of the same phase differ on a system, and what tolerance its gates need."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.baselines import read_baseline_file, write_baseline
from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.cli.files import writing
from pytest_agentperf.cli.phase_display import PhaseDisplay
from pytest_agentperf.config.bundled import SUITES, find_system_file
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.core.baseline import Baseline, Noise
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.errors import ConfigError, EndpointError
from pytest_agentperf.core.noise import DEVIATIONS, LEVEL, Answer, Metric, slope_of, spread_of, tier_noise
from pytest_agentperf.deploy.lock import SystemLock
from pytest_agentperf.opening import NotRunnable, opener
from pytest_agentperf.rehearsal import rehearsed_run
from pytest_agentperf.results.phase_text import result_text
from pytest_agentperf.results.tables import number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.baseline import TierBaseline
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.slo import SloTier

HELP = "repeat one phase and say how much runs differ, and the smallest tolerance that gates may have"

_FAR = 1.25
_NAMES = {"output_speed_p25": "P25 output speed", "ttft_p95": "P95 TTFT"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    parser.add_argument("--system", required=True, metavar="NAME|PATH", help="the system")
    parser.add_argument(
        "--suite", default="deepseek_v4_pro", help="a bundled suite's name or a path (%(default)s)"
    )
    parser.add_argument(
        "--agents", type=int, required=True, metavar="N", help="how many agents: near the baseline's"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="how often (%(default)s)")
    parser.add_argument(
        "--slope-agents",
        type=int,
        metavar="N",
        help="measure once with so many, to see what agents cost (default: a quarter more)",
    )
    parser.add_argument("--tier", action="append", default=[], help="only this tier; repeatable")
    parser.add_argument(
        "--restart", action="store_true", help="start a launched server anew for every repeat"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="write the noise of --tier into this file"
    )
    parser.add_argument("--ruleset", help="a ruleset instead of that of the suite's gates")
    parser.add_argument(
        "--set", action="append", default=[], metavar="RULE=VALUE", help="change one rule; repeatable"
    )
    parser.add_argument("--dataset", help="a dataset instead of the suite's")
    parser.add_argument("--seed", type=int, default=0, help="seed of the assignment (%(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="in virtual time, on the system's model")


def run(args: argparse.Namespace) -> int:
    """Repeat the phase, print what differs and write it where told to; raises ConfigError, EndpointError."""
    for name, least in (("agents", 1), ("repeats", 2)):
        if getattr(args, name) < least:
            raise ConfigError(f"{getattr(args, name)}", where=f"--{name}", remedy=f"give at least {least}")
    elsewhere = args.slope_agents or max(args.agents + 1, math.ceil(args.agents * 1.25))
    if elsewhere == args.agents or elsewhere < 1:
        raise ConfigError(f"{elsewhere}", where="--slope-agents", remedy="give another number than --agents")
    settings = _settings(args)
    tiers = _tiers(args, settings)
    baseline, known = _baseline(args, settings, tiers)
    marked = "SIMULATED: " if args.rehearse else ""
    print(
        f"{marked}{settings.suite.name} on {settings.system.name} under {settings.ruleset.id}: "
        f"{agents_count(args.agents)}, windows of {settings.ruleset.min_window_s:g} s, seed {args.seed}"
    )
    repeats, sloped = _measure(args, settings, next(iter(tiers.values())), elsewhere)
    speed, ttft = _metrics(repeats, sloped)
    _say("output_speed_p25", f"{number(speed.spread.mean)} tok/s", speed)
    _say("ttft_p95", f"{number(ttft.spread.mean, 3)} s", ttft)
    answers = {
        name: tier_noise(settings.tiers[name], speed=speed, ttft=ttft, n_agents=args.agents) for name in tiers
    }
    for name, answer in answers.items():
        print(_tier_text(settings.tiers[name], answer))
    untold = [name for name, answer in answers.items() if answer is None or answer.tolerance is None]
    if known and not untold:
        for name, answer in answers.items():
            assert answer is not None
            assert answer.tolerance is not None
            noise = Noise(
                n_agents=args.agents,
                repeats=len(repeats),
                output_speed_p25=speed.spread.deviation,
                ttft_p95=ttft.spread.deviation,
                tolerance_min=answer.tolerance,
            )
            baseline = baseline.accept(known[name].model_copy(update={"noise": noise}))
        _write(args.baseline, baseline)
    return 1 if untold else 0


def _settings(args: argparse.Namespace) -> RunSettings:
    suite = Path(args.suite) if Path(args.suite).exists() else SUITES / args.suite
    system = find_system_file(args.system, start=Path.cwd())
    options = RunOptions(
        ruleset=args.ruleset,
        # Windows of one length, the shortest that a gate's have: what ends early ends by what it saw.
        overrides=(*args.set, "error_rate=null"),
        dataset=args.dataset,
        tiers=tuple(args.tier),
        seed=args.seed,
        nonce="rehearsal" if args.rehearse else None,
        rehearse=args.rehearse,
    )
    settings = resolve(suite, system, options, start=Path.cwd())
    of_gates = settings.ruleset.gate_ruleset
    if args.ruleset is None and of_gates is not None:
        settings = resolve(suite, system, replace(options, ruleset=of_gates), start=Path.cwd())
    return settings


def _tiers(args: argparse.Namespace, settings: RunSettings) -> dict[str, str]:
    """Return the deployment of each tier that is asked for, of one deployment alone; raises ConfigError."""
    served = {tier: found[0] for tier in settings.selected if (found := settings.deployment_for(tier))}
    if not served or (args.tier and len(served) < len(settings.selected)):
        raise ConfigError(
            f"the system has no deployment for suite {settings.suite.name} {' '.join(args.tier)}".rstrip(),
            where=str(settings.system_path),
            remedy="add one, or choose another tier",
        )
    first = next(iter(served.values()))
    if args.tier and set(served.values()) != {first}:
        raise ConfigError(
            "these tiers are served by several deployments",
            where="--tier",
            remedy="measure the noise of one deployment at a time",
        )
    return {tier: name for tier, name in served.items() if name == first}


def _baseline(
    args: argparse.Namespace, settings: RunSettings, tiers: Iterable[str]
) -> tuple[Baseline, dict[str, TierBaseline]]:
    """Return the file to write to, and what stands in it for each tier; raises ConfigError."""
    if args.baseline is None:
        return Baseline(tiers=()), {}
    if not args.tier:
        raise ConfigError(
            "the noise at one number of agents is that of tiers whose capacity lies there",
            where="--baseline",
            remedy="name them with --tier",
        )
    baseline = read_baseline_file(args.baseline)
    known = {}
    for tier in tiers:
        found = baseline.find(settings.suite.name, settings.edition, settings.system.name, tier)
        if found is None:
            raise ConfigError(
                f"no baseline for {settings.suite.name} {tier} on {settings.system.name}",
                where=str(args.baseline),
                remedy="accept one with `agentperf baseline accept LEADERBOARD`",
            )
        if found.rehearsal != args.rehearse:
            raise ConfigError(
                f"the baseline of {tier} was {'rehearsed' if found.rehearsal else 'measured'}, and this is "
                f"{'a rehearsal' if args.rehearse else 'a measurement'}",
                where=str(args.baseline),
                remedy="a model's noise is not the system's: name another file",
            )
        if not 1 / _FAR <= args.agents / found.agents <= _FAR:
            raise ConfigError(
                f"{agents_count(args.agents)}, where the baseline of {tier} is {found.agents}: what differs there is "
                "not what its gate would see",
                where="--agents",
                remedy=f"measure near {found.agents}",
            )
        known[tier] = found
    return baseline, known


def _measure(
    args: argparse.Namespace, settings: RunSettings, deployment: str, elsewhere: int
) -> tuple[list[PhaseResult], PhaseResult]:
    """Return the repeats and the phase with another number of agents; raises EndpointError."""
    display = PhaseDisplay()
    open_ = opener(settings, logs=lambda: Path("agentperf-noise-logs"), on_progress=display.server_progress)
    lock = contextlib.nullcontext() if args.rehearse else SystemLock(settings)
    capacity = (
        rehearsed_run(settings, display) if args.rehearse else CapacityRun(settings, display, open_=open_)
    )
    retries = settings.ruleset.invalid_retries
    with lock, capacity:

        def phase(n_agents: int, name: str) -> PhaseResult:
            nonlocal retries
            while True:
                if args.restart:
                    capacity.close()
                result = capacity.run_fixed(deployment, n_agents)
                print(f"{name} {result_text(result)}", flush=True)
                if not result.invalid and None not in _values(result):
                    return result
                if not retries:
                    raise EndpointError(
                        f"{name}: {result.invalid[0] if result.invalid else 'a percentile is not finite'}",
                        where=settings.system.name,
                        remedy="noise is that of phases that count: see the reason, or measure with fewer agents",
                    )
                retries -= 1

        try:
            repeats = [
                phase(args.agents, f"repeat {number + 1} of {args.repeats}:")
                for number in range(args.repeats)
            ]
            return repeats, phase(elsewhere, "slope:")
        except NotRunnable as reason:
            raise ConfigError(str(reason)) from None
        finally:
            display.end()


def _values(phase: PhaseResult) -> tuple[float | None, float | None]:
    metrics = phase.metrics
    return (None, None) if metrics is None else (metrics.output_speed_p25_tok_s, metrics.ttft_p95_s)


def _metrics(repeats: Sequence[PhaseResult], sloped: PhaseResult) -> tuple[Metric, Metric]:
    """Return speed and TTFT."""
    found = []
    for place, rises in ((0, False), (1, True)):
        values = [value for phase in (*repeats, sloped) if (value := _values(phase)[place]) is not None]
        spread = spread_of(values[:-1])
        slope = slope_of(
            spread,
            values[-1],
            n_agents=repeats[0].n_agents,
            n_elsewhere=sloped.n_agents,
            rises=rises,
        )
        found.append(Metric(spread, slope))
    return found[0], found[1]


def _say(name: str, mean: str, metric: Metric) -> None:
    spread, slope = metric
    if not spread.deviation:
        print(f"{_NAMES[name]}: every repeat was alike, as of a model that draws nothing anew")
    print(
        f"{_NAMES[name]}: mean {mean}, spread {spread.deviation:.2%}, at most {spread.deviation_max:.2%} "
        f"({LEVEL:.0%}, {spread.repeats} repeats); 1% more agents make it {abs(slope.value):.2f}% "
        f"{'worse' if slope.value > 0 else 'better'} (at least {slope.low:.2f}%)"
    )


def _tier_text(tier: SloTier, answer: Answer | None) -> str:
    if answer is None:
        return f"{tier.name}: neither metric worsens with agents here: measure nearer to the capacity"
    what = _NAMES[answer.binding]
    if answer.tolerance is None:
        return (
            f"{tier.name}: no tolerance can be stated: what agents do to {what} is lost in its spread; give "
            "--slope-agents farther away, or more --repeats"
        )
    text = (
        f"{tier.name}: {what} binds; tolerance ≥ {answer.tolerance:.1%} ({DEVIATIONS:g} standard deviations, "
        "in agents, and at least one agent)"
    )
    if not 1 / _FAR < answer.reach < _FAR:
        text += f"; but its capacity lies at about {answer.reach:.1f} times as many agents: measure there"
    return text


def _write(path: Path, baseline: Baseline) -> None:
    with writing(path):
        write_baseline(path, baseline)
    print(f"baseline: {path}")
