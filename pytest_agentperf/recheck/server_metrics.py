"""What the server's own gauges and counters say over a window, recomputed from their readings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.numbers import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_agentperf.recheck.findings import Findings


def check_server_metrics(
    phase: Mapping[str, Any], path_of: Callable[[str], Path], where: str, found: Findings
) -> None:
    """Recompute what the server's own gauges and counters say over the window."""
    told = phase["server"]
    if told is None or told["samples"] is None:
        return
    table = pq.read_table(path_of(told["samples"]))
    t_ns = table["t_ns"].to_numpy()
    inside = (t_ns >= phase["window_open_ns"]) & (t_ns <= phase["window_close_ns"])
    wrong = differs("readings", told["readings"], int(inside.sum()))
    for name in ("running", "waiting", "kv_usage"):
        if name not in table.column_names:
            continue
        values = table[name].filter(pa.array(inside)).drop_null().to_numpy().astype(np.float64)
        for figure, value in (("mean", np.mean), ("max", np.max)):
            figure_told = told.get(f"{name}_{figure}")
            if figure_told is not None:
                computed = float(value(values)) if values.size else None
                wrong += differs(f"{name}_{figure}", figure_told, computed)
    wrong += _counters(phase, told, table)
    found.tell("server metrics", where, wrong, f"{told['readings']} readings; gauges and counters recomputed")


def _counters(phase: Mapping[str, Any], told: Mapping[str, Any], table: pa.Table) -> list[str]:
    """Recompute what counters of the server grew by over the window, between the readings at its edges."""

    def grown(name: str) -> float:
        known = table.select(["t_ns", name]).drop_null()
        t_ns = known["t_ns"].to_numpy() - phase["window_open_ns"]
        values = known[name].to_numpy().astype(np.float64)
        ends = (0, phase["window_close_ns"] - phase["window_open_ns"])
        at_open, at_close = np.interp(ends, t_ns, values)
        return float(at_close - at_open)

    window_s = (phase["window_close_ns"] - phase["window_open_ns"]) / NS_PER_S
    wrong = []
    for figure, part, whole in (
        ("cache_hit_share", "cache_hits", "cache_queries"),
        ("acceptance", "accepted_tokens", "drafted_tokens"),
    ):
        # Acceptance may be a gauge's mean, where an engine averages it itself.
        if told.get(figure) is not None and {part, whole} <= set(table.column_names) and grown(whole):
            wrong += differs(figure, told[figure], grown(part) / grown(whole))
    for name in ("prompt_tokens", "generation_tokens"):
        if told.get(f"{name}_per_s") is not None:
            wrong += differs(f"{name}_per_s", told[f"{name}_per_s"], grown(name) / window_s)
    if told.get("preemptions") is not None:
        wrong += differs("preemptions", told["preemptions"], round(grown("preemptions")))
    return wrong
