"""The headline's rows: one per system and tier, of this leaderboard's entries and of what others published."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.report.lenses import LENSES, lens_reasons, lens_values
from pytest_agentperf.results.tables import agents_text, interval_lines, interval_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_agentperf.core.leaderboard import Entry, Flag, Leaderboard, TierResult
    from pytest_agentperf.core.published import PublishedResult
    from pytest_agentperf.core.slo import SloTier

Kind = Literal["measured", "simulated", "published"]
"""Who says so: hardware that was asked here, a model, or somebody else."""
_ORDER: dict[Kind, int] = {"measured": 0, "simulated": 1, "published": 2}


class Mark(NamedTuple):
    """Whether one statement about a row holds, and why not; `holds` is None where nobody can say."""

    name: str
    holds: bool | None
    reasons: tuple[str, ...] = ()


class Row(NamedTuple):
    """One system at one tier."""

    colour: int
    """Of the system; what others published of the same one has the same."""
    label: str
    kind: Kind
    tier: SloTier
    agents: int | None
    agents_text: str
    below: int | None
    """The smallest number of agents that failed."""
    values: dict[str, float | None]
    absent: Mapping[str, str]
    """Why there is no figure, by lens."""
    hardware: str
    served_by: str
    output_speed_p25_tok_s: float | None
    ttft_p95_s: float | None
    throughput_tok_s: float | None
    power_per_accelerator_w: float | None
    marks: tuple[Mark, ...]
    interval: str | None = None
    """Between which numbers of agents the capacity lies; None where there is no search of ours."""
    interval_told: str = ""
    """How that is known, or why it is not."""


class Group(NamedTuple):
    """What may stand in one table: results of one suite in one edition."""

    key: str
    title: str
    edition: str
    entries: tuple[tuple[str, Entry], ...]
    """With the label of each, unique in the report."""
    published: tuple[tuple[str, PublishedResult], ...]
    tiers: tuple[SloTier, ...]
    rows: tuple[Row, ...]

    def of(self, tier: SloTier) -> list[Row]:
        """Return a tier's rows, the best first, through the first lens that has a figure for it."""
        rows = [row for row in self.rows if row.tier.name == tier.name]
        lens = next((x.key for x in LENSES if any(row.values[x.key] is not None for row in rows)), "mw")
        return ranked(rows, lens)

    @property
    def colours(self) -> dict[str, int]:
        """Return the label of every system, with its colour."""
        return {row.label: row.colour for row in self.rows}


def ranked(rows: Iterable[Row], lens: str) -> list[Row]:
    """Return rows with the best first: no model's figure before a measured one, and what others say last."""

    def rank(row: Row) -> tuple[int, float, str]:
        value = row.values[lens]
        return _ORDER[row.kind], 1.0 if value is None else -value, row.label

    return sorted(rows, key=rank)


def groups(board: Leaderboard) -> list[Group]:
    """Return the leaderboard's results by suite and edition, as they came."""
    labels = _labels(board.entries)
    entries: dict[tuple[str, str], list[tuple[str, Entry]]] = {}
    for label, entry in zip(labels, board.entries, strict=True):
        entries.setdefault((entry.suite["name"], entry.edition), []).append((label, entry))
    published: dict[tuple[str, str], list[tuple[str, PublishedResult]]] = {}
    for result in board.published:
        known = published.setdefault((result.suite, result.edition), [])
        said = sum((one.system, one.tier.name) == (result.system, result.tier.name) for _, one in known)
        # Of one system several may have published, each another figure.
        known.append((f"{result.system} (published{f' {said + 1}' if said else ''})", result))
    return [
        _group(f"g{number}", key, entries.get(key, ()), published.get(key, ()))
        for number, key in enumerate(dict.fromkeys((*entries, *published)))
    ]


def _group(
    key: str,
    suite: tuple[str, str],
    entries: Sequence[tuple[str, Entry]],
    published: Sequence[tuple[str, PublishedResult]],
) -> Group:
    tiers = {result.tier.name: result.tier for _, result in published}
    tiers |= {tier.tier.name: tier.tier for _, entry in entries for tier in entry.tiers}
    rows = [
        _row(number, label, entry, tier)
        for number, (label, entry) in enumerate(entries)
        for tier in entry.tiers
    ]
    rows += [
        _not_run(number, label, entry, tier)
        for number, (label, entry) in enumerate(entries)
        for tier in tiers.values()
        if tier.name not in _tiers_of(entry.system["name"], entries)
    ]
    names = [entry.system["name"] for _, entry in entries]
    names += dict.fromkeys(result.system for _, result in published if result.system not in names)
    rows += [_published(names.index(result.system), label, result) for label, result in published]
    return Group(
        key,
        entries[0][1].suite["title"] if entries else suite[0],
        suite[1],
        tuple(entries),
        tuple(published),
        tuple(tiers[name] for name in sorted(tiers)),
        tuple(rows),
    )


def _tiers_of(system: str, entries: Sequence[tuple[str, Entry]]) -> set[str]:
    """Return the tiers that any run of a system has: each may have been measured on a day of its own."""
    return {t.tier.name for _, entry in entries if entry.system["name"] == system for t in entry.tiers}


def tier_title(tier: SloTier) -> str:
    """Return a tier's name as people read it: `tier1` is tier 1."""
    return re.sub(r"^tier(\d+)$", r"tier \1", tier.name)


def _labels(entries: Iterable[Entry]) -> list[str]:
    """Return the systems' names; one that comes again is numbered."""
    seen: dict[str, int] = {}
    labels = []
    for entry in entries:
        name: str = entry.system["name"]
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return labels


def _row(colour: int, label: str, entry: Entry, tier: TierResult) -> Row:
    normalisation, metrics = tier.normalisation, tier.metrics
    serving = entry.system["deployments"][tier.deployment]["serving"]
    absent = lens_reasons(normalisation) if tier.agents is not None else _everywhere(agents_text(tier))
    return Row(
        colour=colour,
        label=label,
        kind=_kind(entry),
        tier=tier.tier,
        agents=tier.agents,
        agents_text=_agents(tier),
        below=tier.failed_min,
        values=lens_values(tier.agents, normalisation.agents if normalisation else None),
        absent=absent,
        hardware=f"{tier.accelerators} × {entry.system['accelerator']['name']}",
        served_by=" ".join(filter(None, (serving["framework"], serving["version"]))),
        output_speed_p25_tok_s=metrics.output_speed_p25_tok_s if metrics else None,
        ttft_p95_s=metrics.ttft_p95_s if metrics else None,
        throughput_tok_s=metrics.throughput_tok_s if metrics else None,
        power_per_accelerator_w=normalisation.power_per_accelerator_w if normalisation else None,
        marks=_marks(entry, tier),
        interval=None if tier.agents is None else interval_text(tier.interval),
        interval_told="; ".join(interval_lines(tier)),
    )


def _not_run(colour: int, label: str, entry: Entry, tier: SloTier) -> Row:
    """Return the row of a tier that other systems have."""
    return Row(
        colour=colour,
        label=label,
        kind=_kind(entry),
        tier=tier,
        agents=None,
        agents_text="–",
        below=None,
        values=lens_values(None, None),
        absent=_everywhere("not run"),
        hardware=entry.system["accelerator"]["name"],
        served_by="",
        output_speed_p25_tok_s=None,
        ttft_p95_s=None,
        throughput_tok_s=None,
        power_per_accelerator_w=None,
        marks=(
            Mark("measured", None, ("not run",)),
            Mark("valid", None, ("not run",)),
            Mark("complete", False, ("not run",)),
            Mark("comparable", None, ("not run",)),
        ),
    )


def _published(colour: int, label: str, result: PublishedResult) -> Row:
    per_mw = result.agents_per_mw
    values: dict[str, float | None] = dict.fromkeys((lens.key for lens in LENSES), None)
    values |= {
        "mw": per_mw,
        "kw": None if per_mw is None else per_mw / 1e3,
        "accelerator": result.agents_per_accelerator,
        "total": result.agents,
    }
    allocated = "" if result.accelerators is None else f"{result.accelerators} × "
    said = (f"as published by {result.published_by}: {result.source}",)
    return Row(
        colour=colour,
        label=label,
        kind="published",
        tier=result.tier,
        agents=result.agents,
        agents_text="–" if result.agents is None else f"{result.agents:,}",
        below=None,
        values=values,
        absent=_everywhere("not published"),
        hardware=f"{allocated}{result.title}",
        served_by=f"published by {result.published_by}",
        output_speed_p25_tok_s=None,
        ttft_p95_s=None,
        throughput_tok_s=None,
        power_per_accelerator_w=None,
        marks=tuple(Mark(name, None, said) for name in ("measured", "valid", "complete", "comparable")),
    )


def _everywhere(reason: str) -> dict[str, str]:
    return dict.fromkeys((lens.key for lens in LENSES), reason)


def _kind(entry: Entry) -> Kind:
    return "simulated" if entry.simulated else "measured"


def _agents(tier: TierResult) -> str:
    if tier.agents is None:
        return f"≥ {tier.passed_max:,}?" if tier.passed_max else "–"
    return f"{'≥ ' if tier.at_least else ''}{tier.agents:,}"


def _marks(entry: Entry, tier: TierResult) -> tuple[Mark, ...]:
    what = "a rehearsal in virtual time" if entry.rehearsal else "a simulated server answered"
    valid = reasons_at(entry.valid, tier, entry)
    if tier.verdict is Verdict.INVALID and not valid:
        valid = (tier.reason or "no capacity can be stated",)
    incomplete = () if tier.complete else (tier.reason or "the search did not end",)
    comparable = reasons_at(entry.comparable, tier, entry)
    return (
        Mark("measured", not entry.simulated, (f"simulated: {what}",) if entry.simulated else ()),
        Mark("valid", not valid, valid),
        Mark("complete", tier.complete, incomplete),
        Mark("comparable", not comparable, comparable),
    )


def reasons_at(flag: Flag, tier: TierResult, entry: Entry) -> tuple[str, ...]:
    """Return a flag's reasons, without those of other tiers."""
    others = tuple(f"{other.tier.name}: " for other in entry.tiers if other.tier.name != tier.tier.name)
    return tuple(reason for reason in flag.reasons if not reason.startswith(others or ("\0",)))
