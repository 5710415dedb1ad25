"""Where a running phase stands, put together for those who show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.core.latency import percentile
from pytest_agentperf.core.phase import Phase, PhaseKind, PhaseStatus
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.server_metrics import ServerReading


def status_of(
    state: Phase,
    kind: PhaseKind,
    now_ns: int,
    in_flight: int,
    failures: int,
    ttft_s: Iterable[float],
    speed_tok_s: Iterable[float],
    server: ServerReading | None,
) -> PhaseStatus:
    """Return the status at a moment; the percentiles are those of the answers given."""
    opened = state.open_ns is not None and now_ns > state.open_ns
    ttft, speed = (np.fromiter(values, dtype=np.float64) for values in (ttft_s, speed_tok_s))
    return PhaseStatus(
        kind=kind,
        n_agents=state.n_agents,
        stage=state.stage,
        elapsed_s=max(0, now_ns - state.start_ns) / NS_PER_S,
        window_s=((state.close_ns or now_ns) - (state.open_ns or now_ns)) / NS_PER_S if opened else 0.0,
        window_min_s=state.rule.min_window_ns / NS_PER_S,
        trajectories=state.completions,
        trajectories_min=state.rule.min_trajectories,
        agents_short=state.agents_short_of_quota,
        in_flight=in_flight,
        failures=failures,
        ttft_p95_s=percentile(ttft, 95) if ttft.size else None,
        output_speed_p25_tok_s=percentile(speed, 25) if speed.size else None,
        running=server.values.get("running") if server else None,
        waiting=server.values.get("waiting") if server else None,
    )
