"""A system's capacity over time: every run below a folder, each held against the last one that it compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.comparison import Ratio, compare_tiers, weaknesses
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.merged import utc

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry, TierResult


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Moment(_Model):
    """One run's result at one tier."""

    measured_utc: str
    version: str
    """Of the serving framework, as the system's file says."""
    agents: int | None
    agents_per_mw: float | None
    simulated: bool
    against: str | None
    """The date of the run that it is held against; None for the first, and where none compares."""
    ratio: Ratio | None
    change: str
    remarks: tuple[str, ...]
    source: str


class Series(_Model):
    """One system at one tier over time."""

    suite: str
    edition: str
    system: str
    tier: str
    moments: tuple[Moment, ...]


class History(_Model):
    """The document of `agentperf history --json`."""

    schema_version: str = "agentperf-history/1"
    series: tuple[Series, ...]
    problems: tuple[str, ...]
    """Files that could not be read, and runs without a date."""


def history_of(folder: Path) -> History:
    """Return the history of all leaderboards below a folder; raises ConfigError if there is none."""
    found: list[tuple[Path, Entry]] = []
    problems = []
    if not folder.is_dir():
        raise ConfigError(
            "it is no folder", where=str(folder), remedy="name the folder that runs are written to"
        )
    for path in sorted(folder.rglob("leaderboard*.json")):
        try:
            entries = read_leaderboard(path).entries
        except ConfigError as error:
            problems.append(str(error))
            continue
        problems += [
            f"{path}: {entry.system['name']}: no date was recorded"
            for entry in entries
            if not entry.measured_utc
        ]
        found += [(path, entry) for entry in entries if entry.measured_utc]
    if not found:
        raise ConfigError(
            "no leaderboard with a date lies below it" + (f": {'; '.join(problems)}" if problems else ""),
            where=str(folder),
            remedy="name the folder that runs are written to",
        )
    found.sort(key=lambda one: utc(one[1].measured_utc or ""))
    keys = dict.fromkeys(
        (e.suite["name"], e.edition, e.system["name"], t.tier.name) for _, e in found for t in e.tiers
    )
    return History(series=tuple(_series(key, found) for key in sorted(keys)), problems=tuple(problems))


def _series(key: tuple[str, str, str, str], found: list[tuple[Path, Entry]]) -> Series:
    suite, edition, system, name = key
    moments: list[Moment] = []
    earlier: list[Entry] = []
    for path, entry in found:
        tier = next((tier for tier in entry.tiers if tier.tier.name == name), None)
        if tier is None or (entry.suite["name"], entry.edition, entry.system["name"]) != (
            suite,
            edition,
            system,
        ):
            continue
        moments.append(_moment(path, entry, tier, earlier))
        # What is no result is no basis either.
        if entry.valid.value and tier.agents is not None:
            earlier.append(entry)
    return Series(suite=suite, edition=edition, system=system, tier=name, moments=tuple(moments))


def _moment(path: Path, entry: Entry, tier: TierResult, earlier: list[Entry]) -> Moment:
    ratio, against, change, remarks = None, None, "first", []
    for before in reversed(earlier):
        (found,) = [one for one in compare_tiers(before, entry) if one.tier == tier.tier.name]
        weak = before.simulated != entry.simulated or before.ruleset.id != entry.ruleset.id
        if found.refused or weak:
            change = "not comparable with the one before"
            remarks = [*found.refused, *weaknesses(before, entry, common=False)]
            continue
        against, ratio = before.measured_utc, found.capacity or found.published
        change = found.capacity.change if found.capacity else "no interval"
        remarks = [*found.no_estimate, *weaknesses(before, entry, common=False)]
        break
    return Moment(
        measured_utc=entry.measured_utc or "",
        version=framework(entry, tier),
        agents=tier.agents,
        agents_per_mw=tier.normalisation.agents.per_mw if tier.normalisation else None,
        simulated=entry.simulated,
        against=against,
        ratio=ratio,
        change={"less": "REGRESSION", "more": "improvement"}.get(change, change),
        remarks=tuple(dict.fromkeys(remarks)),
        source=str(path),
    )


def framework(entry: Entry, tier: TierResult) -> str:
    """Return what served a tier, with its version."""
    serving = entry.system["deployments"][tier.deployment]["serving"]
    return " ".join(filter(None, (serving["framework"], serving["version"])))
