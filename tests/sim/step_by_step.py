"""The engine's model step by step and block by block: slow, and short enough to be read against the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.sim.events import EngineRequest

MS = 1_000_000


class Outcome(NamedTuple):
    """What became of one request."""

    cached: int
    first_ns: int
    end_ns: int


class _Request:
    def __init__(self, request: EngineRequest) -> None:
        self.id = request.request_id
        self.session = request.session
        self.shared = request.shared_tokens
        self.prompt = self.target = request.prompt_tokens
        self.length = min(request.output_tokens, request.max_tokens)
        self.computed = self.emitted = self.blocks = self.tokens = self.first_ns = 0
        self.cached: int | None = None
        self.decoding = False


class _Rank:
    def __init__(self) -> None:
        self.waiting: list[_Request] = []
        self.running: list[_Request] = []
        self.idle: list[list[int]] = []  # blocks and session (-1: nobody's), least recently used first
        self.sessions = 0


class StepByStep:
    """One replica without jitter, speculation or a prefill pool."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.ranks = [_Rank() for _ in range(config.ranks)]
        self.routes: dict[int, _Rank] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.preemptions = 0
        self.energy_j = 0.0  # above idle
        self.end_ns: int | None = None

    def submit(self, request: EngineRequest, now_ns: int) -> None:
        self.run_until(now_ns)
        rank = self.routes.get(request.session)
        if rank is None:
            rank = min(self.ranks, key=lambda r: (len(r.waiting) + len(r.running), r.sessions))
            rank.sessions += 1
            self.routes[request.session] = rank
        rank.waiting.append(_Request(request))
        if self.end_ns is None:
            self.begin(now_ns)

    def run_until(self, now_ns: float) -> None:
        while self.end_ns is not None and self.end_ns <= now_ns:
            now = self.end_ns
            self.end(now)
            self.begin(now)

    def begin(self, now_ns: int) -> None:
        c = self.config
        for rank in self.ranks:
            preempted = self.grow(rank)
            budget = c.max_prefill_tokens_per_step
            for one in rank.running:
                one.tokens = 0 if one.decoding else min(budget, one.target - one.computed)
                budget -= one.tokens
            while budget and rank.waiting and not preempted and len(rank.running) < c.max_batch:
                one = rank.waiting[0]
                if not self.admit(rank, one):
                    break
                rank.running.append(rank.waiting.pop(0))
                one.tokens = min(budget, one.target - one.computed)
                budget -= one.tokens
        if not any(rank.running for rank in self.ranks):
            self.end_ns = None
            return
        step_ms = active_ms = 0.0
        for rank in self.ranks:
            if not rank.running:
                continue
            decoding = [one for one in rank.running if one.decoding]
            kv_ms = c.step_per_context_ktoken_ms * sum(one.prompt + one.emitted for one in decoding) / 1_000
            slowdown = 1 / (c.prefill_half_speed_context_tokens or 10**18)
            prompts_ms = 1_000 / c.prefill_tokens_per_s * sum(
                one.tokens * (1 + slowdown * (one.computed + one.tokens / 2)) for one in rank.running
            )  # fmt: skip
            decode_ms = c.step_per_sequence_ms * len(decoding)
            memory_ms, compute_ms = c.step_base_ms + kv_ms, decode_ms + prompts_ms
            own_ms = max(memory_ms, compute_ms) if c.step_overlap else memory_ms + compute_ms
            step_ms = max(step_ms, c.step_overhead_ms + own_ms)
            share = c.power_activity
            active_ms += share.kv * kv_ms + share.decode * decode_ms + share.prefill * prompts_ms
        active_ms = c.power_activity.weights * c.step_base_ms + active_ms / c.ranks
        self.energy_j += (c.power_peak_w - c.power_idle_w) * c.accelerators * active_ms / 1_000
        self.end_ns = now_ns + round(step_ms * MS)

    def end(self, now_ns: int) -> None:
        # Those that decode come before those whose prompt is completed, as in one batch.
        for rank in self.ranks:
            running = [one for one in rank.running if one.decoding]
            for one in rank.running:
                one.computed += one.tokens
                if one.tokens and one.computed == one.target:
                    running.append(one)
            for one in running:
                one.decoding = True
                one.tokens = 0
                one.emitted += 1
                one.first_ns = one.first_ns or now_ns
                if one.emitted == one.length:
                    assert one.cached is not None
                    self.outcomes[one.id] = Outcome(one.cached, one.first_ns, now_ns)
                    self.release(rank, one)

    def grow(self, rank: _Rank) -> bool:
        preempted = False
        for one in [one for one in rank.running if one.decoding]:
            if (
                one not in rank.running
                or one.blocks * self.config.kv_block_tokens >= one.prompt + one.emitted
            ):
                continue
            while not self.take(rank, 1):
                preempted = True
                youngest = rank.running[-1]
                self.release(rank, youngest)
                self.preemptions += 1
                youngest.decoding, youngest.target = False, youngest.prompt + youngest.emitted
                rank.waiting.insert(0, youngest)
                if youngest is one:
                    break
            else:
                one.blocks += 1
        return preempted

    def admit(self, rank: _Rank, one: _Request) -> bool:
        size = self.config.kv_block_tokens
        left = next((idle for idle in reversed(rank.idle) if idle[1] == one.session), [0, -1])
        hits = min(left[0], one.shared // size, (one.target - 1) // size)
        blocks = -(-one.target // size)
        if sum(other.blocks for other in rank.running) + blocks > self.config.kv_blocks:
            return False
        if hits:
            left[0] -= hits
            left[1] = -1
            rank.idle = [idle for idle in rank.idle if idle[0]]
        one.blocks = hits
        rank.running.append(one)
        assert self.take(rank, blocks - hits)
        rank.running.pop()
        one.blocks = blocks
        one.computed = hits * size
        if one.cached is None:
            one.cached = one.computed
        return True

    def take(self, rank: _Rank, blocks: int) -> bool:
        used = sum(one.blocks for one in rank.running) + blocks
        if used > self.config.kv_blocks:
            return False
        while used + sum(count for count, _ in rank.idle) > self.config.kv_blocks:
            rank.idle[0][0] -= 1
            rank.idle = [idle for idle in rank.idle if idle[0]]
        return True

    def release(self, rank: _Rank, one: _Request) -> None:
        rank.running.remove(one)
        kept = min(one.prompt, one.computed) // self.config.kv_block_tokens
        if kept:
            for idle in rank.idle:
                idle[1] = -1 if idle[1] == one.session else idle[1]
            rank.idle.append([kept, one.session])
        one.blocks, one.shared = 0, one.prompt
