"""Lines that tell how a run goes: the dataset, where a running phase stands, what a finished one found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.phase import Stage
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.results.tables import number

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseStatus
    from pytest_agentperf.core.server_metrics import ServerSummary


def dataset_text(done: int, total: int) -> str:
    """Return on one line how far the dataset is made, or read and encoded."""
    return f"preparing the dataset, {done:,} of {total:,} trajectories"


def status_text(status: PhaseStatus) -> str:
    """Return a running phase on one line: where it stands against the stop rule, and the current percentiles.

    What matters most comes first, since a narrow terminal cuts the end off.
    """
    parts = [f"{status.kind} {agents_count(status.n_agents)}"]
    if status.stage is Stage.WINDOW and status.kind not in ("warmup", "accuracy"):
        parts.append(f"window {status.window_s:.1f}/{status.window_min_s:g} s")
    else:
        parts.append(f"{status.stage} {status.elapsed_s:.0f} s")
    if status.output_speed_p25_tok_s is not None:
        parts.append(f"P25 {number(status.output_speed_p25_tok_s)} tok/s")
    if status.ttft_p95_s is not None:
        parts.append(f"P95 {number(status.ttft_p95_s, 2)} s")
    if status.waiting:
        parts.append(f"{status.waiting:.0f} waiting")
    if status.failures:
        parts.append(f"{status.failures} failed")
    parts.append(f"{status.trajectories}/{status.trajectories_min} trajectories")
    if status.agents_short:
        parts.append(f"{status.agents_short} agents short of theirs")
    if status.stage is Stage.DRAIN:
        parts.append(f"{status.in_flight} in flight")
    return " · ".join(parts)


def result_text(result: PhaseResult) -> str:
    """Return a finished phase on one line."""
    m = result.metrics
    seconds = (result.end_ns - result.start_ns) / NS_PER_S
    if (score := result.accuracy) is not None:
        beside = agents_count(result.n_agents) if result.n_agents else "alone"
        return f"{result.kind:8} {beside:>9}: {score.right} of {score.asked} right ({seconds:.1f} s)"
    verdicts = " ".join(f"{v.tier} {v.verdict}" for v in result.verdicts)
    speed = f"P25 {number(m.output_speed_p25_tok_s)} tok/s, " if m else ""
    ttft = f"P95 TTFT {number(m.ttft_p95_s, 2, otherwise='∞')} s, " if m else ""
    server = f"{said}, " if (said := server_text(result.server)) else ""
    text = f"{result.kind:7} {agents_count(result.n_agents):>10}: {speed}{ttft}{server}{verdicts} ({seconds:.1f} s)"
    for reason in result.invalid:
        text += f"\n  {reason.what.strip()}\n  → {reason.remedy}"
    return text


def server_text(server: ServerSummary | None) -> str:
    """Return the server's own cache-hit share and queue in a few words; empty if it tells neither."""
    parts = []
    if server is not None and server.cache_hit_share is not None:
        parts.append(f"{server.cache_hit_share:.0%} from cache")
    if server is not None and server.waiting_mean is not None:
        parts.append(f"{number(server.waiting_mean)} waiting")
    return ", ".join(parts)
