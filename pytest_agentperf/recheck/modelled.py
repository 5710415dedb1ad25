"""The answer of a search whose probes a model chose: bounded by what certainly passed and failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def model_problems(tier: Mapping[str, Any], phases: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return where a tier's answer contradicts the verdicts of its probes; which numbers to probe is not followed."""
    found = [
        (phase["n_agents"], verdict["verdict"])
        for phase in phases
        for verdict in phase["verdicts"]
        if verdict["tier"] == tier["tier"]["name"]
    ]
    failed_min = min((n for n, verdict in found if verdict == "FAIL"), default=None)
    passed_max = max(
        (n for n, verdict in found if verdict == "PASS" and (failed_min is None or n < failed_min)), default=0
    )
    wrong = [
        f"{name} is {tier[name]}, the verdicts give {value}"
        for name, value in (("passed_max", passed_max), ("failed_min", failed_min))
        if tier[name] != value
    ]
    agents = tier["agents"]
    if agents is None:
        return wrong
    if agents < passed_max or (failed_min is not None and agents >= failed_min):
        wrong.append(f"{agents} agents lie outside what passed ({passed_max}) and failed ({failed_min})")
    undecided = [n for n, verdict in found if verdict == "INCONCLUSIVE"]
    if tier["at_least"] != (failed_min is None and not undecided):
        wrong.append(f"at_least is {tier['at_least']}, the verdicts say otherwise")
    interval = tier["interval"]
    if interval is not None and not interval["low"] <= agents <= interval["high"]:
        wrong.append(f"{agents} agents lie outside their own interval")
    return wrong
