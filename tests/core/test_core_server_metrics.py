"""The server's own figures over a window: exact edges, gaps that are no zeros, counters that were reset."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_agentperf.core.server_metrics import ServerReading, ServerSeries, ServerSeriesBuilder, summarise

S = 1_000_000_000


def series(
    *readings: ServerReading, failed_s: tuple[float, ...] = (), problem: str = "HTTP 503"
) -> ServerSeries:
    builder = ServerSeriesBuilder()
    for reading in readings:
        builder.add(reading)
    for t_s in failed_s:
        builder.fail(round(t_s * S), problem)
    return builder.build()


def at(t_s: float, resets: tuple[str, ...] = (), **values: float) -> ServerReading:
    return ServerReading(round(t_s * S), ("vllm",), values, resets, "tokens")


def test_counters_are_taken_over_exactly_the_window() -> None:
    # 100 tokens a second until 5 s, 300 from then on; half of them, later two thirds, from the cache.
    readings = [
        at(t, cache_queries=100.0 * t + 200 * max(0, t - 5), cache_hits=50.0 * t + 150 * max(0, t - 5))
        for t in range(11)
    ]
    found = summarise(series(*readings), open_ns=round(2.5 * S), close_ns=round(7.5 * S))
    # 250 + 750 looked up, 125 + 500 found.
    assert found.cache_hit_share == pytest.approx(0.625)
    assert found.cache_unit == "tokens"
    on_readings = summarise(series(*readings), open_ns=2 * S, close_ns=5 * S)
    assert on_readings.cache_hit_share == pytest.approx(0.5)


def test_gauges_of_the_window_only() -> None:
    readings = [at(t, running=4, waiting=w, kv_usage=w / 10) for t, w in enumerate((9, 1, 3, 2, 9))]
    found = summarise(series(*readings), open_ns=1 * S, close_ns=3 * S)
    assert (found.waiting_mean, found.waiting_max, found.running_mean, found.running_max) == (2, 3, 4, 4)
    assert found.kv_usage_max == 0.3
    assert (found.readings, found.failed_readings) == (3, 0)


def test_a_gap_is_no_zero() -> None:
    readings = [at(t, waiting=5, preemptions=t) for t in (0, 1, 2, 20, 21)]
    found = summarise(series(*readings, failed_s=(3.0, 4.0)), open_ns=0, close_ns=21 * S)
    assert found.waiting_mean is None
    assert found.missing["waiting"].startswith("readings cover 38% of the window")
    assert found.failed_readings == 2
    # A counter has counted meanwhile.
    assert found.preemptions == 21
    inside = summarise(series(*readings), open_ns=0, close_ns=10 * S)
    assert inside.preemptions is None
    assert "within 5 s of the window's edge" in inside.missing["preemptions"]


def test_a_reset_inside_the_window_is_no_small_number() -> None:
    readings = [
        at(0, preemptions=7),
        at(1, preemptions=8),
        at(2, ("preemptions",), preemptions=0),
        at(3, preemptions=1),
    ]
    whole = summarise(series(*readings), open_ns=0, close_ns=3 * S)
    assert whole.preemptions is None
    assert "reset" in whole.missing["preemptions"]
    # Between the readings on both sides of an edge it makes the edge's value wrong, too.
    assert summarise(series(*readings), open_ns=round(1.5 * S), close_ns=3 * S).preemptions is None
    assert summarise(series(*readings), open_ns=2 * S, close_ns=3 * S).preemptions == 1


def test_what_is_not_there_says_why() -> None:
    found = summarise(series(at(0, running=1), at(1, running=1)), open_ns=0, close_ns=S)
    assert found.cache_hit_share is None
    assert found.missing["cache_hit_share"] == "vllm reports no cache queries"
    assert found.missing["waiting"] == "vllm reports no waiting"
    idle = summarise(
        series(*(at(t, cache_queries=5, cache_hits=5, drafted_tokens=0, accepted_tokens=0) for t in (0, 1))),
        open_ns=0, close_ns=S,
    )  # fmt: skip
    assert idle.missing["cache_hit_share"] == "nothing was looked up in the window"
    assert idle.missing["acceptance"] == "no token was drafted in the window"
    never = summarise(series(failed_s=(0.0,), problem="HTTP 404"), open_ns=0, close_ns=S)
    assert set(never.missing.values()) == {"HTTP 404"}
    assert (never.readings, never.failed_readings, never.running_mean) == (0, 1, None)


def test_a_window_between_two_readings_has_counters_but_no_gauges() -> None:
    readings = [at(t, running=3, generation_tokens=100 * t) for t in (0, 1)]
    found = summarise(series(*readings), open_ns=S // 4, close_ns=S // 2)
    assert found.running_mean is None
    assert found.missing["running"] == "no reading fell into the window"
    assert found.generation_tokens_per_s == pytest.approx(100)


def test_speculation_by_counters_or_by_the_engines_own_rate() -> None:
    counted = [at(t, drafted_tokens=10 * t, accepted_tokens=7 * t) for t in range(3)]
    assert summarise(series(*counted), open_ns=0, close_ns=2 * S).acceptance == pytest.approx(0.7)
    rated = [at(t, acceptance_rate=0.6 + t / 10) for t in range(3)]
    found = summarise(series(*rated), open_ns=0, close_ns=2 * S)
    assert found.acceptance == pytest.approx(0.7)
    assert "acceptance" not in found.missing
    off = summarise(series(*(at(t, acceptance_rate=0) for t in range(3))), open_ns=0, close_ns=2 * S)
    assert off.acceptance is None
    assert off.missing["acceptance"] == "no token was drafted in the window"


def test_absent_values_are_not_a_number_in_the_series() -> None:
    found = series(at(0, running=1))
    assert np.isnan(found.values["waiting"][0])
    assert found.values["running"][0] == 1
    assert at(0).in_flight is None
    assert at(0, running=2).in_flight == 2
    assert at(0, running=2, waiting=3).in_flight == 5
