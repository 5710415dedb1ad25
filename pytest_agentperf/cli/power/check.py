"""`agentperf power check`: whether this host can give a valid result per MW, and what to fix."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pytest_agentperf.cli.power.targets import Target, targets
from pytest_agentperf.clock import RealClock
from pytest_agentperf.power.check import PowerCheck, check_power
from pytest_agentperf.results.tables import number, render

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.power.check import Finding

HELP = "read the accelerators' power for seconds: can this host give a valid result per MW, and if not, what to fix"
_SIGNS = {True: "✓", False: "✗", None: "·"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options of its own."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Check every source; 1 if one is not good for a valid result."""
    wanted = targets(args)
    checks = [(target, _checked(target)) for target in wanted]
    if not args.system and not args.source:
        # A host has the accelerators of one vendor: the library of the other is no fault.
        checks = [pair for pair in checks if pair[1].source] or checks
    if args.json:
        print(json.dumps([_json(target, found) for target, found in checks], indent=2))
    else:
        for target, found in checks:
            print("\n".join(_lines(target, found)))
        print(_conclusion([found for _, found in checks]))
    return 0 if all(found.valid for _, found in checks) else 1


def _checked(target: Target) -> PowerCheck:
    sampler = target.sampler()
    if sys.stderr.isatty():
        print(f"reading {target.title} …", file=sys.stderr, flush=True)
    try:
        return check_power(
            sampler,
            accelerators=target.accelerators,
            accelerator_scope=not target.facility,
            rules=target.ruleset,
            clock=RealClock(),
        )
    finally:
        sampler.close()


def _json(target: Target, found: PowerCheck) -> dict[str, object]:
    return {"target": target.title, "valid": found.valid, **found.model_dump(mode="json")}


def _lines(target: Target, found: PowerCheck) -> Iterator[str]:
    yield f"power of {target.title}"
    source = found.source
    if source is not None and found.devices:
        drivers = sorted({device.driver for device in source.devices if device.driver})
        yield f"  read for {found.seconds:g} s" + (f", driver {', '.join(drivers)}" if drivers else "")
        yield _table(found)
    for finding in found.findings:
        yield from _finding(finding)
    for note in source.notes if source else ():
        yield f"  · {note}"
    yield ""


def _table(found: PowerCheck) -> str:
    states = {state.device: state for state in found.states}
    rows = [["device", "power W", "cap W", "SM MHz", "°C", "counter", "name"]]
    for device in found.devices:
        state = states.get(device.device)
        rows.append(
            [
                device.device,
                number(device.power_w),
                number(device.power_cap_w, 0),
                number(state.clock_mhz if state else None, 0),
                number(state.temperature_c if state else None, 0),
                "yes" if device.counter else "no",
                device.name or "?",
            ]
        )
    return render(rows)


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  {_SIGNS[finding.good]} {finding.text}"
    if finding.remedy:
        yield f"    → {finding.remedy}"


def _conclusion(checks: Sequence[PowerCheck]) -> str:
    bad = sum(finding.good is False for found in checks for finding in found.findings)
    if not bad:
        return "A result per MW measured here can be valid."
    return f"No valid result per MW here yet: {bad} thing{'s' * (bad != 1)} to fix (✗)."
