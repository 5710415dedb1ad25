"""A comparison in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.results.compared import ratio_text
from pytest_agentperf.results.tables import interval_text, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.core.comparison import TierComparison
    from pytest_agentperf.core.search import CapacityInterval
    from pytest_agentperf.results.compared import Comparison, Pair

TIER_HEAD = (
    "tier",
    "base",
    "other",
    "stated ratio",
    "capacity ratio (95 %)",
    "verdict",
    "per accelerator",
    "per MW",
)
LOAD_HEAD = ("tier", "agents", "speed P25", "TTFT P95", "tok/s", "power")
_VALUE_CHARS_MAX = 60


def comparison_text(found: Comparison) -> str:
    """Return all pairs, a block each."""
    return "\n\n".join("\n".join(_pair(pair)) for pair in found.pairs)


def tier_cells(tier: TierComparison) -> list[str]:
    """Return a tier's row."""
    verdict = "refused" if tier.refused else tier.capacity.change if tier.capacity else "no interval"
    return [
        tier.tier,
        _agents(tier.base_agents, tier.base_interval),
        _agents(tier.other_agents, tier.other_interval),
        ratio_text(tier.published),
        ratio_text(tier.capacity),
        verdict,
        ratio_text(tier.per_accelerator),
        ratio_text(tier.per_mw),
    ]


def _agents(agents: int | None, interval: CapacityInterval | None) -> str:
    if agents is None:
        return "–"
    return f"{agents:,}" if interval is None else f"{agents:,} ({interval_text(interval)})"


def load_rows(pair: Pair) -> list[list[str]]:
    """Return a row per number of agents that both probed."""
    return [
        [
            tier.tier,
            f"{load.n_agents:,}",
            *map(ratio_text, (load.output_speed_p25, load.ttft_p95, load.throughput, load.power)),
        ]
        for tier in pair.tiers
        for load in tier.equal_load
    ]


def remarks(pair: Pair) -> list[str]:
    """Return what a reader of the ratios must know."""
    found = [f"weak: {text}" for text in pair.weak]
    for tier in pair.tiers:
        found += [f"{tier.tier}: refused: {text}" for text in tier.refused]
        found += [f"{tier.tier}: no interval: {text}" for text in tier.no_estimate]
    if not pair.tiers and not pair.published:
        found.append("refused: no tier is in both")
    return found


def _pair(pair: Pair) -> Iterator[str]:
    yield f"{pair.suite}, edition {pair.edition}: {pair.other}, against {pair.base}"
    if pair.tiers:
        yield render([TIER_HEAD, *map(tier_cells, pair.tiers)])
    if pair.published:
        yield render(
            [("tier", "figure", "base", "published", "ratio")]
            + [
                (one.tier, one.figure, f"{one.base:,.1f}", f"{one.published:,.1f}", f"{one.ratio:.3f}")
                for one in pair.published
            ]
        )
        yield from (f"  {text}" for text in dict.fromkeys(one.source for one in pair.published))
    yield from (f"  {text}" for text in remarks(pair))
    rows = load_rows(pair)
    if rows:
        yield "  at equal numbers of agents, other ÷ base:"
        yield render([LOAD_HEAD, *rows], indent="    ")
    if pair.differences:
        yield "  what differs:"
        rows = [[d.setting, _short(d.base), _short(d.other)] for d in pair.differences]
        yield render([("setting", "base", "other"), *rows], indent="    ")


def _short(value: str | None) -> str:
    if value is None:
        return "–"
    line = " ".join(value.split())
    return line if len(line) <= _VALUE_CHARS_MAX else f"{line[:_VALUE_CHARS_MAX]}…"
