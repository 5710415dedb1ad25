"""Distributions and timelines: reduced to a few hundred numbers, and still those of the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.leaderboard import PhaseResult
from pytest_agentperf.core.load_report import LoadReport
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey
from pytest_agentperf.results.report.distributions import TABLE, distributions
from pytest_agentperf.results.report.timelines import STEPS_MAX, TABLE_ROWS, timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

S = 1_000_000_000
NO_ENERGY = WindowEnergy(
    energy_j=None, mean_power_w=None, devices=0, coverage=0.0, method=None, invalid_code="no_readings",
    invalid_reason="no power source",
)  # fmt: skip


def phase(end_s: float = 100, window: tuple[float, float] = (10, 90)) -> PhaseResult:
    return PhaseResult(
        phase=1, attempt=0, kind="ramp", deployment="main", n_agents=2, start_ns=0, window_open_ns=int(window[0] * S),
        window_close_ns=int(window[1] * S), end_ns=int(end_s * S), timed_out=False, idle_before="verified",
        records=None, metrics=None, energy=NO_ENERGY, load=LoadReport(), invalid=(), verdicts=(),
    )  # fmt: skip


def records(
    rows: Sequence[tuple[int, float, float, float, int]], *, failed_at: float | None = None
) -> RequestColumns:
    """Make answers of (agent, sent, first, last, tokens), one token of each at once; and a failure."""
    builder = ColumnsBuilder()
    for k, (agent, sent, first, last, tokens) in enumerate(rows):
        builder.add(
            RequestKey(1, 0, agent, k, f"t{k}", 0),
            Answer(int(sent * S), int(last * S), status=200, t_first_ns=int(first * S), t_last_ns=int(last * S),
                   prompt_tokens=100, cached_tokens=25, output_tokens=tokens, first_chunk_tokens=1),
        )  # fmt: skip
    if failed_at is not None:
        builder.add(
            RequestKey(1, 0, 0, len(rows), "bad", 0),
            Answer(int(failed_at * S), int((failed_at + 1) * S), failure="http_5xx", status=503),
        )
    return builder.finish()


def test_quantiles_are_those_of_the_verdicts() -> None:
    found = distributions(
        records([(0, 10 + k, 10 + k + 0.1 * (k + 1), 12 + k + k, 21) for k in range(40)]), phase()
    )
    assert found["requests"] == 40
    ttft = np.array([0.1 * (k + 1) for k in range(40)])
    assert found["ttft"]["table"] == pytest.approx(np.percentile(ttft, TABLE), rel=1e-3)
    curve = dict(map(tuple, found["ttft"]["curve"]))
    assert curve[0.95] == pytest.approx(np.percentile(ttft, 95), rel=1e-3)
    assert (curve[0.0], curve[1.0]) == pytest.approx((0.1, 4.0))


def test_a_failure_is_infinitely_late_and_ends_the_curve() -> None:
    rows = [(0, 10 + k, 11 + k, 12 + k, 21) for k in range(9)]
    found = distributions(records(rows, failed_at=30), phase())
    assert (found["requests"], found["failed"]) == (10, 1)
    assert found["ttft"]["curve"][-1][0] < 0.9
    assert found["ttft"]["table"][-2:] == [None, None]
    assert found["speed"]["curve"][0] == [0.0, 0.0]


def test_a_timeline_keeps_every_token_and_every_second_in_flight() -> None:
    rows = [(0, 5, 6, 26, 41), (1, 20, 21, 71, 101), (0, 30, 33, 33, 7)]
    line = timeline(phase(), records(rows), None, None)
    width = 100 / len(line["t"])
    assert len(line["t"]) == STEPS_MAX
    assert line["window"] == [10, 90]
    series = line["series"]
    assert sum(series["throughput_tok_s"]) * width == pytest.approx(41 + 101 + 7, rel=1e-3)
    assert sum(series["in_flight"]) * width == pytest.approx(21 + 51 + 3, rel=1e-3)
    assert (max(series["agents"]), series["agents"][0]) == (2, 0)
    at = next(i for i, t in enumerate(line["t"]) if t > 50)
    assert series["in_flight"][at] == pytest.approx(1)
    assert series["throughput_tok_s"][at] == pytest.approx(2, rel=1e-3)
    assert {share for share in series["cache_share_usage"] if share is not None} == {0.25}
    # The table has means of the same.
    table = line["table"]
    assert len(table["t"]) == TABLE_ROWS + 1
    assert (table["t"][0], table["t"][-1]) == (0, 100)
    tokens = sum(
        m * (b - a) for m, a, b in zip(table["throughput_tok_s"], table["t"], table["t"][1:], strict=False)
    )
    assert tokens == pytest.approx(41 + 101 + 7, rel=1e-3)
    assert set(table) - {"t"} == set(series)
    assert None in table["cache_share_usage"]


def test_power_is_of_all_devices_and_has_gaps_where_nobody_looked() -> None:
    t = np.concatenate([np.arange(0, 41), np.arange(60, 101)]) * S
    power = {
        "t_ns": np.concatenate([t, t]),
        "device": np.repeat([0, 1], len(t)),
        "power_w": np.concatenate([np.full(len(t), 300.0), np.full(len(t), np.nan)]),
        "energy_j": np.concatenate([np.full(len(t), np.nan), 500.0 * t / S]),
    }
    line = timeline(phase(), None, power, None)
    known = [value for value in line["series"]["power_w"] if value is not None]
    assert known == pytest.approx([800.0] * len(known))
    lost = [t for t, value in zip(line["t"], line["series"]["power_w"], strict=True) if value is None]
    assert lost
    assert 38 < min(lost) < max(lost) < 62


def test_a_counter_that_was_reset_leaves_a_gap() -> None:
    t = np.arange(0, 101)
    hits = np.where(t < 50, 3.0 * t, 3.0 * (t - 50))
    server = {"t_ns": t * S, "waiting": np.full(101, 4.0), "cache_hits": hits, "cache_queries": 4.0 * t}
    line = timeline(phase(), None, None, server)
    shares = [value for value in line["series"]["cache_share"] if value is not None]
    assert len(shares) < len(line["t"])
    assert shares == pytest.approx([0.75] * len(shares), rel=1e-3)
    assert set(line["series"]["waiting"]) == {4.0}
    assert "running" not in line["series"]


def test_short_phases_have_few_steps() -> None:
    line = timeline(phase(end_s=2, window=(0.5, 1.5)), records([(0, 0.1, 0.2, 1.9, 5)]), None, None)
    assert len(line["t"]) == 20
