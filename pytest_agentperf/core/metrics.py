"""From records to the numbers that are judged: METHODOLOGY §4.1 to 4.4, 4.11 and 4.13.

Failures are service: they count as infinite TTFT and zero speed, and are never dropped.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.latency import (
    output_speed_tok_s,
    percentile,
    tokens_within,
    ttft_s,
    whole_speed_tok_s,
)
from pytest_agentperf.core.records import NULL
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.records import RequestColumns


class PhaseMetrics(BaseModel):
    """The numbers of one phase. Infinite values are None, with the reason in `infinite`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int
    """Requests sent inside the window: those that count."""
    failures: dict[str, int]
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    output_speed_p25_tok_s: float | None
    """None if no answer had two tokens or more."""
    output_speed_p50_tok_s: float | None
    whole_speed_p25_tok_s: float
    throughput_tok_s: float
    prompt_tokens_mean: float | None
    output_tokens_mean: float | None
    cached_share: float | None
    """Cached prompt tokens ÷ prompt tokens where the server reports both, else None."""
    first_turn_cached_tokens_max: int | None
    """The largest `cached_tokens` of a first turn: what cache isolation let through."""
    one_token_answers: int
    first_chunk_sources: dict[str, int]
    trajectories_completed: int
    """Since the start of the phase, up to the end of the window."""
    trajectories_in_window: int
    """Of them, those completed inside the window: the rate that power and price are divided by."""
    window_s: float
    infinite: dict[str, str]


def measure(
    columns: RequestColumns,
    *,
    open_ns: int,
    close_ns: int,
    trajectories_completed: int,
    trajectories_in_window: int,
    ttft_percent: float = 95,
    speed_percent: float = 25,
) -> PhaseMetrics:
    """Compute a phase's metrics from its records; raises ValueError if no request was sent in the window."""
    inside = columns.sent_within(open_ns, close_ns)
    if not inside.any():
        raise ValueError("no request was sent inside the window")
    ttft = ttft_s(columns)[inside]
    speed = output_speed_tok_s(columns)[inside]
    speed = speed[~np.isnan(speed)]
    failures, sources = (_count(columns.texts[name], inside) for name in ("failure", "first_chunk_source"))
    infinite: dict[str, str] = {}

    def finite(name: str, value: float) -> float | None:
        if math.isfinite(value):
            return value
        infinite[name] = f"{sum(failures.values())} of {len(ttft)} requests failed"
        return None

    ok = inside & ~columns.failed
    counted = ok & (columns["prompt_tokens"] != NULL) & (columns["cached_tokens"] != NULL)
    prompt_total = int(columns["prompt_tokens"][counted].sum())
    first_turns = (columns["turn"] == 0) & ~columns.failed & (columns["cached_tokens"] != NULL)
    window_s = (close_ns - open_ns) / NS_PER_S
    return PhaseMetrics(
        requests=int(inside.sum()),
        failures=failures,
        ttft_p50_s=finite("ttft_p50_s", percentile(ttft, 50)),
        ttft_p95_s=finite("ttft_p95_s", percentile(ttft, ttft_percent)),
        output_speed_p25_tok_s=percentile(speed, speed_percent) if speed.size else None,
        output_speed_p50_tok_s=percentile(speed, 50) if speed.size else None,
        whole_speed_p25_tok_s=percentile(whole_speed_tok_s(columns)[inside], speed_percent),
        throughput_tok_s=tokens_within(columns, open_ns, close_ns) / window_s,
        prompt_tokens_mean=_mean(columns["prompt_tokens"][ok]),
        output_tokens_mean=_mean(columns["output_tokens"][ok]),
        cached_share=float(columns["cached_tokens"][counted].sum()) / prompt_total if prompt_total else None,
        first_turn_cached_tokens_max=(
            int(columns["cached_tokens"][first_turns].max()) if first_turns.any() else None
        ),
        one_token_answers=int((ok & (columns["output_tokens"] == 1)).sum()),
        first_chunk_sources=sources,
        trajectories_completed=trajectories_completed,
        trajectories_in_window=trajectories_in_window,
        window_s=window_s,
        infinite=infinite,
    )


def _count(texts: Sequence[str | None], rows: npt.NDArray[np.bool_]) -> dict[str, int]:
    found = Counter(compress(texts, rows.tolist()))
    return {text: found[text] for text in sorted(filter(None, found))}


def _mean(values: npt.NDArray[np.int64]) -> float | None:
    known = values[values != NULL]
    return float(known.mean()) if known.size else None
