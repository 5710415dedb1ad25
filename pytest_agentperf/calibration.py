"""The load generator measures itself: the very workers and bodies of a run, against servers that only stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.client_error import Calibration
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.latency import output_speed_tok_s, percentile, ttft_s
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.sim.null import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.core.latency import FloatArray
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.load.pool import WorkerPool

_RAMP_SHARE = 0.3
"""Of the time that the load is held, the agents take this to begin."""
# What one null server writes at most: beyond it, there are several if there are cores for them.
_CHUNKS_PER_SERVER_S = 30_000
_ANSWERS_MIN = 20
_ANSWERS_FOR_P99 = 100
"""Of fewer, the P99 is their maximum."""
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
    load = pool.describe()
    # Each host by itself: among a hundred that are right, one that is wrong would not be seen.
    compared = [
        _compare(
            columns.only(np.isin(columns["agent"], share.agents)),
            Truth(notes[share.host.facts.id]),
            Share(share.host.name, len(share.agents), chunks_per_s * len(share.agents) / n_agents),
            share.host.clock.to_host(open_ns),
            share.host.clock.to_host(end_ns),
        )
        for share in pool.shares()
        if share.agents
    ]
    return Calibration.of_hosts([_calibration(group, load) for group in _groups(compared)])


class Share(NamedTuple):
    """What one host was to do of a calibration's load."""

    host: str
    n_agents: int
    chunks_per_s: float


class Compared(NamedTuple):
    """What one host's workers said of its null servers' answers, less the truth."""

    share: Share
    chunks_per_s_reached: float
    ttft_error_s: FloatArray
    speed_error: FloatArray


def _compare(columns: RequestColumns, truth: Truth, share: Share, open_ns: int, close_ns: int) -> Compared:
    failures = [text for text in columns.texts["failure"] if text]
    if failures:
        raise LoadError(
            f"{len(failures)} of {len(columns)} requests to the null server failed ({failures[0]})",
            where=share.host,
            remedy="check its limits, memory and CPU: nothing but the load generator is at work here",
        )
    found = [
        (i, times)
        for i, id_ in enumerate(columns.texts["response_id"])
        if id_ and (times := truth.answers.get(id_))
    ]
    rows = np.array([i for i, _ in found], dtype=np.int64)
    received, first, last = np.array([times for _, times in found], dtype=np.int64).reshape(-1, 3).T
    output, begun = columns["output_tokens"][rows], columns["first_chunk_tokens"][rows]
    # A client that is late by a whole answer reads it at once; the server sent a token at a time.
    tokens = output - np.where(begun == output, 1, begun)
    streamed = (tokens > 0) & (last > first)
    true_tok_s = tokens[streamed] / ((last - first)[streamed] / NS_PER_S)
    return Compared(
        share,
        truth.chunks_per_s(open_ns, close_ns),
        ttft_s(columns)[rows] - (first - received) / NS_PER_S,
        np.abs(output_speed_tok_s(columns)[rows][streamed] / true_tok_s - 1),
    )


def _groups(compared: Sequence[Compared]) -> list[list[Compared]]:
    """Return the hosts, those with too few answers for a P99 of their own together; raises LoadError.

    A host that answers so few has a small share of the load, and of the run's percentiles.
    """
    groups: list[list[Compared]] = [[]]
    for host in sorted(compared, key=lambda host: len(host.speed_error)):
        if not len(host.speed_error):
            raise _too_few(0, host.share.host)
        if _answers(groups[-1]) >= _ANSWERS_FOR_P99:
            groups.append([])
        groups[-1].append(host)
    if len(groups) > 1 and _answers(groups[-1]) < _ANSWERS_FOR_P99:
        groups[-2:] = [groups[-2] + groups[-1]]
    if len(groups) == 1 and (answers := _answers(groups[0])) < _ANSWERS_MIN:
        raise _too_few(answers, ", ".join(host.share.host for host in compared))
    return groups


def _answers(group: Sequence[Compared]) -> int:
    return sum(len(host.speed_error) for host in group)


def _too_few(answers: int, where: str) -> LoadError:
    return LoadError(
        f"only {answers} answers of the null server could be compared",
        where=where,
        remedy="use a dataset with shorter tool delays, or a machine with more CPU",
    )


def _calibration(group: Sequence[Compared], load: Mapping[str, Any]) -> Calibration:
    ttft_error = np.concatenate([host.ttft_error_s for host in group])
    chunks_per_s = sum(host.share.chunks_per_s for host in group)
    return Calibration(
        n_agents=sum(host.share.n_agents for host in group),
        chunks_per_s=chunks_per_s,
        # A host that falls short of its share is not made good by one that does not.
        chunks_per_s_reached=chunks_per_s
        * min(host.chunks_per_s_reached / host.share.chunks_per_s for host in group),
        requests=len(ttft_error),
        ttft_error_p50_s=percentile(ttft_error, 50),
        ttft_error_p99_s=percentile(ttft_error, 99),
        speed_error_p99=percentile(np.concatenate([host.speed_error for host in group]), 99),
        cpu_share_max=load["cpu_share_max"],
        workers=load["workers"],
    )
