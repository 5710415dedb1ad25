"""What a request costs in the engine alone, on one core: `python tests/benchmarks/engine_model.py`.

Agents send a turn, wait for its end and a tool's second, and send the next; prompts grow from 5,000 tokens by some
1,200 a turn, answers have a median of 150 and a 95th percentile of 2,000 tokens. Nothing but the engine and a heap of
due times is here, so that the driver's cost is not in the figure.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import pstats
import random
from heapq import heappop, heappush
from time import process_time
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.config.engine import EngineConfig, PrefillPool, Speculation
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.events import EngineRequest, EventKind

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.sequence import Sequence

TURNS = 38
P95_Z = 1.645


class Case(NamedTuple):
    """A deployment and its agents."""

    agents: int
    engine: EngineConfig


CASES = {
    "one replica, 60 agents": Case(60, EngineConfig()),
    "8 ranks, 1,840 agents": Case(
        1_840,
        EngineConfig(
            ranks=8, step_base_ms=12, step_per_sequence_ms=0.08, step_per_context_ktoken_ms=0.0012,
            prefill_tokens_per_s=60_000, max_prefill_tokens_per_step=2_048, kv_blocks=200_000, max_batch=256,
        ),
    ),
    "6 × 4 prefill, 8 decode ranks, 1,840 agents": Case(
        1_840,
        EngineConfig(
            accelerators=32, ranks=8, step_base_ms=12, step_per_sequence_ms=0.15,
            step_per_context_ktoken_ms=0.0012, prefill_tokens_per_s=10_000, max_prefill_tokens_per_step=8_192,
            kv_blocks=200_000, max_batch=192, speculation=Speculation(draft_tokens=3, acceptance_rate=0.6),
            prefill_pool=PrefillPool(
                replicas=6, ranks=4, accelerators_each=4, transfer_latency_ms=5, transfer_kv_kbyte_per_token=35
            ),
        ),
    ),
    "13 × 4 prefill, 20 decode ranks, 4,100 agents": Case(
        4_100,
        EngineConfig(
            accelerators=72, ranks=20, step_base_ms=12, step_per_sequence_ms=0.15,
            step_per_context_ktoken_ms=0.0012, prefill_tokens_per_s=10_000, max_prefill_tokens_per_step=8_192,
            kv_blocks=200_000, max_batch=192, speculation=Speculation(draft_tokens=3, acceptance_rate=0.6),
            prefill_pool=PrefillPool(
                replicas=13, ranks=4, accelerators_each=4, transfer_latency_ms=5, transfer_kv_kbyte_per_token=35
            ),
        ),
    ),
}  # fmt: skip


def run(case: Case, requests: int) -> None:
    draw = random.Random(0)
    sigma = math.log(2_000 / 150) / P95_Z
    more = [round(draw.expovariate(1 / 1_200)) + 20 for _ in range(4_096)]
    lengths = [min(16_384, max(1, round(150 * math.exp(sigma * draw.gauss())))) for _ in range(4_096)]
    delays = [round(1e9 * draw.expovariate(1.0)) for _ in range(4_096)]

    due = [(round(a * 60e9 / case.agents), a) for a in range(case.agents)]
    turns = [draw.randrange(TURNS) for _ in due]
    sessions = list(range(case.agents))
    prompts = [5_000 + turn * 1_200 for turn in turns]
    shared = [0] * case.agents
    sent = [0] * case.agents
    ttft_s: list[float] = []
    speeds: list[float] = []
    followed: dict[int, Sequence] = {}
    engine = Engine(case.engine, every_chunk=False)
    finished = calls = 0
    inside = 0.0
    began = process_time()
    now_ns = 0
    while finished < requests:
        when_ns = engine.next_event_ns()
        if due and (when_ns is None or due[0][0] <= when_ns):
            now_ns, agent = heappop(due)
            turns[agent] += 1
            if turns[agent] == TURNS:
                turns[agent], prompts[agent], shared[agent] = 0, 5_000, 0
                sessions[agent] += case.agents
            k = (turns[agent] * 31 + sessions[agent]) % 4_096
            prompts[agent] += more[k]
            request = EngineRequest(agent, prompts[agent], lengths[k], 16_384, sessions[agent], shared[agent])
            shared[agent] = prompts[agent]
            sent[agent] = now_ns
            start = process_time()
            followed[agent] = engine.submit(request, now_ns)
            inside += process_time() - start
            continue
        assert when_ns is not None
        calls, now_ns = calls + 1, when_ns
        start = process_time()
        events = engine.advance(when_ns)
        inside += process_time() - start
        for time_ns, sequence, kind, amount in events:
            agent = sequence.request_id
            if kind is EventKind.FINISHED:
                finished += 1
                first_ns = followed[agent].first_ns
                assert first_ns is not None
                ttft_s.append((first_ns - sent[agent]) / 1e9)
                if amount > 1:
                    speeds.append((amount - 1) / (time_ns - first_ns) * 1e9)
                heappush(due, (time_ns + delays[finished % 4_096], agent))
    wall = process_time() - began
    stats = engine.stats(now_ns)
    ttft_s.sort()
    speeds.sort()
    print(
        f"  {finished:,} requests in {now_ns / 3.6e12:.2f} virtual h: {inside / finished * 1e6:.1f} µs each in the "
        f"engine, {wall / finished * 1e6:.1f} µs with this loop and its clock; {calls / finished:.2f} advances each; "
        f"P25 {speeds[len(speeds) // 4]:.1f} tok/s, P95 TTFT {ttft_s[len(ttft_s) * 95 // 100]:.2f} s, "
        f"{stats.running} running, {stats.waiting} waiting, "
        f"{stats.prefix_hit_tokens / stats.prefix_query_tokens:.1%} of prompts cached, "
        f"{stats.preemptions} preempted"
    )


def yardstick_us() -> float:
    """Time a hundred additions to a list's items, so that figures of a busy or another machine compare."""
    items = [0] * 10
    start = process_time()
    for _ in range(2_000):
        for i in range(100):
            items[i % 10] += i
    return (process_time() - start) / 2_000 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    for name, case in CASES.items():
        if options.only in name:
            print(f"{name} (100 additions to a list: {yardstick_us():.1f} µs)")
            if options.profile:
                profile = cProfile.Profile()
                profile.runcall(run, case, options.requests)
                pstats.Stats(profile).sort_stats("tottime").print_stats(18)
            else:
                run(case, options.requests)


if __name__ == "__main__":
    main()
