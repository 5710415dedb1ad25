"""Results of several runs joined into one leaderboard: an entry per run, each with its own seeds, dates and digests."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.leaderboard import Flag, Leaderboard
from pytest_agentperf.results.artifact import files_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.leaderboard import Entry, PhaseResult

TierKey = tuple[str, str, str, str]


def merged(
    boards: Sequence[tuple[Path, Leaderboard]], out: Path, *, refuse_doubles: bool = False
) -> tuple[Leaderboard, list[str]]:
    """Return one leaderboard of all, its files named relative to `out`, and what was left out.

    Of a tier that comes twice the later run's stays. Raises ConfigError if that is to be refused, or cannot be told.
    """
    entries = [
        (path, relocated(entry, path.parent.resolve(), out.parent.resolve()))
        for path, board in boards
        for entry in board.entries
    ]
    kept: dict[TierKey, int] = {}
    told = []
    for number, (path, entry) in enumerate(entries):
        for tier in entry.tiers:
            key = (*_system(entry), tier.tier.name)
            known = kept.setdefault(key, number)
            if known == number:
                continue
            name = f"{key[0]} {key[1]} {key[2]} {key[3]}"
            if entries[known][1] == entry:
                continue
            if refuse_doubles:
                raise ConfigError(
                    f"{name} is in it and in {entries[known][0]}",
                    where=str(path),
                    remedy="leave one of them out",
                )
            kept[key] = _later(entries, known, number, name)
            left = entries[known + number - kept[key]]
            told.append(f"{name}: left out that of {left[1].measured_utc}, {left[0]}, for the later run")
    chosen = [
        _with_tiers(entry, {key[3] for key, owner in kept.items() if owner == number})
        for number, (_, entry) in enumerate(entries)
        if number in kept.values()
    ]
    published = dict.fromkeys(result for _, board in boards for result in board.published)
    board = Leaderboard(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        entries=tuple(_completed(entry, chosen) for entry in chosen),
        published=tuple(published),
    )
    return board, told


def relocated(entry: Entry, before: Path, after: Path) -> Entry:
    """Return the entry with its phases' files named from another folder; their digests stay."""
    if before == after:
        return entry
    return entry.model_copy(
        update={"phases": tuple(_relocated(phase, before, after) for phase in entry.phases)}
    )


def _relocated(phase: PhaseResult, before: Path, after: Path) -> PhaseResult:
    names = {
        name: Path(os.path.relpath(before / name, after)).as_posix()
        for name in (*phase.digests, *files_of(phase))
    }

    def renamed(value: Any) -> Any:
        if isinstance(value, str):
            return names.get(value, value)
        if isinstance(value, list):
            return [renamed(inner) for inner in value]
        if isinstance(value, dict):
            return {names.get(key, key): renamed(inner) for key, inner in value.items()}
        return value

    return type(phase).model_validate_json(json.dumps(renamed(phase.model_dump(mode="json"))))


def _system(entry: Entry) -> tuple[str, str, str]:
    return entry.suite["name"], entry.edition, entry.system["name"]


def _later(entries: Sequence[tuple[Path, Entry]], first: int, second: int, name: str) -> int:
    dates = [entries[i][1].measured_utc for i in (first, second)]
    if dates[0] is None or dates[1] is None or utc(dates[0]) == utc(dates[1]):
        raise ConfigError(
            f"{name} is in {entries[first][0]} too, and their dates do not say which is the later one",
            where=str(entries[second][0]),
            remedy="leave one of them out",
        )
    return second if utc(dates[1]) > utc(dates[0]) else first


def utc(text: str) -> datetime:
    """Return a date as it stands in results; one without a zone is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _with_tiers(entry: Entry, names: set[str]) -> Entry:
    """Return the entry with these tiers, and without what was said of the others and the probes of theirs alone."""
    tiers = tuple(tier for tier in entry.tiers if tier.tier.name in names)
    if len(tiers) == len(entry.tiers):
        return entry
    gone = tuple(f"{tier.tier.name}: " for tier in entry.tiers if tier.tier.name not in names)
    deployments = {tier.deployment for tier in tiers}
    return entry.model_copy(
        update={
            "tiers": tiers,
            "phases": tuple(phase for phase in entry.phases if phase.deployment in deployments),
            **{name: _without(getattr(entry, name), gone) for name in ("complete", "valid", "comparable")},
        }
    )


def _completed(entry: Entry, all_: Sequence[Entry]) -> Entry:
    """Return the entry without the complaint that a tier was not run, where another run of the system has it."""
    there = {t.tier.name for other in all_ if _system(other) == _system(entry) for t in other.tiers}
    run = tuple(f"{name}: not run" for name in there)
    return entry.model_copy(update={"complete": _without(entry.complete, run)})


def _without(flag: Flag, beginnings: tuple[str, ...]) -> Flag:
    reasons = tuple(reason for reason in flag.reasons if not reason.startswith(beginnings or ("\0",)))
    # What was false for no stated reason stays so.
    return Flag(value=flag.value or (bool(flag.reasons) and not reasons), reasons=reasons)
