"""A leaderboard of four systems with many probes and the longest timelines: as much as a report has to hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestKey
from pytest_agentperf.core.verdict import judge
from pytest_agentperf.results.report.distributions import distributions
from pytest_agentperf.results.report.timelines import timeline

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import Entry, PhaseResult

S = 1_000_000_000
SYSTEMS, TIERS, PROBES = 4, 4, 120
LASTED_S = 3_600


def big_board(entry: Entry) -> Leaderboard:
    """Return four systems with four tiers on one deployment, each probe judged at all of them."""
    random = np.random.default_rng(1)
    (first, *_) = entry.tiers
    slo = [
        first.tier.model_copy(update={"name": f"tier{k}", "output_speed_p25_tok_s": 20.0 * 3**k})
        for k in range(1, TIERS + 1)
    ]
    pattern = next(phase for phase in entry.phases if phase.verdicts and phase.metrics)
    entries = []
    for number in range(SYSTEMS):
        phases = tuple(_phase(pattern, slo, k, random) for k in range(1, PROBES + 1))
        tiers = tuple(
            first.model_copy(update={"tier": tier, "passed_max": 1000 + k, "failed_min": 1001 + k})
            for k, tier in enumerate(slo)
        )
        system = {**entry.system, "name": f"a-system-with-a-long-name-{number}"}
        entries.append(entry.model_copy(update={"system": system, "phases": phases, "tiers": tiers}))
    return Leaderboard(created_utc="2026-11-21T00:00:00+00:00", entries=tuple(entries))


def _phase(pattern: PhaseResult, slo: list[Any], k: int, random: np.random.Generator) -> PhaseResult:
    assert pattern.metrics is not None
    metrics = pattern.metrics.model_copy(
        update={
            "output_speed_p25_tok_s": float(random.uniform(10, 900)), "ttft_p95_s": float(random.uniform(0.1, 20)),
            "throughput_tok_s": float(random.uniform(1e5, 1e6)), "requests": int(random.integers(10_000, 100_000)),
        }
    )  # fmt: skip
    return pattern.model_copy(
        update={
            "phase": k, "n_agents": 995 + k % 12, "metrics": metrics, "start_ns": 0, "window_open_ns": 600 * S,
            "window_close_ns": (LASTED_S - 300) * S, "end_ns": LASTED_S * S,
            "verdicts": tuple(judge(tier, metrics) for tier in slo),
        }
    )  # fmt: skip


def big_details(phase: PhaseResult, *, decisive: bool) -> dict[str, Any]:
    """Return what an hour of a thousand agents comes to, of everything that can be recorded."""
    random = np.random.default_rng(phase.phase)
    builder = ColumnsBuilder()
    for k in range(400):
        sent = random.uniform(0, LASTED_S - 400)
        first = sent + random.exponential(3)
        builder.add(
            RequestKey(phase.phase, 0, k, 0, f"t{k}", 0),
            Answer(int(sent * S), int((first + 300) * S), status=200, t_first_ns=int(first * S),
                   t_last_ns=int((first + random.uniform(1, 300)) * S),
                   prompt_tokens=int(random.integers(1_000, 100_000)),
                   cached_tokens=int(random.integers(1, 1_000)), output_tokens=int(random.integers(10, 10_000)),
                   first_chunk_tokens=1),
        )  # fmt: skip
    columns = builder.finish()
    t_ns = (np.arange(0, LASTED_S) * S).astype(np.int64)
    power = {
        "t_ns": t_ns, "device": np.zeros(LASTED_S, dtype=np.int64), "energy_j": np.full(LASTED_S, np.nan),
        "power_w": random.uniform(1e5, 2e5, LASTED_S),
    }  # fmt: skip
    server = {
        "t_ns": t_ns, "running": random.uniform(0, 1e3, LASTED_S), "waiting": random.uniform(0, 1e3, LASTED_S),
        "cache_hits": np.cumsum(random.uniform(0, 1e6, LASTED_S)),
        "cache_queries": np.cumsum(random.uniform(1e6, 2e6, LASTED_S)),
    }  # fmt: skip
    found: dict[str, Any] = {"timeline": timeline(phase, columns, power, server)}
    if decisive:
        found["distributions"] = distributions(columns, phase)
    return found
