"""The data that the report's charts are drawn from: plain values, as small as they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.decision import deciding_probes
from pytest_agentperf.results.report.distributions import rounded
from pytest_agentperf.results.report.lenses import LENSES, figure, probe_values
from pytest_agentperf.results.report.rows import tier_title
from pytest_agentperf.results.report.timelines import SERIES
from pytest_agentperf.results.report.trust import trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_agentperf.core.leaderboard import Entry, PhaseResult, TierResult
    from pytest_agentperf.results.report.rows import Group, Row

Details = dict[int, dict[str, Any]]


def document(
    groups: Iterable[Group], details: Mapping[str, Details], lenses: Iterable[str]
) -> dict[str, Any]:
    """Return the charts' data; `details` by a system's label, `lenses` those that have a figure."""
    return {
        "lenses": [
            {"key": lens.key, "label": lens.label, "unit": lens.unit}
            for lens in LENSES
            if lens.key in set(lenses)
        ],
        "groups": [_group(group, details) for group in groups],
        "series": SERIES,
    }


def _group(group: Group, details: Mapping[str, Details]) -> dict[str, Any]:
    return {
        "key": group.key,
        "tiers": [
            {
                "name": tier.name,
                "title": tier_title(tier),
                "speed": tier.output_speed_p25_tok_s,
                "ttft": tier.ttft_p95_s,
            }
            for tier in group.tiers
        ],
        "bars": [_bar(row) for tier in group.tiers for row in group.of(tier)],
        "labels": [{"text": label, "colour": colour} for label, colour in group.colours.items()],
        "systems": [_system(label, entry, details.get(label, {})) for label, entry in group.entries],
    }


def _bar(row: Row) -> dict[str, Any]:
    return {
        "tier": row.tier.name,
        "system": row.label,
        "colour": row.colour,
        "kind": row.kind,
        "agents": row.agents_text,
        "values": row.values,
        "shown": {
            key: row.absent[key] if value is None else figure(value) for key, value in row.values.items()
        },
        "trust": trust(row).text,
    }


def _system(label: str, entry: Entry, details: Details) -> dict[str, Any]:
    judged = [phase for phase in entry.phases if phase.verdicts]
    return {
        "label": label,
        "measured": not entry.simulated,
        "probes": [_probe(entry, phase) for phase in judged],
        "searches": [_search(tier, judged) for tier in entry.tiers],
        "details": {str(number): found for number, found in details.items()},
    }


def _probe(entry: Entry, phase: PhaseResult) -> dict[str, Any]:
    metrics = phase.metrics
    return {
        "phase": phase.phase,
        "kind": phase.kind,
        "deployment": phase.deployment,
        "agents": phase.n_agents,
        "speed": rounded(metrics.output_speed_p25_tok_s, 6) if metrics else None,
        "ttft": rounded(metrics.ttft_p95_s, 6) if metrics else None,
        "tok_s": rounded(metrics.throughput_tok_s, 6) if metrics else None,
        "requests": metrics.requests if metrics else 0,
        "failed": sum(metrics.failures.values()) if metrics else 0,
        "power_w": rounded(phase.energy.mean_power_w, 6),
        "values": {key: rounded(value, 6) for key, value in probe_values(entry, phase).items()},
        "late": [v.tier for v in phase.verdicts if "ttft_p95" in v.violated],
        "verdicts": {v.tier: str(v.verdict) for v in phase.verdicts},
        "invalid": [str(reason) for reason in phase.invalid],
    }


def _search(tier: TierResult, judged: Sequence[PhaseResult]) -> dict[str, Any]:
    own = [phase for phase in judged if phase.deployment == tier.deployment]
    passed, failed = deciding_probes(tier, own)
    return {
        "tier": tier.tier.name,
        "steps": search_steps(tier, own),
        "passed": passed.phase if passed else None,
        "failed": failed.phase if failed else None,
    }


def search_steps(tier: TierResult, phases: Iterable[PhaseResult]) -> list[dict[str, Any]]:
    """Return the probes that were judged at the tier, in order, and what was known after each of them."""
    passed: set[int] = set()
    refused: set[int] = set()
    steps = []
    for phase in phases:
        found = next((v for v in phase.verdicts if v.tier == tier.tier.name), None)
        if found is None:
            continue
        if found.verdict is Verdict.PASS:
            passed.add(phase.n_agents)
        elif found.verdict is Verdict.FAIL:
            refused.add(phase.n_agents)
        above = min(refused, default=None)
        steps.append(
            {
                "phase": phase.phase,
                "verdict": str(found.verdict),
                "violated": list(found.violated),
                "reason": found.reason,
                "low": max((n for n in passed if above is None or n < above), default=0),
                "high": above,
            }
        )
    return steps
