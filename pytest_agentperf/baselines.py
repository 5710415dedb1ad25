"""Baselines of gates: read from a baseline file or a leaderboard, made of a leaderboard, written to be committed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pytest_agentperf.core.baseline import Baseline, TierBaseline, Workload
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry, TierResult


def read_baseline(path: Path) -> Baseline:
    """Return what a baseline file holds, or the tiers of a leaderboard that are complete and valid.

    Raises ConfigError.
    """
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the baseline cannot be read: {error}",
            where=str(path),
            remedy="name a file that `agentperf baseline accept` wrote, or a leaderboard.json",
        ) from None
    if isinstance(fields, dict) and str(fields.get("schema", "")).startswith("agentperf-leaderboard/"):
        tiers = tuple(tiers_of_leaderboard(read_leaderboard(path).entries))
        if not tiers:
            raise ConfigError(
                "no tier of this leaderboard has a capacity that is complete and valid",
                where=str(path),
                remedy="measure one, without --agentperf-force",
            )
        return baseline_of(tiers, path)
    return _parsed(text, path)


def read_baseline_file(path: Path) -> Baseline:
    """Return what a baseline file holds that is to be written again, never a leaderboard; raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the baseline cannot be read: {error}", where=str(path), remedy="name another file"
        ) from None
    return _parsed(text, path)


def baseline_of(tiers: Iterable[TierBaseline], path: Path) -> Baseline:
    """Return the capacities of a leaderboard as a baseline; raises ConfigError where one tier has two."""
    try:
        return Baseline(tiers=tuple(tiers))
    except ValidationError as error:
        raise ConfigError(
            error.errors()[0]["msg"].removeprefix("Value error, "),
            where=str(path),
            remedy="take the leaderboard of one run",
        ) from None


def _parsed(text: str, path: Path) -> Baseline:
    try:
        return Baseline.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"not a baseline: {'.'.join(map(str, first['loc'])) or 'the file'}: {message}",
            where=str(path),
            remedy="name a file that `agentperf baseline accept` wrote, or a leaderboard.json",
        ) from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline file, whole or not at all; raises OSError."""
    fields = baseline.model_dump(mode="json", by_alias=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)


def tiers_of_leaderboard(entries: Iterable[Entry]) -> Iterator[TierBaseline]:
    """Yield what may be accepted of a leaderboard: capacities that stand, in entries that count."""
    for entry in entries:
        if not entry.valid.value:
            continue
        for tier in entry.tiers:
            if tier.complete and tier.verdict is Verdict.PASS and _agents(tier):
                yield _accepted(entry, tier)


def _agents(tier: TierResult) -> int | None:
    """Return what a tier's baseline becomes: of a gate that was passed, a larger number only if that passed too."""
    if tier.gate is None:
        return tier.agents
    return tier.gate.improved_agents or tier.gate.target.baseline_agents


def _accepted(entry: Entry, tier: TierResult) -> TierBaseline:
    agents = _agents(tier)
    assert agents is not None
    serving = entry.system["deployments"][tier.deployment]["serving"]
    phase = next((phase for phase in entry.phases if phase.phase == tier.published_phase), None)
    return TierBaseline(
        suite=entry.suite["name"],
        edition=entry.edition,
        system=entry.system["name"],
        tier=tier.tier.name,
        agents=agents,
        ruleset=entry.ruleset.id,
        measured_utc=entry.measured_utc,
        rehearsal=entry.rehearsal,
        workload=Workload(
            dataset_digest=entry.dataset.digest,
            assignment_seed=entry.seeds.assignment_seed,
            max_tokens=entry.ruleset.max_tokens,
            output_length=entry.ruleset.output_length,
            tool_delay_max_s=entry.ruleset.tool_delay_max_s,
        ),
        serving={name: str(value) for name, value in serving.items() if isinstance(value, str | int | float)},
        breakdown=phase.breakdown if phase else (),
    )
