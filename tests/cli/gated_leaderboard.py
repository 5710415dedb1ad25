"""Leaderboards of gates, made of one that is stored: whatever a gate said, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.gate import GateResult, GateTarget
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import Leaderboard

STORED = Path(__file__).parents[1] / "results" / "data" / "leaderboard-1.json"
BASELINE = 10


def stored(*, tier: dict[str, Any] | None = None, **entry: Any) -> Leaderboard:
    """Return the stored leaderboard: 10 agents at `tier1` of the suite `oracle` on `sim`; with some fields changed."""
    board = read_leaderboard(STORED)
    (known,) = board.entries
    changed = known.tiers[0].model_copy(update=tier or {})
    return board.model_copy(update={"entries": (known.model_copy(update={"tiers": (changed,), **entry}),)})


def gated(verdict: Verdict, *, improved: int | None = None, **tier: Any) -> Leaderboard:
    """Return what a gate at 9 of 10 agents leaves."""
    gate = GateResult(
        target=GateTarget(baseline_agents=BASELINE, tolerance=0.1, source="baseline.json"),
        threshold_agents=9,
        verdict=verdict,
        improved_agents=improved,
        lost_where=tier.pop("lost_where", ()),
    )
    agents = (improved or 9) if verdict is Verdict.PASS else None
    return stored(tier={"gate": gate, "verdict": verdict, "agents": agents} | tier)


def written(path: Path, board: Leaderboard) -> str:
    """Write a leaderboard and return its path."""
    path.write_text(board.model_dump_json(by_alias=True), encoding="utf-8")
    return str(path)
