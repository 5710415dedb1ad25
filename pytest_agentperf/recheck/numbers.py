"""A phase's metrics from its records, as METHODOLOGY.md §4.1 to 4.4, 4.11 and 4.13 define them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
COLUMNS = (
    "phase", "attempt", "agent", "ordinal", "turn", "t_sent_ns", "t_first_ns", "t_last_ns", "t_end_ns",
    "prompt_tokens", "cached_tokens", "output_tokens", "first_chunk_tokens", "prefix_head",
)  # fmt: skip
TEXTS = ("trajectory", "failure", "finish_reason", "first_chunk_source")


class Records:
    """The requests of one phase: float columns with NaN for "no value", exact times, lists of texts."""

    def __init__(self, path: Path) -> None:
        """Read a records file; raises ValueError, KeyError."""
        table = pq.read_table(path)
        self.exact: dict[str, list[int | None]] = {}
        self.number: dict[str, NDArray[np.float64]] = {}
        for name in COLUMNS:
            column = table[name].to_pylist()
            self.exact[name] = column
            # NaN where there is none.
            self.number[name] = table[name].to_numpy().astype(np.float64)
        self.text = {name: [None if v is None else str(v) for v in table[name].to_pylist()] for name in TEXTS}
        self.in_window = table["in_window"].to_pylist()
        self.failed = np.array([reason is not None for reason in self.text["failure"]], dtype=bool)

    def __len__(self) -> int:
        return len(self.failed)

    def seconds(self, later: str, earlier: str) -> NDArray[np.float64]:
        """Return differences of two times in seconds, subtracted as integers; NaN where one is missing."""
        return np.array(
            [
                math.nan if a is None or b is None else (a - b) / NS_PER_S
                for a, b in zip(self.exact[later], self.exact[earlier], strict=True)
            ]
        )

    def between(self, name: str, first_ns: int, last_ns: int) -> NDArray[np.bool_]:
        """Return where a time lies in [first, last)."""
        return np.array([t is not None and first_ns <= t < last_ns for t in self.exact[name]], dtype=bool)


def percentile(values: NDArray[np.float64], percent: float) -> float:
    """Interpolate linearly between order statistics; +∞ if one of non-zero weight is infinite (§4.13)."""
    ordered = sorted(values.tolist())
    place = percent / 100 * (len(ordered) - 1)
    lower = int(place)
    part = place - lower
    if part == 0:
        return float(ordered[lower])
    pair = ordered[lower], ordered[lower + 1]
    return math.inf if math.inf in pair else float(pair[0] * (1 - part) + pair[1] * part)


def phase_metrics(
    records: Records, open_ns: int, close_ns: int, completions_ns: list[int], rules: dict[str, Any]
) -> dict[str, Any] | None:
    """Return every published number of a phase; None if no request was sent in the window.

    `completions_ns`: when trajectories completed, since the phase began.
    """
    counted = records.between("t_sent_ns", open_ns, close_ns)
    if not counted.any():
        return None
    n, whole = records.number["output_tokens"], records.seconds("t_last_ns", "t_sent_ns")
    bad, ttft, (speed, has_speed) = unanswered(records), ttfts(records), speeds(records)
    with np.errstate(all="ignore"):
        over_all = np.where(bad, 0.0, n / whole)
    has_speed = counted & has_speed
    window_s = (close_ns - open_ns) / NS_PER_S
    told = Counter(reason for reason, x in zip(records.text["failure"], counted, strict=True) if x and reason)
    sources = Counter(
        source for source, x in zip(records.text["first_chunk_source"], counted, strict=True) if x and source
    )
    fine = counted & ~records.failed
    prompt, cached = records.number["prompt_tokens"], records.number["cached_tokens"]
    both = fine & ~np.isnan(prompt) & ~np.isnan(cached)
    first_turns = (records.number["turn"] == 0) & ~records.failed & ~np.isnan(cached)
    p50, p95 = percentile(ttft[counted], 50), percentile(ttft[counted], rules["ttft_percentile"])
    values = {
        "requests": int(counted.sum()),
        "failures": dict(told),
        "ttft_p50_s": _finite(p50),
        "ttft_p95_s": _finite(p95),
        "output_speed_p25_tok_s": _of(speed[has_speed], rules["output_speed_percentile"]),
        "output_speed_p50_tok_s": _of(speed[has_speed], 50),
        "whole_speed_p25_tok_s": percentile(over_all[counted], rules["output_speed_percentile"]),
        "throughput_tok_s": tokens_in(records, bad, open_ns, close_ns) / window_s,
        "prompt_tokens_mean": _mean(prompt[fine]),
        "output_tokens_mean": _mean(n[fine]),
        "cached_share": float(cached[both].sum() / prompt[both].sum()) if prompt[both].sum() else None,
        "first_turn_cached_tokens_max": int(cached[first_turns].max()) if first_turns.any() else None,
        "one_token_answers": int((fine & (n == 1)).sum()),
        "first_chunk_sources": dict(sources),
        "trajectories_completed": sum(t <= close_ns for t in completions_ns),
        "trajectories_in_window": sum(open_ns <= t <= close_ns for t in completions_ns),
        "window_s": window_s,
    }
    values["infinite"] = {name for name in ("ttft_p50_s", "ttft_p95_s") if values[name] is None}
    return values


def unanswered(records: Records) -> NDArray[np.bool_]:
    """Return which requests failed (§4.4), or lack a part of a whole answer, which is no better."""
    lacking = [np.isnan(records.number[name]) for name in ("t_first_ns", "t_last_ns", "output_tokens")]
    incomplete: NDArray[np.bool_] = records.failed | np.any(lacking, axis=0)
    return incomplete


def ttfts(records: Records) -> NDArray[np.float64]:
    """Return the seconds from sending to the first token, ∞ for a failure."""
    to_first = records.seconds("t_first_ns", "t_sent_ns")
    return np.where(records.failed | np.isnan(to_first), math.inf, to_first)


def speeds(records: Records) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return output speeds (§4.2), 0 for failures, and which requests have one: an answer of one token has none."""
    n, n1 = records.number["output_tokens"], records.number["first_chunk_tokens"]
    streaming = records.seconds("t_last_ns", "t_first_ns")
    bad = unanswered(records)
    with np.errstate(all="ignore"):
        in_one_chunk = n / records.seconds("t_last_ns", "t_sent_ns")
        speed = np.where((streaming > 0) & (n > n1), (n - n1) / streaming, in_one_chunk)
    return np.where(bad, 0.0, speed), bad | (n > 1)


def tokens_in(records: Records, bad: NDArray[np.bool_], open_ns: int, close_ns: int) -> float:
    """Sum what answers contribute to the window: n₁·[t_first ∈ W] + (n − n₁)·|[t_first, t_last] ∩ W| ÷ its length."""
    total = []
    for i in np.flatnonzero(~bad).tolist():
        n, n1 = records.number["output_tokens"][i], records.number["first_chunk_tokens"][i]
        first, last = records.exact["t_first_ns"][i], records.exact["t_last_ns"][i]
        assert first is not None
        assert last is not None
        inside = open_ns <= first < close_ns
        if last > first:
            overlap = max(0, min(last, close_ns) - max(first, open_ns))
            total += [n1 * inside, (n - n1) * overlap / (last - first)]
        else:
            total.append(n * inside)
    return math.fsum(total)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _of(values: NDArray[np.float64], percent: float) -> float | None:
    return percentile(values, percent) if values.size else None


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
