"""`agentperf plan`: what a search will do and cost, before anything is spent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_agentperf.cli.modelled import add_target_arguments, settings_of
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.planning import Plan, Range, TierPlan, plan
from pytest_agentperf.results.tables import number, render

if TYPE_CHECKING:
    import argparse

HELP = "rehearse a search on a system's model: phases, hours, requests, tokens, energy and rent to expect"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_target_arguments(parser)
    parser.add_argument("--tier", action="append", default=[], help="only this tier; repeatable")
    parser.add_argument(
        "--rehearsals", type=int, default=3, metavar="N", help="whole searches to rehearse (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Rehearse and print; 1 if no tier could be planned."""
    if args.rehearsals < 1:
        raise ConfigError(f"{args.rehearsals}", where="--rehearsals", remedy="give at least 1")
    settings = settings_of(args, tuple(args.tier))

    def tell(rehearsal: int, kind: str, n_agents: int) -> None:
        text = f"rehearsal {rehearsal + 1} of {args.rehearsals}: {kind}, {agents_count(n_agents)}"
        print(text, file=sys.stderr, flush=True)

    made = plan(settings, rehearsals=args.rehearsals, on_progress=tell)
    print(made.model_dump_json(indent=2) if args.json else _text(made))
    return 0 if any(tier.hours for tier in made.tiers) else 1


def _text(made: Plan) -> str:
    times = "once" if made.rehearsals == 1 else f"{made.rehearsals} times"
    lines = [
        f"SIMULATED: {made.suite} on {made.system} under {made.ruleset}, dataset {made.dataset}, rehearsed {times}",
        "Nothing was sent. Least and most over the rehearsals stand in parentheses; how far the model itself is from",
        "the system is not in them: hours go about as one over its speed.",
    ]
    for tier in made.tiers:
        lines += ["", *_tier(tier)]
    if len(made.tiers) > 1:
        hours = [tier.hours for tier in made.tiers if tier.hours]
        costs = [tier.cost_usd for tier in made.tiers if tier.cost_usd]
        if hours:
            total = f"all tiers: {_range(_sum(hours), 1 if _sum(hours).mean >= 1 else 3)} h"
            lines += ["", total + (f", {_range(_sum(costs), 0)} USD" if len(costs) == len(hours) else "")]
    return "\n".join(lines)


def _tier(tier: TierPlan) -> list[str]:
    head = f"{tier.tier}"
    if tier.deployment is not None:
        head += f" on {tier.deployment}, {tier.accelerators} accelerators"
    if tier.hours is None or tier.phase_count is None:
        return [f"{head}: no plan: {tier.reason}"]
    cost = "no price in the system's file" if tier.cost_usd is None else f"{_range(tier.cost_usd, 0)} USD"
    facts = [
        ["phases", _range(tier.phase_count, 0)],
        ["wall-clock hours", _range(tier.hours, 1 if tier.hours.mean >= 1 else 3)],
        ["agents found by the model", _range(tier.agents, 0)],
        ["requests", _range(tier.requests, 0)],
        ["prompt tokens", _range(tier.prompt_tokens, 0)],
        ["output tokens", _range(tier.output_tokens, 0)],
        ["energy of the accelerators", f"{_range(tier.energy_kwh, 3)} kWh" if tier.energy_kwh else "unknown"],
        ["rent", cost],
    ]
    width = max(len(name) for name, _ in facts)
    rows = [["phase", "agents", "hours", "requests", "verdicts"]]
    rows += [
        [
            phase.kind,
            str(phase.n_agents),
            f"{phase.hours:.2f}" if phase.hours >= 0.1 else f"{phase.hours:.4f}",
            f"{phase.requests:,}",
            " ".join(f"{name} {verdict}" for name, verdict in phase.verdicts.items()),
        ]
        for phase in tier.phases
    ]
    return [
        f"{head}:",
        *(f"  {name.ljust(width)}  {value}" for name, value in facts),
        render(rows, indent="    "),
    ]


def _sum(ranges: list[Range]) -> Range:
    return Range(
        mean=sum(r.mean for r in ranges), low=sum(r.low for r in ranges), high=sum(r.high for r in ranges)
    )


def _range(value: Range | None, digits: int) -> str:
    if value is None:
        return "–"
    if value.low == value.high:
        return number(value.mean, digits)
    return f"{number(value.mean, digits)} ({number(value.low, digits)} to {number(value.high, digits)})"
