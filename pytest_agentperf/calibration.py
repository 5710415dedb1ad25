"""The load generator measures itself: the very workers and bodies of a run, against servers that only stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
from pytest_agentperf.core.client_error import Calibration
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.metrics import output_speed_tok_s, percentile, ttft_s
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.sim.null import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.load.pool import WorkerPool

_RAMP_SHARE = 0.3
"""Of the time that the load is held, the agents take this to begin."""
# What one null server writes at most: beyond it, there are several if there are cores for them.
_CHUNKS_PER_SERVER_S = 30_000
_REQUESTS_MIN = 20
_ANSWER_SHARE = 0.25
"""Of the time that the load is held, an answer takes this on average, and a second at most."""
# Tool delays would take most of so short a time.
_TOOL_DELAY_CAP_NS = NS_PER_S // 50
# Share of the time in which an agent then streams.
_STREAMING = 0.9


def calibrate(
    pool: WorkerPool,
    trajectories: Sequence[str],
    *,
    n_agents: int,
    chunks_per_s: float,
    hold_s: float,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Calibration:
    """Drive null servers with `n_agents` at about `chunks_per_s` together; raises LoadError.

    Takes `hold_s` and a few seconds more. The bodies are those of `trajectories`.
    """
    tokens_per_s = max(2.0, chunks_per_s / n_agents / _STREAMING)
    ramp_ns = round(_RAMP_SHARE * hold_s * NS_PER_S)
    on_progress(f"calibrating the load generator: {n_agents} agents, {chunks_per_s:,.0f} chunks/s")
    with pool.null_servers(
        n_agents,
        chunks_per_s,
        per_server=_CHUNKS_PER_SERVER_S,
        tokens_per_s=tokens_per_s,
        answer_s=min(1.0, _ANSWER_SHARE * hold_s),
    ) as servers:
        spec = PhaseSpec(
            phase=0,
            attempt=0,
            kind="warmup",
            n_agents=n_agents,
            stagger_ns=ramp_ns // n_agents,
            seed=0,
            nonce="calibration",
            trajectories=tuple(trajectories),
            failure_wait_ns=NS_PER_S,
            tool_delay_cap_ns=_TOOL_DELAY_CAP_NS,
        )
        start_ns = pool.start_phase(spec, urls=servers.urls)
        end_ns = start_ns + ramp_ns + round(hold_s * NS_PER_S)
        while (now_ns := monotonic_ns()) < end_ns:
            pool.poll(min(0.1, (end_ns - now_ns) / NS_PER_S))
        columns = pool.stop_phase()
        notes = servers.stop()
    open_ns = start_ns + ramp_ns
    # Each host by itself: among a hundred that are right, one that is wrong would not be seen.
    return Calibration.of_hosts(
        [
            _compare(
                columns.only(np.isin(columns["agent"], share.agents)),
                Truth(notes[share.host.facts.id]),
                len(share.agents),
                pool.describe(),
                chunks_per_s * len(share.agents) / n_agents,
                share.host.clock.to_host(open_ns),
                share.host.clock.to_host(end_ns),
                host=share.host.name,
            )
            for share in pool.shares()
            if share.agents
        ]
    )


def _compare(
    columns: RequestColumns,
    truth: Truth,
    n_agents: int,
    load: dict[str, float],
    chunks_per_s: float,
    open_ns: int,
    close_ns: int,
    *,
    host: str,
) -> Calibration:
    failures = [text for text in columns.texts["failure"] if text]
    if failures:
        raise LoadError(
            f"{len(failures)} of {len(columns)} requests to the null server failed ({failures[0]})",
            where=host,
            remedy="check its limits, memory and CPU: nothing but the load generator is at work here",
        )
    found = [
        (i, times)
        for i, id_ in enumerate(columns.texts["response_id"])
        if id_ and (times := truth.answers.get(id_))
    ]
    rows = np.array([i for i, _ in found], dtype=np.int64)
    received, first, last = np.array([times for _, times in found], dtype=np.int64).reshape(-1, 3).T
    ttft_error = ttft_s(columns)[rows] - (first - received) / NS_PER_S
    output, begun = columns["output_tokens"][rows], columns["first_chunk_tokens"][rows]
    # A client that is late by a whole answer reads it at once; the server sent a token at a time.
    tokens = output - np.where(begun == output, 1, begun)
    streamed = (tokens > 0) & (last > first)
    if (compared := np.count_nonzero(streamed)) < _REQUESTS_MIN:
        raise LoadError(
            f"only {compared} answers of the null server could be compared",
            where=host,
            remedy="use a dataset with shorter tool delays, or a machine with more CPU",
        )
    true_tok_s = tokens[streamed] / ((last - first)[streamed] / NS_PER_S)
    speed_error = np.abs(output_speed_tok_s(columns)[rows][streamed] / true_tok_s - 1)
    return Calibration(
        n_agents=n_agents,
        chunks_per_s=chunks_per_s,
        chunks_per_s_reached=truth.chunks_per_s(open_ns, close_ns),
        requests=len(found),
        ttft_error_p50_s=percentile(ttft_error, 50),
        ttft_error_p99_s=percentile(ttft_error, 99),
        speed_error_p99=percentile(speed_error, 99),
        cpu_share_max=load["cpu_share_max"],
        workers=int(load["workers"]),
    )
