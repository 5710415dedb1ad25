"""Leaderboards held against each other: which entry with which, and what differs in how they were set up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.comparison import Ratio, TierComparison, compare_tiers, weaknesses
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.report.configuration import flat_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_agentperf.core.leaderboard import Entry, Leaderboard
    from pytest_agentperf.core.published import PublishedResult

_HIDDEN = ("seeds", "digests", "preflight", "measured_utc", "token_verification", "simulated", "rehearsal")
"""What belongs to one run, or is told in words."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Model):
    """One setting that differs; None where one of the two does not have it."""

    setting: str
    base: str | None
    other: str | None


class PublishedComparison(_Model):
    """A figure of this tool beside one that others published."""

    tier: str
    figure: str
    base: float
    published: float
    ratio: float
    """The published one divided by the base."""
    source: str


class Pair(_Model):
    """Two entries, or an entry and what was published of a system."""

    suite: str
    edition: str
    base: str
    other: str
    simulated: bool
    """Whether either of them is a model's."""
    weak: tuple[str, ...]
    tiers: tuple[TierComparison, ...] = ()
    published: tuple[PublishedComparison, ...] = ()
    differences: tuple[Difference, ...] = ()


class Comparison(_Model):
    """The document of `agentperf compare --json`."""

    schema_version: str = "agentperf-comparison/1"
    pairs: tuple[Pair, ...]


Labelled = tuple[str, "Entry"]


def compare_boards(boards: Sequence[tuple[str, Leaderboard]], *, base: str | None = None) -> Comparison:
    """Compare everything with the first leaderboard's entry; of one leaderboard alone, its entries with the first.

    Raises ConfigError where nothing stands beside anything.
    """
    (first_name, first), *others = boards
    mine = [(_label(first_name, entry), entry) for entry in first.entries]
    if base is not None:
        mine = [one for one in mine if one[1].system["name"] == base]
    if not mine:
        what = "there is no entry in it" if base is None else f"no entry of it is of the system {base}"
        raise ConfigError(what, where=first_name, remedy="name a leaderboard of a run first")
    pairs: list[Pair] = []
    if not others:
        rest = [(_label(first_name, e), e) for e in first.entries if e is not mine[0][1]]
        pairs += [_pair(_base_for(mine[:1], entry), (label, entry)) for label, entry in rest]
        pairs += _published(mine[:1], first.published)
    for name, board in others:
        for entry in board.entries:
            pairs.append(_pair(_base_for(mine, entry), (_label(name, entry), entry)))
        pairs += _published(mine, board.published)
    if not pairs:
        raise ConfigError(
            "there is nothing to compare it with",
            where=first_name,
            remedy="name a second leaderboard, or `published` for what others published of the same suite",
        )
    return Comparison(pairs=tuple(pairs))


def _label(name: str, entry: Entry) -> str:
    return f"{name}: {entry.system['name']}{' (SIMULATED)' if entry.simulated else ''}"


def _base_for(mine: Sequence[Labelled], entry: Entry) -> Labelled:
    """Return the entry to hold another against: that of its suite and system, else of its suite, else the first."""

    def nearness(one: Labelled) -> tuple[bool, bool]:
        same_suite = (one[1].suite["name"], one[1].edition) == (entry.suite["name"], entry.edition)
        return same_suite, one[1].system["name"] == entry.system["name"]

    return max(mine, key=nearness)


def _pair(base: Labelled, other: Labelled) -> Pair:
    (base_label, first), (other_label, second) = base, other
    return Pair(
        suite=second.suite["name"],
        edition=second.edition,
        base=base_label,
        other=other_label,
        simulated=first.simulated or second.simulated,
        weak=tuple(weaknesses(first, second)),
        tiers=tuple(compare_tiers(first, second)),
        differences=tuple(differences(first, second)),
    )


def differences(base: Entry, other: Entry) -> Iterator[Difference]:
    """Yield every setting that differs: suite, system, rules, dataset, software."""
    first, second = flat_settings(base, without=_HIDDEN), flat_settings(other, without=_HIDDEN)
    for name in dict.fromkeys((*first, *second)):
        if first.get(name) != second.get(name):
            yield Difference(setting=name, base=first.get(name), other=second.get(name))


def _published(mine: Sequence[Labelled], published: Iterable[PublishedResult]) -> Iterator[Pair]:
    """Yield what others published of the base's suite, at equal targets only."""
    for label, entry in mine:
        by_system: dict[str, list[PublishedComparison]] = {}
        tiers = {tier.tier: tier for tier in entry.tiers}
        for result in published:
            tier = tiers.get(result.tier)
            if (result.suite, result.edition) != (entry.suite["name"], entry.edition) or tier is None:
                continue
            per = tier.normalisation.agents if tier.normalisation else None
            for figure, own, theirs in (
                ("agents per MW", per.per_mw if per else None, result.agents_per_mw),
                (
                    "agents per accelerator",
                    per.per_accelerator if per else None,
                    result.agents_per_accelerator,
                ),
            ):
                if own and theirs:
                    by_system.setdefault(result.system, []).append(
                        PublishedComparison(
                            tier=tier.tier.name,
                            figure=figure,
                            base=own,
                            published=theirs,
                            ratio=theirs / own,
                            source=f"{result.published_by}: {result.source}",
                        )
                    )
        weak = ["published by others, not measured or checked by this tool; no interval can be given"]
        weak += [f"the base is not comparable: {reason}" for reason in entry.comparable.reasons]
        for system, found in by_system.items():
            yield Pair(
                suite=entry.suite["name"],
                edition=entry.edition,
                base=label,
                other=f"{system} (published)",
                simulated=entry.simulated,
                weak=tuple(weak),
                published=tuple(found),
            )


def ratio_text(ratio: Ratio | None) -> str:
    """Return a ratio with its bounds."""
    if ratio is None:
        return "–"
    if ratio.low is None and ratio.high is None:
        return f"{ratio.value:.3f}"
    low, high = ("?" if end is None else f"{end:.3f}" for end in (ratio.low, ratio.high))
    return f"{ratio.value:.3f} ({low} to {high})"
