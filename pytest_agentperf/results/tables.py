"""Tables a person can read: one tier's search, and the summary of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.decision import decision_lines
from pytest_agentperf.results.power_text import published_phase, throttled_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.gate import GateResult
    from pytest_agentperf.core.leaderboard import Entry, PhaseResult, TierResult
    from pytest_agentperf.core.search import CapacityInterval

_CONSTRAINTS = {
    "output_speed_p25": "output speed (P25)",
    "ttft_p95": "time to first token (P95)",
    "survival": "the server's survival",
}


def number(value: float | None, digits: int = 1, *, otherwise: str = "–") -> str:
    """Return a number with thousands separators, or a dash where there is none."""
    return otherwise if value is None else f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    """Return a share as a percentage, or a dash where there is none."""
    return "–" if share is None else f"{share:.0%}"


def render(rows: Sequence[Sequence[str]], *, indent: str = "  ") -> str:
    """Return rows as aligned columns; the first row is the heading, numbers stand right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i == 0 or not _numeric(rows, i) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def _numeric(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(row[column][:1].isdigit() or row[column][:1] in "–≥∞≤?" for row in rows[1:])


def verdict_table(tier: TierResult, phases: Iterable[PhaseResult]) -> str:
    """Return every probe of a tier's search, by number of agents."""
    target = tier.tier
    rows = [
        [
            "agents",
            "phase",
            "verdict",
            "speed P25",
            "TTFT P95",
            "tok/s",
            "cached",
            "waiting",
            "requests",
            "failed",
        ]
    ]
    for phase in sorted(phases, key=lambda p: (p.n_agents, p.phase)):
        found = next((v for v in phase.verdicts if v.tier == target.name), None)
        if found is None:
            continue
        m = phase.metrics
        rows.append(
            [
                str(phase.n_agents),
                phase.kind,
                str(found.verdict),
                number(m.output_speed_p25_tok_s) if m else "–",
                number(m.ttft_p95_s, 2, otherwise="∞") if m else "–",
                number(m.throughput_tok_s) if m else "–",
                percent(phase.server.cache_hit_share if phase.server else None),
                number(phase.server.waiting_mean if phase.server else None),
                str(m.requests) if m else "–",
                str(sum(m.failures.values())) if m else "–",
            ]
        )
    return render(rows)


def explain(tier: TierResult, phases: Iterable[PhaseResult]) -> str:
    """Return what was found at one tier, why not more, and the probes behind it."""
    phases = list(phases)
    return "\n".join([*explanation(tier, phases), verdict_table(tier, phases)])


def explanation(tier: TierResult, phases: Sequence[PhaseResult]) -> list[str]:
    """Return what was found at one tier, then why not more, a line each."""
    head = f"{tier.tier.name} ({tier.tier}): {agents_text(tier)}"
    if tier.expected_agents is not None:
        head += f", expected {tier.expected_agents} or more"
    lines = [head]
    if tier.binding_constraint is not None and tier.failed_min is not None:
        what = _CONSTRAINTS.get(tier.binding_constraint, tier.binding_constraint)
        lines.append(f"  binding constraint: {what}, violated at {agents_count(tier.failed_min)}")
    lines += [f"  {text}" for text in interval_lines(tier)]
    lines += [f"  {text}" for text in decision_lines(tier, phases)]
    lines += [f"  {text}" for text in accuracy_lines(tier)]
    if tier.gate is not None:
        lines.append(f"  {gate_text(tier.gate)}")
    if tier.reason is not None:
        lines.append(f"  {tier.reason}")
    lines += [f"  contradiction: {text}" for text in tier.contradictions]
    return lines


def gate_text(gate: GateResult) -> str:
    """Return a gate's question and its answer."""
    target = gate.target
    text = (
        f"gate {gate.verdict}: {agents_count(gate.threshold_agents)}, the baseline of {target.baseline_agents} "
        f"({target.source}) less {target.tolerance:.1%}"
    )
    if target.tolerance and gate.threshold_agents == target.baseline_agents:
        text += ", which is less than one agent"
    if gate.improved_agents is not None:
        text += (
            f"; {gate.improved_agents} agents pass too: `agentperf baseline accept` makes them the baseline"
        )
    return text


def accuracy_lines(tier: TierResult) -> list[str]:
    """Return what was found of the answers' quality under load, nothing if nobody looked."""
    found = []
    for against, what in (
        (tier.accuracy.alone, "at one agent"),
        (tier.accuracy.reference, "in the reference"),
    ):
        if against is not None:
            text = f"accuracy under load: {against.score:.1%}, {against.against:.1%} {what} (p = {against.p_value:.2g})"
            if against.detectable_drop is not None:
                text += f"; a drop of {against.detectable_drop:.1%} would have been found"
            if against.output_tokens_drift is not None:
                text += f"; answers {against.output_tokens_drift:+.1%} in length"
            found.append(text)
    return found


def agents_text(tier: TierResult) -> str:
    """Return the capacity in words."""
    if tier.agents is not None:
        sign = "at least " if tier.at_least else ""
        return f"{sign}{agents_count(tier.agents)}"
    if tier.accuracy.status == "dropped":
        return f"no valid capacity ({tier.passed_max} agents were fast enough, but were answered worse)"
    if tier.gate is not None and tier.gate.verdict is Verdict.FAIL:
        return f"fewer than {agents_count(tier.failed_min or 0)}"
    if tier.gate is not None and tier.gate.verdict is not Verdict.PASS:
        what = "certain" if tier.gate.verdict is Verdict.INCONCLUSIVE else "valid"
        return f"no {what} answer at {agents_count(tier.gate.threshold_agents)}"
    upper = "" if tier.failed_min is None else f", fewer than {tier.failed_min}"
    state = "no valid capacity" if tier.complete else "incomplete"
    return (
        f"{state} (at least {tier.passed_max}{upper})" if tier.passed_max else f"{state} (none passed{upper})"
    )


def interval_text(interval: CapacityInterval | None) -> str:
    """Return between which numbers a capacity lies, `?` where nothing bounds it."""
    if interval is None:
        return "–"
    low, high = ("?" if end is None else f"{end:,}" for end in (interval.low, interval.high))
    return f"{low}–{high}"


def interval_lines(tier: TierResult) -> list[str]:
    """Return what that interval is, and why it is open or not there."""
    found, lines = tier.interval, []
    if found is not None and found.method == "model":
        lines.append(f"capacity {interval_text(found)} agents, at {found.level:.0%} by a model of the probes")
    elif found is not None:
        parts = [
            f"{end:,} agents surely {what}"
            for end, what in ((found.low, "pass"), (found.high, "fail"))
            if end is not None
        ]
        lines.append(
            f"capacity {interval_text(found)}: {', '.join(parts)} (each probe's own {found.level:.0%} intervals)"
        )
    if tier.interval_reason is not None and tier.agents is not None and tier.gate is None:
        lines.append(f"capacity's interval: {tier.interval_reason}")
    return lines


def summary_table(entries: Iterable[Entry]) -> str:
    """Return one row per system and tier."""
    rows = [
        ["system", "tier", "SLO", "agents", "expected", "interval", "speed P25", "TTFT P95", "tok/s", "per accel.",
         "W/accel.", "agents/MW"]
    ]  # fmt: skip
    for entry in entries:
        for tier in entry.tiers:
            m, n = tier.metrics, tier.normalisation
            agents = "–" if tier.agents is None else f"{'≥' if tier.at_least else ''}{tier.agents}"
            if tier.agents is None and tier.passed_max:
                agents = f"≥{tier.passed_max}?"
            rows.append(
                [
                    shown_name(entry),
                    tier.tier.name,
                    f"{tier.tier.output_speed_p25_tok_s:g} tok/s, {tier.tier.ttft_p95_s:g} s",
                    agents,
                    "–" if tier.expected_agents is None else str(tier.expected_agents),
                    interval_text(tier.interval),
                    number(m.output_speed_p25_tok_s) if m else "–",
                    f"{number(m.ttft_p95_s, 2)} s" if m else "–",
                    number(m.throughput_tok_s) if m else "–",
                    number(n.agents.per_accelerator, 2) if n else "–",
                    number(n.power_per_accelerator_w) if n else "–",
                    number(n.agents.per_mw, 0) if n else "–",
                ]
            )
    return render(rows)


def shown_name(entry: Entry) -> str:
    """Return the system's name as it stands before its figures: never without the mark of a rehearsal."""
    name: str = entry.system["name"]
    return f"{name} (SIMULATED)" if entry.rehearsal else name


def notes(entry: Entry) -> list[str]:
    """Return what a reader of the numbers must know."""
    found = [
        *nature(entry),
        *(f"{word}: {'; '.join(reasons)}" for word, reasons in objections(entry)),
        *remarks(entry),
    ]
    return [f"{entry.system['name']}: {text}" for text in found]


def nature(entry: Entry) -> list[str]:
    """Say whether a model answered."""
    if entry.rehearsal:
        return ["SIMULATED: a rehearsal in virtual time; these are figures of a model, not of hardware"]
    return ["simulated: these are figures of a model, not of hardware"] if entry.simulated else []


def objections(entry: Entry) -> list[tuple[str, tuple[str, ...]]]:
    """Return what an entry is not, with the reasons."""
    flags = (("incomplete", entry.complete), ("invalid", entry.valid), ("not comparable", entry.comparable))
    return [(word, flag.reasons) for word, flag in flags if not flag.value]


def remarks(entry: Entry) -> list[str]:
    """Return what else there is to know of the tiers."""
    found = []
    for tier in entry.tiers:
        if tier.gate is not None:
            found.append(f"{tier.tier.name}: {gate_text(tier.gate)}")
        found += [f"{tier.tier.name}: {text}" for text in accuracy_lines(tier)]
        found += [f"{tier.tier.name}: contradiction: {text}" for text in tier.contradictions]
        found += [
            f"{tier.tier.name}: {note}"
            for note in (tier.normalisation.notes if tier.normalisation else ())
            if note.startswith("no valid power")
        ]
        phase = published_phase(entry, tier)
        if phase is not None and phase.power.throttled:
            found.append(f"{tier.tier.name}: {throttled_text(phase.power.throttled)}")
    return found
