"""Ranks, replicas, prefill pools and speculation."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest
from sim_support import FOREVER_NS, MS, amounts, drain, engine_config, request, token_times_ms

from pytest_agentperf.config.engine import EngineConfig, PrefillPool, Speculation
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.engine.speculation import AcceptedTokens
from pytest_agentperf.sim.events import EngineRequest, EventKind


def turn(request_id: int, session: int, prompt: int = 10, output: int = 1, shared: int = 0) -> EngineRequest:
    return EngineRequest(request_id, prompt, output, 10**6, session, shared)


def test_a_session_stays_where_it_began() -> None:
    engine = Engine(engine_config(replicas=3))
    for request_id, session in enumerate((7, 8, 9)):
        engine.submit(turn(request_id, session, prompt=100, output=1), 0)
    drain(engine)
    engine.submit(turn(10, 8, prompt=150, shared=100), 1_000 * MS)
    engine.submit(turn(11, 9, prompt=150, shared=100), 1_000 * MS)
    events = drain(engine)
    # All were sent at once, to a replica each; on their return both find their prompts, and step alone.
    assert [amounts(events, request_id, EventKind.SCHEDULED) for request_id in (10, 11)] == [[100], [100]]
    assert token_times_ms(events, 10) == token_times_ms(events, 11) == [1_000 + 10 + 5]


def test_a_new_session_goes_where_the_fewest_requests_are() -> None:
    engine = Engine(engine_config(replicas=2))
    engine.submit(turn(1, 1, output=100), 0)
    engine.submit(turn(2, 2, output=2), 0)
    engine.advance(500 * MS)
    engine.submit(turn(3, 3, output=2), 500 * MS)
    # Alone in its replica: 10 ms and a prompt's 1 ms, then 11 ms.
    assert token_times_ms(drain(engine), 3) == [511.0, 522.0]


def test_ranks_wait_for_the_slowest() -> None:
    engine = Engine(engine_config(ranks=2))
    engine.submit(turn(1, 1, output=4), 0)
    engine.submit(turn(2, 2, prompt=500, output=1), 1 * MS)
    # The first rank's second step lasts as long as the other's prompt: 10 + 50 ms.
    assert token_times_ms(drain(engine), 1) == [11.0, 71.0, 82.0, 93.0]


def test_a_long_prompt_is_computed_without_an_event_a_chunk() -> None:
    engine = Engine(engine_config(max_prefill_tokens_per_step=10, kv_blocks=10_000))
    engine.submit(turn(1, 1, prompt=50_005), 0)
    engine.advance(0)
    calls = 0
    while (when_ns := engine.next_event_ns()) is not None:
        events = engine.advance(when_ns)
        calls += 1
    assert events[-1].time_ns == (5_000 * 11 + 10.5) * MS
    assert calls == 2


POOL = PrefillPool(
    replicas=1, accelerators_each=1, transfer_latency_ms=5, transfer_kv_kbyte_per_token=100, transfer_gbyte_per_s=1
)  # fmt: skip


def test_the_first_token_comes_from_the_pool_and_the_others_after_the_transfer() -> None:
    engine = Engine(engine_config(accelerators=2, prefill_pool=POOL))
    engine.submit(turn(1, 1, prompt=100, output=3), 0)
    # 10 + 10 ms; 5 ms and 100 tokens · 100 kB at 1 GB/s; 11 ms a token.
    assert token_times_ms(drain(engine), 1) == [20.0, 20 + 5 + 10 + 11.0, 57.0]


def test_the_first_token_can_wait_for_a_place_where_it_is_decoded() -> None:
    engine = Engine(
        engine_config(
            accelerators=2, max_batch=1, prefill_pool=POOL.model_copy(update={"first_token": "decode"})
        )
    )
    engine.submit(turn(1, 1, prompt=100, output=3), 0)
    engine.submit(turn(2, 2, prompt=100, output=2), 0)
    engine.submit(turn(3, 3, prompt=100, output=1), 0)
    events = drain(engine)
    assert token_times_ms(events, 1) == [35.0, 46.0, 57.0]
    # Computed at 40 ms and copied at 55, it has no place in the batch before the first one ends.
    assert token_times_ms(events, 2) == [57.0, 68.0]
    # Nobody decodes an answer of one token.
    assert token_times_ms(events, 3) == [60.0]


def test_a_prompt_does_not_slow_decoding_elsewhere() -> None:
    engine = Engine(engine_config(accelerators=2, prefill_pool=POOL))
    engine.submit(turn(1, 1, prompt=10, output=30), 0)
    engine.submit(turn(2, 2, prompt=900, output=1), 40 * MS)
    times = token_times_ms(drain(engine), 1)
    assert [after - before for before, after in itertools.pairwise(times[1:])] == [11.0] * 28


def test_the_pool_keeps_prefixes_and_blocks_until_they_are_copied() -> None:
    engine = Engine(engine_config(accelerators=2, prefill_pool=POOL.model_copy(update={"kv_blocks": 15})))
    engine.submit(turn(1, 1, prompt=100, output=2), 0)
    engine.submit(turn(2, 2, prompt=100, output=2), 1)
    events = drain(engine)
    # The second has no room before the first one's blocks are copied, at 35 ms.
    assert token_times_ms(events, 2)[0] == 35 + 20
    engine.submit(turn(3, 2, prompt=120, output=2, shared=100), 1_000 * MS)
    assert amounts(drain(engine), 3, EventKind.SCHEDULED) == [100]


@pytest.mark.parametrize("after_ms", [5, 25, 50])
def test_cancel_frees_blocks_wherever_the_request_is(after_ms: int) -> None:
    engine = Engine(engine_config(accelerators=2, prefill_pool=POOL))
    engine.submit(turn(1, 1, prompt=100, output=30), 0)
    engine.advance(after_ms * MS)
    assert engine.cancel(1, after_ms * MS)
    assert not engine.cancel(1, after_ms * MS)
    assert drain(engine) == []
    stats = engine.stats(FOREVER_NS)
    assert (stats.running, stats.waiting, stats.kv_usage) == (0, 0, 0)


def test_who_is_preempted_in_decoding_is_computed_again() -> None:
    engine = Engine(engine_config(accelerators=2, prefill_pool=POOL, kv_blocks=9))
    for request_id in (1, 2):
        engine.submit(turn(request_id, request_id, prompt=30, output=25), 0)
    events = drain(engine)
    stats = engine.stats(FOREVER_NS)
    assert stats.preemptions == 1
    assert stats.generation_tokens == 50
    assert stats.kv_usage == 0
    for request_id in (1, 2):
        assert amounts(events, request_id, EventKind.FINISHED) == [25]
        assert sum(amounts(events, request_id, EventKind.TOKENS)) == 25


def test_each_pool_draws_its_own_power() -> None:
    config = engine_config(accelerators=4, prefill_pool=POOL.model_copy(update={"accelerators_each": 3}))
    engine = Engine(config)
    engine.submit(turn(1, 1, prompt=100, output=2), 0)
    drain(engine)
    # 20 ms of prefill on three, half of them base; 11 ms of decoding on one.
    above_idle_j = 3 * 200 * (0.5 * 0.010 + 0.010) + 200 * (0.5 * 0.010 + 0.001)
    assert engine.stats(1_000 * MS).energy_j == pytest.approx(4 * 100 * 1.0 + above_idle_j, rel=1e-12)


def test_a_pool_that_leaves_nothing_to_decode_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves none to decode"):
        Engine(engine_config(accelerators=1, prefill_pool=POOL))


@pytest.mark.parametrize(("drafts", "rate"), [(1, 0.5), (3, 0.7), (7, 0.9), (4, 0.0)])
@pytest.mark.parametrize("tokens", [1, 10, 400])
def test_steps_are_drawn_as_if_draft_by_draft(drafts: int, rate: float, tokens: int) -> None:
    dice = random.Random(1)

    def steps_one_by_one() -> int:
        done = steps = 0
        while done < tokens:
            accepted = 0
            while accepted < drafts and dice.random() < rate:
                accepted += 1
            done += accepted + 1
            steps += 1
        return steps

    accepted = AcceptedTokens(Speculation(draft_tokens=drafts, acceptance_rate=rate))
    drawn = [accepted.draw_steps(tokens, dice.gauss()) for _ in range(2_000)]
    told = [steps_one_by_one() for _ in range(2_000)]
    assert statistics.fmean(drawn) == pytest.approx(statistics.fmean(told), rel=0.03)
    assert statistics.pstdev(drawn) == pytest.approx(statistics.pstdev(told), rel=0.15, abs=0.1)


def test_speculation_speeds_up_by_the_tokens_of_a_step() -> None:
    config = engine_config(speculation=Speculation(draft_tokens=3, acceptance_rate=0.7))
    ends = {}
    for every_chunk in (True, False):
        engine = Engine(config, every_chunk=every_chunk)
        engine.submit(request(1, output=9_001), 0)
        events = drain(engine)
        ends[every_chunk] = events[-1].time_ns
        if every_chunk:
            sizes = amounts(events, 1, EventKind.TOKENS)
            assert sizes[0] == 1
            assert sum(sizes) == 9_001
            assert set(sizes[1:]) == {2, 3}  # 2.53 on average
    assert ends[True] == ends[False]
    assert ends[True] / MS == pytest.approx(11 * 9_000 / 2.533, rel=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_a_request_that_only_just_fits_does_not_wait_for_another_to_arrive(seed: int) -> None:
    # With drafts accepted early its blocks are taken before they are needed: it has to leave for itself.
    speculation = Speculation(draft_tokens=3, acceptance_rate=0.69)
    engine = Engine(engine_config(kv_blocks=40, kv_block_tokens=16, speculation=speculation, seed=seed))
    engine.submit(request(1, prompt=320, output=310), 0)
    assert amounts(drain(engine), 1, EventKind.FINISHED) == [310]


def test_the_roofline_takes_the_longer_side() -> None:
    activity = {"kv": 0.5, "decode": 0.5, "prefill": 0.5}
    engine = Engine(engine_config(step_overlap=True, step_overhead_ms=2.0, power_activity=activity))
    engine.submit(request(1, prompt=300, output=3), 0)
    # 30 ms of arithmetic against 10 ms of memory, then 1 against 10.
    assert token_times_ms(drain(engine), 1) == [32.0, 44.0, 56.0]


@pytest.mark.parametrize("agents", [1, 3, 6, 7, 12])
def test_more_load_is_never_faster(agents: int) -> None:
    def last_end_ms(n: int, **changes: object) -> float:
        engine = Engine(engine_config(max_batch=6, step_per_context_ktoken_ms=1.0, **changes))
        for request_id in range(n):
            engine.submit(turn(request_id, request_id, prompt=200, output=50), 0)
        return drain(engine)[-1].time_ns / MS

    for changes in ({}, {"ranks": 2}, {"replicas": 2}, {"accelerators": 2, "prefill_pool": POOL}):
        assert last_end_ms(agents, **changes) <= last_end_ms(agents + 1, **changes)


def test_defaults_are_one_replica_of_one_rank() -> None:
    config = EngineConfig()
    assert (config.replicas, config.ranks, config.prefill_pool, config.speculation) == (1, 1, None, None)
