from __future__ import annotations

import pytest
from sim_support import (
    FOREVER_NS,
    MS,
    amounts,
    drain,
    engine_config,
    hashing_engine,
    request,
    token_times_ms,
    told,
)

from pytest_agentperf.sim.events import EventKind


def test_step_times_add_up_exactly() -> None:
    engine = hashing_engine(engine_config())
    engine.submit(request(1, prompt=100, output=3), 5 * MS)
    # Prefill 10 + 100/10 ms, then 10 + 1 ms per token.
    assert told(drain(engine)) == [
        (5 * MS, 1, EventKind.SCHEDULED, 0),
        (25 * MS, 1, EventKind.TOKENS, 1),
        (36 * MS, 1, EventKind.TOKENS, 1),
        (47 * MS, 1, EventKind.TOKENS, 1),
        (47 * MS, 1, EventKind.FINISHED, 3),
    ]
    assert engine.next_event_ns() is None


def test_context_slows_decode() -> None:
    engine = hashing_engine(engine_config(step_per_context_ktoken_ms=10.0))
    engine.submit(request(1, prompt=100, output=3), 0)
    # The second step reads 101 tokens of context, the third 102.
    assert token_times_ms(drain(engine), 1) == [20.0, 20 + 11 + 1.01, 20 + 22 + 1.01 + 1.02]


def test_context_leaves_with_its_request() -> None:
    engine = hashing_engine(engine_config(step_per_context_ktoken_ms=10.0))
    ends = []
    for request_id in (1, 2, 3):
        engine.submit(request(request_id, prompt=100, output=20), request_id * 1_000 * MS)
        if request_id == 2:
            engine.cancel(2, 2_100 * MS)
        ends.append([time - request_id * 1_000 for time in token_times_ms(drain(engine), request_id)])
    assert ends[0] == pytest.approx(ends[2])


def test_a_late_caller_causes_no_drift() -> None:
    engine = hashing_engine(engine_config())
    engine.submit(request(1, prompt=100, output=4), 0)
    late = engine.advance(40 * MS) + engine.advance(FOREVER_NS)
    assert token_times_ms(late, 1) == [20.0, 31.0, 42.0, 53.0]


def test_a_step_slows_with_the_batch() -> None:
    engine = hashing_engine(engine_config())
    engine.submit(request(1, prompt=10, output=30), 0)
    engine.submit(request(2, prompt=10, output=30), 0)
    times = token_times_ms(drain(engine), 1)
    assert times[5] - times[4] == pytest.approx(12.0)


def test_chunked_prefill_slows_decode_but_does_not_stop_it() -> None:
    engine = hashing_engine(engine_config(max_prefill_tokens_per_step=50))
    engine.submit(request(1, prompt=10, output=20), 0)
    engine.submit(request(2, prompt=120, output=1), 20 * MS)
    events = drain(engine)
    times = token_times_ms(events, 1)
    # 11 ms end at 22; then 50 + 50 + 20 prompt tokens ride along; then alone again.
    assert times[:6] == [11.0, 22.0, 38.0, 54.0, 67.0, 78.0]
    assert token_times_ms(events, 2) == [67.0]


def test_prefill_budget_is_shared_in_order_of_arrival() -> None:
    engine = hashing_engine(engine_config(max_prefill_tokens_per_step=50))
    engine.submit(request(1, prompt=80), 0)
    engine.submit(request(2, prompt=30), 0)
    events = drain(engine)
    assert token_times_ms(events, 1) == [15 + 15.0]
    # 30 for the first, 20 for the second in the same step; the rest one step later.
    assert token_times_ms(events, 2) == [15 + 15 + 11.0]


def test_a_prefix_hit_shortens_the_first_token() -> None:
    engine = hashing_engine(engine_config())
    engine.submit(request(1, prompt=105, hashes=range(10)), 0)
    drain(engine)
    engine.submit(request(2, prompt=205, hashes=(*range(6), *range(50, 64))), 1_000 * MS)
    events = drain(engine)
    assert amounts(events, 2, EventKind.SCHEDULED) == [60]
    assert token_times_ms(events, 2) == [1_000 + 10 + 14.5]
    stats = engine.stats(2_000 * MS)
    assert (stats.prefix_query_tokens, stats.prefix_hit_tokens) == (310, 60)
    assert (stats.prompt_tokens, stats.generation_tokens) == (310, 2)


def test_a_full_hit_still_computes_the_last_token() -> None:
    engine = hashing_engine(engine_config())
    for request_id in (1, 2):
        engine.submit(request(request_id, prompt=100, hashes=range(10)), 1_000 * MS * request_id)
        events = drain(engine)
    assert amounts(events, 2, EventKind.SCHEDULED) == [90]
    assert engine.stats(3_000 * MS).kv_usage == 0


def test_blocks_are_shared_between_running_requests() -> None:
    engine = hashing_engine(engine_config(kv_blocks=14))
    engine.submit(request(1, prompt=100, output=10, hashes=range(10)), 0)
    engine.advance(20 * MS)
    engine.submit(request(2, prompt=110, output=10, hashes=range(11)), 21 * MS)
    events = engine.advance(40 * MS)
    assert amounts(events, 2, EventKind.SCHEDULED) == [100]
    # Ten shared, one each for the first's answer and the second's rest.
    assert engine.stats(40 * MS).kv_usage == pytest.approx(12 / 14)
    drain(engine)


def test_a_blocked_request_comes_in_when_its_prefix_is_computed() -> None:
    engine = hashing_engine(engine_config(kv_blocks=17, max_prefill_tokens_per_step=60))
    engine.submit(request(1, prompt=150, output=5, hashes=range(15)), 0)
    engine.submit(request(2, prompt=155, output=1, hashes=range(15)), 1)
    events = drain(engine)
    # In the third step only 12 of its 15 blocks are known, and the other four do not fit.
    assert amounts(events, 2, EventKind.SCHEDULED) == [150]
    assert token_times_ms(events, 2)[0] < token_times_ms(events, 1)[-1]


def test_idle_blocks_are_evicted_least_recently_used_and_end_first() -> None:
    engine = hashing_engine(engine_config(kv_blocks=20))
    engine.submit(request(1, prompt=100, hashes=range(10)), 0)
    drain(engine)
    engine.submit(request(2, prompt=140, hashes=range(100, 114)), 1_000 * MS)
    drain(engine)
    # 14 of 20 were needed: the first keeps the six blocks of its beginning.
    engine.submit(request(3, prompt=105, hashes=range(10)), 2_000 * MS)
    assert amounts(drain(engine), 3, EventKind.SCHEDULED) == [60]


def test_the_batch_limit_queues() -> None:
    engine = hashing_engine(engine_config(max_batch=2))
    for request_id in (1, 2, 3):
        engine.submit(request(request_id, prompt=10, output=3), 0)
    engine.advance(12 * MS)
    stats = engine.stats(12 * MS)
    assert (stats.running, stats.waiting) == (2, 1)
    events = drain(engine)
    finished = {e.request_id: e.time_ns for e in events if e.kind is EventKind.FINISHED}
    scheduled = [e.time_ns for e in events if e.kind is EventKind.SCHEDULED and e.request_id == 3]
    assert scheduled == [finished[1]]


def test_a_long_head_of_the_queue_waits_for_blocks_and_is_not_overtaken() -> None:
    engine = hashing_engine(engine_config(kv_blocks=20))
    engine.submit(request(1, prompt=150, output=5), 0)
    engine.submit(request(2, prompt=100, output=5), 0)
    engine.submit(request(3, prompt=10, output=5), 0)
    events = drain(engine)
    finished = {e.request_id: e.time_ns for e in events if e.kind is EventKind.FINISHED}
    scheduled = {e.request_id: e.time_ns for e in events if e.kind is EventKind.SCHEDULED}
    assert scheduled[2] == scheduled[3] == finished[1]


@pytest.mark.parametrize(("prompt", "step_with_the_fourth"), [(30, 2), (29, 3), (21, 11)])
def test_blocks_grow_with_the_context(prompt: int, step_with_the_fourth: int) -> None:
    engine = hashing_engine(engine_config(prefill_tokens_per_s=1e9))
    engine.submit(request(1, prompt=prompt, output=20), 0)
    # Step s > 1 runs from 10 + 11 (s - 2) ms on and stores the KV of the token before it.
    for step in range(2, step_with_the_fourth + 9):
        blocks = engine.stats((15 + 11 * (step - 2)) * MS).kv_usage * 1_000
        assert round(blocks) == (3 if step < step_with_the_fourth else 4)


def test_the_youngest_is_preempted_and_recomputed() -> None:
    engine = hashing_engine(engine_config(kv_blocks=7))
    engine.submit(request(1, prompt=30, output=25, hashes=range(3)), 0)
    engine.submit(request(2, prompt=30, output=25, hashes=range(10, 13)), 0)
    events = drain(engine)
    stats = engine.stats(FOREVER_NS)
    assert stats.preemptions == 1
    assert stats.generation_tokens == 50
    assert stats.kv_usage == 0
    for request_id in (1, 2):
        assert sum(amounts(events, request_id, EventKind.TOKENS)) == 25
        assert amounts(events, request_id, EventKind.FINISHED) == [25]
    # Only the first admission counts as scheduled and as a query; the second waits until the first is done.
    assert amounts(events, 2, EventKind.SCHEDULED) == [0]
    assert stats.prefix_query_tokens == 60
    assert max(token_times_ms(events, 1)) < max(token_times_ms(events, 2))


def test_what_can_never_fit_is_rejected_at_once() -> None:
    engine = hashing_engine(engine_config(kv_blocks=5))
    engine.submit(request(1, prompt=40, output=12), 7)
    assert engine.next_event_ns() == 7
    assert told(engine.advance(7)) == [(7, 1, EventKind.REJECTED, 6)]
    engine.submit(request(2, prompt=40, output=11), 8)
    assert amounts(drain(engine), 2, EventKind.FINISHED) == [11]


@pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0)])
def test_an_empty_request_is_refused(prompt: int, output: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        hashing_engine(engine_config()).submit(request(1, prompt=prompt, output=output), 0)


def test_max_tokens_caps_the_answer() -> None:
    engine = hashing_engine(engine_config())
    engine.submit(request(1, output=9, max_tokens=4), 0)
    assert amounts(drain(engine), 1, EventKind.FINISHED) == [4]


@pytest.mark.parametrize("after_ms", [1, 15, 40])
def test_cancel_frees_the_blocks_and_silences_the_request(after_ms: int) -> None:
    engine = hashing_engine(engine_config(max_prefill_tokens_per_step=50))
    engine.submit(request(1, prompt=100, output=100, hashes=range(10)), 0)
    engine.advance(after_ms * MS)
    assert engine.cancel(1, after_ms * MS)
    assert not engine.cancel(1, after_ms * MS)
    stats = engine.stats(after_ms * MS)
    assert (stats.running, stats.waiting, stats.kv_usage) == (0, 0, 0)
    assert drain(engine) == []


def test_cancel_takes_a_request_out_of_the_queue() -> None:
    engine = hashing_engine(engine_config(max_batch=1))
    engine.submit(request(1, output=3), 0)
    engine.submit(request(2, output=3), 0)
    assert engine.cancel(2, 1)
    assert not {event.request_id for event in drain(engine)} & {2}


def test_cancelling_a_blocked_head_lets_the_next_in() -> None:
    engine = hashing_engine(engine_config(kv_blocks=20))
    engine.submit(request(1, prompt=150, output=50), 0)
    engine.submit(request(2, prompt=100, output=5), 0)
    engine.submit(request(3, prompt=10, output=5), 0)
    engine.advance(100 * MS)
    engine.cancel(2, 100 * MS)
    events = drain(engine)
    assert token_times_ms(events, 3)[-1] < token_times_ms(events, 1)[-1]


def test_tokens_are_bundled_after_the_first() -> None:
    engine = hashing_engine(engine_config(tokens_per_chunk=4))
    engine.submit(request(1, prompt=10, output=11), 0)
    events = drain(engine)
    assert amounts(events, 1, EventKind.TOKENS) == [1, 4, 4, 2]
    assert token_times_ms(events, 1) == [11.0, 11 + 4 * 11.0, 11 + 8 * 11.0, 11 + 10 * 11.0]


def test_without_every_chunk_first_and_last_keep_their_times() -> None:
    every, ends = hashing_engine(engine_config()), hashing_engine(engine_config(), every_chunk=False)
    followed = []
    for request_id in (1, 2, 3):
        asked = request(request_id, prompt=30 * request_id, output=20), request_id * 7 * MS
        every.submit(*asked)
        followed.append(ends.submit(*asked))
    events, ended = drain(every), drain(ends)
    assert [(e.request_id, e.kind, e.amount) for e in ended] == [
        (i, EventKind.FINISHED, 20) for i in (1, 2, 3)
    ]
    for event, sequence in zip(ended, followed, strict=True):
        times = token_times_ms(events, event.request_id)
        assert sequence.first_ns is not None
        assert (sequence.first_ns / MS, sequence.first_tokens, event.time_ns / MS) == (times[0], 1, times[-1])


def test_energy_equals_the_hand_computation() -> None:
    engine = hashing_engine(engine_config(accelerators=2))
    engine.submit(request(1, prompt=100, output=2), 1_000 * MS)
    drain(engine)
    # Idle 1 s; 20 ms with half of it base: activity 1 - 0.5 * 10/20; 11 ms: 1 - 0.5 * 10/11; idle again.
    prefill_w = 2 * (100 + 200 * 0.75)
    decode_w = 2 * (100 + 200 * (1 - 5 / 11))
    expected_j = 200 * 1.0 + prefill_w * 0.020 + decode_w * 0.011 + 200 * 0.5
    stats = engine.stats(1_531 * MS)
    assert stats.energy_j == pytest.approx(expected_j, rel=1e-12)
    assert stats.power_w == 200


def test_energy_runs_within_a_step() -> None:
    engine = hashing_engine(engine_config(), start_ns=500 * MS)
    engine.submit(request(1, prompt=100), 500 * MS)
    stats = engine.stats(510 * MS)
    assert stats.power_w == pytest.approx(250.0)
    assert stats.energy_j == pytest.approx(2.5)


def test_jitter_is_seeded_and_keeps_the_mean() -> None:
    def times(seed: int) -> list[float]:
        engine = hashing_engine(engine_config(jitter_cv=0.2, seed=seed))
        engine.submit(request(1, prompt=10, output=4_000), 0)
        return token_times_ms(drain(engine), 1)

    first = times(1)
    assert first == times(1)
    assert first != times(2)
    assert first[-1] / 4_000 == pytest.approx(11.0, rel=0.02)
