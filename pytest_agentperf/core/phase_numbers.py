"""All that is computed from a phase's records: metrics, how far they can be off, and where they were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.breakdown import Bucket, break_down
from pytest_agentperf.core.confidence import PhaseConfidence, phase_confidence
from pytest_agentperf.core.metrics import PhaseMetrics, measure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.phase import Phase
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.slo import SloTier


class PhaseNumbers(NamedTuple):
    """Of the requests sent inside the window; nothing without one."""

    open_ns: int
    close_ns: int
    metrics: PhaseMetrics | None = None
    confidence: PhaseConfidence | None = None
    breakdown: tuple[Bucket, ...] = ()


def phase_numbers(
    columns: RequestColumns, state: Phase | None, rules: Ruleset, tiers: Iterable[SloTier], *, now_ns: int
) -> PhaseNumbers:
    """Return a phase's numbers; `state` None if it never began, `tiers` none if nothing is judged by it."""
    if state is None or state.open_ns is None or state.close_ns is None:
        begun_ns = state.start_ns if state else now_ns
        return PhaseNumbers(begun_ns, begun_ns)
    open_ns, close_ns = state.open_ns, state.close_ns
    if not columns.sent_within(open_ns, close_ns).any():
        return PhaseNumbers(open_ns, close_ns)
    metrics = measure(
        columns,
        open_ns=open_ns,
        close_ns=close_ns,
        trajectories_completed=state.completions,
        trajectories_in_window=state.completions_in_window,
        ttft_percent=rules.ttft_percentile,
        speed_percent=rules.output_speed_percentile,
    )
    if not (tiers := tuple(tiers)):
        return PhaseNumbers(open_ns, close_ns, metrics)
    confidence = phase_confidence(
        columns,
        open_ns=open_ns,
        close_ns=close_ns,
        ttft_percent=rules.ttft_percentile,
        speed_percent=rules.output_speed_percentile,
    )
    breakdown = break_down(columns, tiers, open_ns=open_ns, close_ns=close_ns)
    return PhaseNumbers(open_ns, close_ns, metrics, confidence, breakdown)
