"""Shared by the core's tests: columns and rules built from what a test cares about."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

from pytest_agentperf.core.metrics import PhaseMetrics
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey

S = 1_000_000_000
MS = 1_000_000

steady = settings(derandomize=True, database=None)
"""For properties: the same examples in every run, on a machine of any speed."""


def key(agent: int = 0, turn: int = 0, **changes: Any) -> RequestKey:
    values: dict[str, Any] = {"phase": 1, "attempt": 0, "ordinal": 0, "trajectory": "t"}
    return RequestKey(**{**values, "agent": agent, "turn": turn, **changes})


def answer(
    sent: float = 0.0, first: float = 1.0, last: float = 2.0, *, n: int = 11, n_first: int = 1, **changes: Any
) -> Answer:
    """A complete answer; times in seconds."""
    values: dict[str, Any] = {
        "t_sent_ns": round(sent * S),
        "t_first_ns": round(first * S),
        "t_last_ns": round(last * S),
        "t_end_ns": round(last * S),
        "status": 200,
        "output_tokens": n,
        "first_chunk_tokens": n_first,
        "first_chunk_source": "usage",
        "content_chunks": 2,
    }
    return Answer(**{**values, **changes})


def failure(sent: float = 0.0, kind: str = "stalled", **changes: Any) -> Answer:
    return Answer(
        **{"t_sent_ns": round(sent * S), "t_end_ns": round(sent * S) + S, "failure": kind, **changes}
    )


def columns(*answers: Answer) -> RequestColumns:
    """One agent's answers, all on turn 0."""
    builder = ColumnsBuilder()
    for one in answers:
        builder.add(key(), one)
    return builder.finish()


def metrics(**changes: Any) -> PhaseMetrics:
    values: dict[str, Any] = {
        "requests": 100,
        "failures": {},
        "ttft_p50_s": 1.0,
        "ttft_p95_s": 2.0,
        "output_speed_p25_tok_s": 50.0,
        "output_speed_p50_tok_s": 60.0,
        "whole_speed_p25_tok_s": 30.0,
        "throughput_tok_s": 500.0,
        "prompt_tokens_mean": 1000.0,
        "output_tokens_mean": 100.0,
        "cached_share": 0.9,
        "first_turn_cached_tokens_max": 0,
        "one_token_answers": 0,
        "first_chunk_sources": {"usage": 100},
        "trajectories_completed": 30,
        "trajectories_in_window": 20,
        "window_s": 600.0,
        "infinite": {},
    }
    return PhaseMetrics(**{**values, **changes})
