"""A continuous-batching engine in virtual time: no sockets, no event loop, no clock.

Decoding sequences advance together, one token per step, so a step touches only the sequences for which
something falls due in it: a chunk, the end, a new KV block. Nothing is counted per token: after step `s` a
sequence has emitted `s + offset`.
"""

from __future__ import annotations

import math
import random
import sys
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from pytest_agentperf.sim.events import EngineEvent, EngineStats, EventKind
from pytest_agentperf.sim.kv_cache import KvCache
from pytest_agentperf.sim.power import EnergyMeter, step_power_w

if TYPE_CHECKING:
    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.sim.events import EngineRequest

NEVER = -1


class _Sequence:
    __slots__ = (
        "blocks",
        "computed",
        "emit_step",
        "emitted",
        "grow_step",
        "hashes",
        "length",
        "offset",
        "order",
        "prompt",
        "reported",
        "request_id",
        "scheduled",
        "shared",
        "target",
    )

    def __init__(self, request: EngineRequest) -> None:
        self.request_id = request.request_id
        self.hashes = request.block_hashes
        self.prompt = request.prompt_tokens
        self.length = min(request.output_tokens, request.max_tokens)
        self.target = self.prompt  # tokens whose KV the prefill has to compute
        self.computed = 0
        self.scheduled = False
        self.emitted = 0  # up to date only while the sequence is not decoding
        self.reported = 0
        self.order = 0
        self.blocks = 0
        self.shared = 0
        self.offset = 0
        self.emit_step = NEVER
        self.grow_step = NEVER


_BY_ADMISSION = attrgetter("order")


class Engine:
    """One engine; `submit` and `cancel` first catch up with the time they are given."""

    def __init__(self, config: EngineConfig, *, start_ns: int = 0, every_chunk: bool = True) -> None:
        """`every_chunk=False` reports only the first token and the rest at the end, at the same times."""
        self._base_ns = config.step_base_ms * 1e6
        self._per_sequence_ns = config.step_per_sequence_ms * 1e6
        self._per_context_token_ns = config.step_per_context_ktoken_ms * 1e3
        self._per_prefill_token_ns = 1e9 / config.prefill_tokens_per_s
        self._prefill_budget = config.max_prefill_tokens_per_step
        self._block_tokens = config.kv_block_tokens
        self._max_batch = config.max_batch
        self._chunk = config.tokens_per_chunk if every_chunk else sys.maxsize
        self._config = config
        self._random = random.Random(config.seed)
        self._sigma = math.sqrt(math.log1p(config.jitter_cv**2))

        self._kv = KvCache(config.kv_blocks)
        self._idle_w = config.power_idle_w * config.accelerators
        self._meter = EnergyMeter(start_ns, self._idle_w)

        self._waiting: deque[_Sequence] = deque()
        self._running: dict[int, _Sequence] = {}  # in order of admission
        self._prefilling: dict[int, _Sequence] = {}
        self._decoding = 0
        self._context_offset = 0  # sum over decoding sequences of prompt + offset
        self._blocked_at = NEVER  # kv.changes when the head of the queue last did not fit

        self._admissions = 0
        self._step = 0
        self._step_end_ns: int | None = None
        self._chunks: list[tuple[_Sequence, int]] = []  # prompt tokens computed by the step in flight
        self._emit_at: dict[int, list[_Sequence]] = {}
        self._grow_at: dict[int, list[_Sequence]] = {}
        self._events: list[EngineEvent] = []

        self._prefix_queries = 0
        self._prefix_hits = 0
        self._prompt_tokens = 0
        self._generated = 0
        self._preemptions = 0

    def submit(self, request: EngineRequest, now_ns: int) -> None:
        """Queue a request; an idle engine starts a step at once."""
        self._run_until(now_ns)
        sequence = _Sequence(request)
        if sequence.prompt < 1 or sequence.length < 1:
            raise ValueError("a request has at least one prompt token and one output token")
        needed = self._blocks_for(sequence.prompt + sequence.length - 1)
        if needed > self._kv.capacity:
            self._note(now_ns, sequence, EventKind.REJECTED, needed)
            return
        self._waiting.append(sequence)
        if self._step_end_ns is None:
            self._begin_step(now_ns)

    def cancel(self, request_id: int, now_ns: int) -> bool:
        """Drop a request and free its blocks; False if it has ended by `now_ns` or never was."""
        self._run_until(now_ns)
        sequence = self._running.get(request_id)
        if sequence is not None:
            self._leave(sequence)
            return True
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                self._blocked_at = NEVER
                return True
        return False

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to do: an unread event or the end of the step."""
        return self._events[0].time_ns if self._events else self._step_end_ns

    def advance(self, now_ns: int) -> list[EngineEvent]:
        """Finish every step that has ended by `now_ns`; returns the events since the last call, in order."""
        self._run_until(now_ns)
        events = self._events
        self._events = []
        return events

    def stats(self, now_ns: int) -> EngineStats:
        """Return gauges and counters at `now_ns`."""
        self._run_until(now_ns)
        return EngineStats(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_usage=self._kv.used / self._kv.capacity,
            prefix_query_tokens=self._prefix_queries,
            prefix_hit_tokens=self._prefix_hits,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generated,
            preemptions=self._preemptions,
            energy_j=self._meter.energy_j(now_ns),
            power_w=self._meter.power_w,
        )

    def _run_until(self, now_ns: int) -> None:
        # Each step starts where the previous one ended, not at `now_ns`: a late caller causes no drift.
        while (end_ns := self._step_end_ns) is not None and end_ns <= now_ns:
            self._end_step(end_ns)
            self._begin_step(end_ns)

    def _begin_step(self, start_ns: int) -> None:
        self._step += 1
        preempted = self._grow()
        prefill_tokens = self._schedule_prefill(start_ns, admit=not preempted)
        if not self._running:
            self._step_end_ns = None
            self._meter.change(start_ns, self._idle_w)
            return
        decoding = self._decoding
        context_tokens = self._context_offset + decoding * (self._step - 1)
        raw_ns = (
            self._base_ns
            + self._per_sequence_ns * decoding
            + self._per_context_token_ns * context_tokens
            + self._per_prefill_token_ns * prefill_tokens
        )
        duration_ns = raw_ns
        if self._sigma:
            # A lognormal factor with mean 1 stays positive and leaves throughput unbiased.
            duration_ns *= math.exp(self._sigma * self._random.gauss() - self._sigma**2 / 2)
        self._step_end_ns = start_ns + max(1, round(duration_ns))
        self._meter.change(start_ns, step_power_w(self._config, self._base_ns / raw_ns))

    def _grow(self) -> bool:
        """Give every sequence that needs one its next block; returns whether another had to make room."""
        preempted = False
        for sequence in self._grow_at.pop(self._step, ()):
            if sequence.grow_step != self._step:
                continue
            while not self._kv.allocate(1):
                preempted = True
                youngest = next(reversed(self._running.values()))
                self._preempt(youngest)
                if youngest is sequence:
                    break
            else:
                sequence.blocks += 1
                self._plan_growth(sequence)
        return preempted

    def _preempt(self, sequence: _Sequence) -> None:
        if sequence.request_id not in self._prefilling:
            sequence.emitted = sequence.offset + self._step - 1
        self._leave(sequence)
        sequence.target = sequence.prompt + sequence.emitted
        self._waiting.appendleft(sequence)
        self._blocked_at = NEVER
        self._preemptions += 1

    def _schedule_prefill(self, start_ns: int, *, admit: bool) -> int:
        """Share the step's prompt tokens, oldest request first; returns how many are used."""
        budget = self._prefill_budget
        chunks = self._chunks
        for sequence in self._prefilling.values():
            tokens = min(budget, sequence.target - sequence.computed)
            chunks.append((sequence, tokens))
            budget -= tokens
            if not budget:
                break
        while budget and admit and self._waiting and len(self._running) < self._max_batch:
            if self._blocked_at == self._kv.changes:
                break
            sequence = self._waiting[0]
            if not self._admit(sequence, start_ns):
                self._blocked_at = self._kv.changes
                break
            self._waiting.popleft()
            tokens = min(budget, sequence.target - sequence.computed)
            chunks.append((sequence, tokens))
            budget -= tokens
        return self._prefill_budget - budget

    def _admit(self, sequence: _Sequence, now_ns: int) -> bool:
        # The last token is computed even on a full hit: its output is what the first token is drawn from.
        hit_limit = (sequence.target - 1) // self._block_tokens
        blocks = self._blocks_for(sequence.target)
        hits = self._kv.admit(sequence.hashes, hit_limit, blocks)
        if hits is None:
            return False
        self._admissions += 1
        sequence.order = self._admissions
        sequence.blocks = blocks
        sequence.shared = hits
        sequence.computed = hits * self._block_tokens
        self._running[sequence.request_id] = sequence
        self._prefilling[sequence.request_id] = sequence
        if not sequence.scheduled:
            sequence.scheduled = True
            self._prefix_queries += sequence.prompt
            self._prefix_hits += sequence.computed
            self._note(now_ns, sequence, EventKind.SCHEDULED, sequence.computed)
        return True

    def _end_step(self, end_ns: int) -> None:
        step = self._step
        self._generated += self._decoding
        due = self._emit_at.pop(step, [])
        # Two that end in one step free their blocks in order of admission, however their chunks fell due before.
        due.sort(key=_BY_ADMISSION)
        for sequence in due:
            if sequence.emit_step == step:
                self._emit(sequence, step + sequence.offset, end_ns)
        chunks = self._chunks
        if chunks:
            self._chunks = []
            for sequence, tokens in chunks:
                if self._running.get(sequence.request_id) is sequence:
                    self._end_chunk(sequence, tokens, end_ns)

    def _end_chunk(self, sequence: _Sequence, tokens: int, end_ns: int) -> None:
        sequence.computed += tokens
        full = min(len(sequence.hashes), sequence.computed // self._block_tokens)
        if full > sequence.shared:
            self._kv.share(sequence.hashes[sequence.shared : full])
            sequence.shared = full
        if sequence.computed < sequence.target:
            return
        del self._prefilling[sequence.request_id]
        count = sequence.emitted + 1
        if count == 1:
            self._prompt_tokens += sequence.prompt
        self._generated += 1
        sequence.offset = count - self._step
        self._decoding += 1
        self._context_offset += sequence.prompt + sequence.offset
        self._plan_growth(sequence)
        if count == 1 or count == sequence.length or count - sequence.reported >= self._chunk:
            self._emit(sequence, count, end_ns)
        else:
            self._plan_emission(sequence)

    def _emit(self, sequence: _Sequence, count: int, end_ns: int) -> None:
        self._note(end_ns, sequence, EventKind.TOKENS, count - sequence.reported)
        sequence.reported = count
        if count < sequence.length:
            self._plan_emission(sequence)
            return
        self._leave(sequence)
        self._note(end_ns, sequence, EventKind.FINISHED, count)

    def _plan_emission(self, sequence: _Sequence) -> None:
        count = min(sequence.length, sequence.reported + self._chunk)
        sequence.emit_step = step = count - sequence.offset
        self._emit_at.setdefault(step, []).append(sequence)

    def _plan_growth(self, sequence: _Sequence) -> None:
        # Step s stores the KV of the token before it, prompt + s + offset - 1 tokens: here one too many.
        step = sequence.blocks * self._block_tokens - sequence.prompt - sequence.offset + 2
        if step <= sequence.length - sequence.offset:
            sequence.grow_step = step
            self._grow_at.setdefault(step, []).append(sequence)

    def _leave(self, sequence: _Sequence) -> None:
        """Take a sequence out of the batch and free its blocks."""
        del self._running[sequence.request_id]
        if self._prefilling.pop(sequence.request_id, None) is None:
            self._decoding -= 1
            self._context_offset -= sequence.prompt + sequence.offset
        self._kv.release(sequence.hashes[: sequence.shared], sequence.blocks - sequence.shared)
        sequence.emit_step = sequence.grow_step = NEVER

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)

    def _note(self, time_ns: int, sequence: _Sequence, kind: EventKind, amount: int) -> None:
        self._events.append(EngineEvent(time_ns, sequence.request_id, kind, amount))
