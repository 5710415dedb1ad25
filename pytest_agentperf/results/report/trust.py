"""Whether a headline can be trusted, in words: said beside each answer, and in full below the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.results.tables import nature, objections, remarks

if TYPE_CHECKING:
    from pytest_agentperf.results.report.lenses import Lens
    from pytest_agentperf.results.report.rows import Group, Row

_NEGATED = {
    "measured": "simulated",
    "valid": "invalid",
    "complete": "incomplete",
    "comparable": "not comparable",
}


class Trust(NamedTuple):
    """An answer to "can I trust it?": `level` is `yes`, `care` or `no`."""

    level: str
    text: str


class Caveat(NamedTuple):
    """What a reader must know, and of which systems it holds."""

    who: tuple[str, ...]
    text: str


def trust(row: Row) -> Trust:
    """Say whether a row can be trusted, and what speaks against it."""
    if row.kind == "published":
        return Trust("care", "With care: published by others, not checked here")
    against = [_NEGATED[mark.name] for mark in row.marks if not mark.holds]
    if not against:
        return Trust("yes", "Yes: measured, valid, complete and comparable")
    if against == ["not comparable"]:
        return Trust("care", "With care: measured and valid, but not comparable")
    return Trust("no", f"No: {', '.join(against)}")


def too_close(first: Row, second: Row, lens: Lens) -> bool:
    """Return whether the next number of agents that failed would put the second row ahead."""
    a, b = first.values[lens.key], second.values[lens.key]
    if not a or not b or not second.agents:
        return False
    reach = second.below - 1 if second.below else second.agents
    return b * max(reach, second.agents) / second.agents >= a


def differences(group: Group) -> list[str]:
    """Return what keeps the rows of one table from being held against each other."""
    entries = [entry for _, entry in group.entries]
    found = []
    for what, values in (
        ("rulesets", {entry.ruleset.id for entry in entries}),
        ("datasets", {entry.dataset.digest for entry in entries}),
        ("output lengths", {entry.output_length for entry in entries}),
        ("deviations", {tuple((d.rule, d.actual) for d in entry.deviations) for entry in entries}),
    ):
        if len(values) > 1:
            found.append(f"these systems do not compare with each other: {what} differ")
    if len({entry.simulated for entry in entries}) > 1:
        found.append(
            "some systems were measured, others simulated: a model's figures prove nothing of hardware"
        )
    return found


def caveats(group: Group) -> list[Caveat]:
    """Return everything that speaks against the numbers, what is common to several systems once."""
    said: dict[str, list[str]] = {}
    for label, entry in group.entries:
        reasons = [f"{word}: {reason}" for word, found in objections(entry) for reason in found]
        for text in (*nature(entry), *reasons, *remarks(entry)):
            said.setdefault(text, []).append(label)
    everybody = tuple(label for label, _ in group.entries)
    found = [Caveat(everybody, text) for text in differences(group)]
    sources: dict[str, list[str]] = {}
    for label, result in group.published:
        text = f"published by {result.published_by}, not measured here: {result.source}"
        sources.setdefault(text, []).append(label)
    found += [Caveat(tuple(dict.fromkeys(who)), text) for text, who in sources.items()]
    return found + [Caveat(tuple(who), text) for text, who in said.items()]
