"""Entries of small systems, searched in virtual time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from virtual_system import Watch, settings_for, shape, virtual_run

from pytest_agentperf.config.recorded import record_settings
from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.results.entry import build_entry

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry

DATE = "2026-11-01T00:00:00+00:00"


@cache
def searched(*, seed: int, slower: float = 1.0, min_trajectories: int = 150) -> Entry:
    """Return the entry of a search; `slower` multiplies what each further sequence adds to a step."""
    model = shape("small", 30, 5, 200, step_base_ms=1, step_per_sequence_ms=1.2 * slower, jitter_cv=0.02)
    settings = settings_for(
        model, nonce=f"{slower} {seed}", resolution=0.01, min_trajectories=min_trajectories
    )
    # Drawn lengths would be another workload for each seed.
    rules = settings.ruleset.model_copy(update={"output_length": "exact"})
    settings = replace(settings, seed=seed, start=14, ruleset=rules, rehearsal=True)
    with virtual_run(settings, Watch()) as run:
        tier = run.measure("tier1")
        begun = record_settings(
            settings, run.dataset_info, software={"python": "3"}, software_digest="0" * 64, created_utc=DATE
        )
        return build_entry(
            settings,
            begun=begun,
            tiers=[tier],
            phases=run.phases,
            request_parameters=run.request_parameters,
            power_sources=run.power_sources,
            simulated=True,
        )


def written(path: Path, *entries: Entry, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    board = Leaderboard(created_utc=DATE, entries=entries, **changes)
    path.write_text(board.model_dump_json(by_alias=True), encoding="utf-8")
    return path
