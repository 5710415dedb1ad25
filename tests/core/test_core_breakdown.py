"""Where answers were late or slow."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_agentperf.core.breakdown import Bucket, break_down, worst_losses
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey
from pytest_agentperf.core.slo import SloTier

S = 1_000_000_000
Rows = Sequence[tuple[int, int | None, int | None, float | None, float | None]]
TIER = SloTier(name="tier1", output_speed_p25_tok_s=20, ttft_p95_s=1)


def columns(rows: Rows) -> RequestColumns:
    """`rows`: (turn, prompt tokens, cached tokens, TTFT in s, speed in tok/s or None for a failure)."""
    builder = ColumnsBuilder()
    for i, (turn, prompt, cached, ttft, speed) in enumerate(rows):
        sent = i * S
        key = RequestKey(0, 0, i, 0, "t", turn)
        if speed is None or ttft is None:
            builder.add(key, Answer(sent, sent + S, failure="stalled"))
            continue
        first = sent + round(ttft * S)
        last = first + round(100 / speed * S)
        builder.add(
            key,
            Answer(
                sent, last, t_first_ns=first, t_last_ns=last, prompt_tokens=prompt, cached_tokens=cached,
                output_tokens=101, first_chunk_tokens=1,
            ),
        )  # fmt: skip
    return builder.finish()


def buckets(rows: Rows, **window: int) -> dict[tuple[str, str], Bucket]:
    window = {"open_ns": 0, "close_ns": 10**6 * S, **window}
    return {(b.by, b.label): b for b in break_down(columns(rows), [TIER], **window)}


def test_each_request_counts_once_in_each_dimension() -> None:
    found = buckets([(0, 5_000, 0, 0.5, 30), (5, 20_000, 15_000, 2, 30), (50, 90_000, 89_000, 0.1, 10)])
    for by in ("context", "turn", "cached"):
        assert sum(b.requests for (dim, _), b in found.items() if dim == by) == 3
    assert found["turn", "turn 1"].late == {"tier1": 0}
    assert found["context", "16K to 32K tokens"].late == {"tier1": 1}
    assert found["context", "64K tokens and more"].slow == {"tier1": 1}
    assert found["cached", "90 % of it cached and more"].output_speed_p25_tok_s == 10


def test_edges_belong_to_the_upper_bucket() -> None:
    found = buckets([(1, 8_000, 4_000, 0.5, 30), (0, 7_999, 0, 0.5, 30)])
    assert ("context", "8K to 16K tokens") in found
    assert ("turn", "turns 2 to 10") in found
    assert ("cached", "50 to 90 % of it cached") in found


def test_failures_count_where_their_prompt_is_unknown_by_turn_alone() -> None:
    found = buckets([(0, None, None, None, None)])
    assert list(found) == [("turn", "turn 1")]
    bucket = found["turn", "turn 1"]
    assert (bucket.failures, bucket.late["tier1"], bucket.slow["tier1"]) == (1, 1, 1)
    assert bucket.ttft_p95_s is None


def test_requests_outside_the_window_do_not_count() -> None:
    found = buckets([(0, 5_000, 0, 0.5, 30)] * 3, open_ns=S, close_ns=2 * S)
    assert found["turn", "turn 1"].requests == 1


def test_the_loss_is_found_where_it_sits() -> None:
    healthy = [
        (turn, size, size - 500, 0.2, 30) for turn in (0, 5, 20, 60) for size in (5_000, 20_000, 90_000)
    ] * 20
    hurt = [(t, p, c, 3.0 if p == 90_000 else ttft, s) for t, p, c, ttft, s in healthy]
    before, now = (
        break_down(columns(rows), [TIER], open_ns=0, close_ns=10**6 * S) for rows in (healthy, hurt)
    )
    first, *_ = worst_losses(now, before, "tier1", "ttft_p95")
    assert (first.bucket.by, first.bucket.label) == ("context", "64K tokens and more")
    assert first.rise == 1.0
    assert first.share_of_rise == 1.0
    assert worst_losses(now, before, "tier1", "output_speed_p25") == []
    assert worst_losses(before, before, "tier1", "ttft_p95") == []
