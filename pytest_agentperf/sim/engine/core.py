"""The engine: replicas behind a router, in virtual time; no sockets, no event loop, no clock."""

from __future__ import annotations

import sys
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Literal

from pytest_agentperf.sim.engine.block_cache import BlockCache
from pytest_agentperf.sim.engine.counters import Counters
from pytest_agentperf.sim.engine.parameters import PoolParameters, plan_deployment
from pytest_agentperf.sim.engine.replica import Replica
from pytest_agentperf.sim.engine.routing import SessionRouter, least_loaded
from pytest_agentperf.sim.engine.sequence import Sequence
from pytest_agentperf.sim.engine.session_cache import SessionCache
from pytest_agentperf.sim.engine.speculation import AcceptedTokens
from pytest_agentperf.sim.events import EngineEvent, EngineStats, EventKind

if TYPE_CHECKING:
    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.sim.events import EngineRequest


class Engine:
    """One deployment; `submit` and `cancel` first catch up with the time they are given."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        start_ns: int = 0,
        every_chunk: bool = True,
        prefixes: Literal["sessions", "blocks"] = "sessions",
    ) -> None:
        """Make an idle engine; raises ConfigError where its accelerators do not add up.

        `every_chunk=False` reports only the ends of requests; what came before is in what `submit` returned. What
        prompts have in common is what requests say of their session, or what their block hashes show.
        """
        plan = plan_deployment(config)
        self._tokens_per_chunk = config.tokens_per_chunk if every_chunk else sys.maxsize
        self._accepted = None if config.speculation is None else AcceptedTokens(config.speculation)
        self._open_cache = SessionCache if prefixes == "sessions" else BlockCache
        self._counters = Counters(every_chunk=every_chunk)
        self._seeds = config.seed
        self._decoders = self._replicas(plan.main, start_ns)
        self._prefillers = self._decoders if plan.prefill is None else self._replicas(plan.prefill, start_ns)
        self._all = self._decoders if plan.prefill is None else [*self._prefillers, *self._decoders]
        self._router = SessionRouter(self._prefillers)
        self._decoding_ranks = [rank for replica in self._decoders for rank in replica.ranks]
        self._block_tokens = config.kv_block_tokens
        self._capacity = min(pool.kv_blocks for pool in plan if pool is not None)
        pool = config.prefill_pool
        self._transfer_ns = 0.0 if pool is None else pool.transfer_latency_ms * 1e6
        self._transfer_per_token_ns = (
            0.0 if pool is None else pool.transfer_kv_kbyte_per_token / pool.transfer_gbyte_per_s * 1e3
        )
        # When something is due: a replica's wake, outdated unless it is the one it names itself, or the end of a
        # transfer. The second number keeps what is due at one moment in the order in which it came up.
        self._due: list[tuple[int, int, Replica | None, Sequence | None]] = []
        self._due_count = 0

    def submit(self, request: EngineRequest, now_ns: int) -> Sequence:
        """Queue a request; an idle replica starts a step at once. Returns where it is to be followed."""
        sequence = Sequence(*request)
        self.enter(sequence, now_ns)
        return sequence

    def enter(self, sequence: Sequence, now_ns: int) -> None:
        """Do what `submit` does with a sequence that the caller has made."""
        if self._due and self._due[0][0] <= now_ns:
            self._run_until(now_ns)
        prompt, length = sequence.prompt, sequence.length
        if prompt < 1 or length < 1:
            raise ValueError("a request has at least one prompt token and one output token")
        needed = -(-(prompt + length - 1) // self._block_tokens)
        if needed > self._capacity:
            self._counters.events.append(EngineEvent(now_ns, sequence, EventKind.REJECTED, needed))
        else:
            self._counters.live[sequence.request_id] = sequence
            rank = self._router.route(sequence.session)
            if rank.replica.arrive(sequence, rank, now_ns):
                self._after(rank.replica, now_ns)

    def cancel(self, request_id: int, now_ns: int) -> bool:
        """Drop a request and free its blocks; False if it has ended by `now_ns` or never was."""
        self._run_until(now_ns)
        sequence = self._counters.live.pop(request_id, None)
        if sequence is None:
            return False
        if sequence.moving:
            sequence.cancelled = True
            return True
        replica = sequence.rank.replica
        replica.cancel(sequence, now_ns)
        self._after(replica, now_ns)
        return True

    def in_flight(self) -> list[Sequence]:
        """Return the requests that have not ended, oldest first."""
        return list(self._counters.live.values())

    def next_event_ns(self) -> int | None:
        """Return when `advance` will next have something to do: an unread event or a change of the batch."""
        if self._counters.events:
            return self._counters.events[0].time_ns
        due = self._due
        while due:
            when_ns, _, replica, _ = due[0]
            if replica is None or replica.wake_ns == when_ns:
                return when_ns
            heappop(due)
        return None

    def advance(self, now_ns: int) -> list[EngineEvent]:
        """Do all that is due by `now_ns`; returns the events since the last call, in order."""
        self._run_until(now_ns)
        counters = self._counters
        events = counters.events
        counters.events = []
        return events

    def advance_to_event(self, until_ns: int) -> int | None:
        """Do what is due by `until_ns`, but nothing after the first unread event; return its time, None for none."""
        counters, due = self._counters, self._due
        while not counters.events:
            if not due or due[0][0] > until_ns:
                return None
            self._run_next()
        return counters.events[0].time_ns

    def energy_j(self, now_ns: int) -> float:
        """Return the energy of all accelerators from the start to `now_ns`, without the rest of `stats`."""
        self._run_until(now_ns)
        return sum(replica.energy_j(now_ns) for replica in self._all)

    def stats(self, now_ns: int) -> EngineStats:
        """Return gauges and counters at `now_ns`."""
        self._run_until(now_ns)
        counters = self._counters
        ranks = [rank for replica in self._all for rank in replica.ranks]
        waiting = sum(len(rank.waiting) for rank in ranks)
        used = sum(replica.used_blocks(now_ns) for replica in self._all)
        return EngineStats(
            running=len(counters.live) - waiting,
            waiting=waiting,
            kv_usage=used / sum(rank.cache.capacity for rank in ranks),
            prefix_query_tokens=counters.prefix_queries,
            prefix_hit_tokens=counters.prefix_hits,
            prompt_tokens=counters.prompt_tokens,
            generation_tokens=sum(replica.generated_tokens(now_ns) for replica in self._all),
            preemptions=counters.preemptions,
            energy_j=self.energy_j(now_ns),
            power_w=sum(replica.power_w(now_ns) for replica in self._all),
        )

    def _replicas(self, pool: PoolParameters, start_ns: int) -> list[Replica]:
        replicas = []
        for _ in range(pool.replicas):
            replicas.append(
                Replica(
                    pool,
                    self._counters,
                    start_ns=start_ns,
                    tokens_per_chunk=self._tokens_per_chunk,
                    open_cache=self._open_cache,
                    accepted=self._accepted,
                    seed=self._seeds,
                )
            )
            self._seeds += 1
        return replicas

    def _run_until(self, now_ns: int) -> None:
        due = self._due
        while due and due[0][0] <= now_ns:
            self._run_next()

    def _run_next(self) -> None:
        when_ns, _, replica, sequence = heappop(self._due)
        if replica is None:
            assert sequence is not None
            self._arrive_to_decode(sequence, when_ns)
        elif replica.wake_ns == when_ns:
            replica.wake(when_ns)
            self._after(replica, when_ns)

    def _after(self, replica: Replica, now_ns: int) -> None:
        if (wake_ns := replica.wake_ns) is not None:
            self._due_count = count = self._due_count + 1
            heappush(self._due, (wake_ns, count, replica, None))
        if not replica.handed_over:
            return
        handed_over, replica.handed_over = replica.handed_over, []
        for sequence in handed_over:
            if replica.parameters.prefills:
                self._transfer(sequence, now_ns)
            else:
                sequence.rank.in_flight -= 1
                rank = self._router.route(sequence.session)
                if rank.replica.arrive(sequence, rank, now_ns):
                    self._after(rank.replica, now_ns)

    def _transfer(self, sequence: Sequence, now_ns: int) -> None:
        sequence.moving = True
        tokens = sequence.prompt + sequence.emitted - 1
        arrival_ns = now_ns + round(self._transfer_ns + self._transfer_per_token_ns * tokens)
        self._due_count = count = self._due_count + 1
        heappush(self._due, (arrival_ns, count, None, sequence))

    def _arrive_to_decode(self, sequence: Sequence, now_ns: int) -> None:
        """End a transfer: the blocks are free where they came from, and the sequence queues where it decodes."""
        sequence.moving = False
        replica = sequence.rank.replica
        wake_ns = replica.wake_ns
        replica.release(sequence, now_ns)
        if replica.wake_ns != wake_ns:
            self._after(replica, now_ns)
        if sequence.cancelled:
            return
        sequence.computed = 0
        sequence.target = sequence.prompt + sequence.emitted
        rank = least_loaded(self._decoding_ranks)
        if rank.replica.arrive(sequence, rank, now_ns):
            self._after(rank.replica, now_ns)
