"""The KV cache as counts of blocks per session: what a conversation may find again when its agent returns.

Of what a request leaves behind, its full prompt blocks stay *idle* until they are found again or evicted: the least
recently left request first, the end of its prompt before the beginning. No block has an identity, so a request costs
the same whatever its length.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.sequence import Sequence


class SessionCache:
    """Blocks of one rank; a session finds again what its own last request left."""

    __slots__ = (
        "_block_tokens",
        "_idle",
        "_last",
        "_leases",
        "capacity",
        "changes",
        "evictions",
        "idle",
        "used",
    )

    sees_while_computed = False

    def __init__(self, capacity: int, block_tokens: int) -> None:
        self.capacity = capacity
        self.used = 0
        """Blocks that sequences hold."""
        self.idle = 0
        """Cached blocks that no sequence holds."""
        self.evictions = 0
        self.changes = 0
        """Counts what could let a waiting request in: a blocked queue is not tried anew at every step."""
        self._block_tokens = block_tokens
        self._leases = 0
        self._idle: OrderedDict[int, list[int]] = OrderedDict()  # lease: its blocks and its session
        self._last: dict[int, int] = {}  # session: its last lease

    def allocate(self, blocks: int) -> bool:
        """Take blocks, evicting idle ones as needed; all or none."""
        used = self.used + blocks
        if used > self.capacity:
            return False
        self.used = used
        if used + self.idle > self.capacity:
            self._evict(used + self.idle - self.capacity)
        return True

    def admit(self, sequence: Sequence, hit_limit: int, blocks: int) -> int | None:
        """Take `blocks` blocks, at most `hit_limit` of them found in the cache; return how many were found."""
        hits = 0
        lease = self._last.get(sequence.session) if hit_limit else None
        if lease is not None:
            found = self._idle[lease]
            hits = sequence.shared_tokens // self._block_tokens
            if hits > hit_limit:
                hits = hit_limit
            if hits > found[0]:
                hits = found[0]
        used = self.used + blocks
        if used > self.capacity:
            return None
        if hits and lease is not None:
            # What of the earlier prompt does not belong to this one stays until it is evicted.
            found[0] -= hits
            self.idle -= hits
            del self._last[sequence.session]
            if not found[0]:
                del self._idle[lease]
        self.used = used
        if used + self.idle > self.capacity:
            self._evict(used + self.idle - self.capacity)
        return hits

    def computed(self, sequence: Sequence) -> None:
        """Take note of computed blocks: nobody else looks for them."""

    def release(self, sequence: Sequence, blocks: int) -> None:
        """Let go of all that a sequence holds; its computed prompt blocks stay idle."""
        self.used -= blocks
        self.changes += 1
        sequence.shared_tokens = prompt = sequence.prompt
        computed = sequence.computed
        if not computed:
            return
        kept = (prompt if prompt < computed else computed) // self._block_tokens
        if not kept:
            return
        self._leases = lease = self._leases + 1
        session = sequence.session
        self._idle[lease] = [kept, session]
        self._last[session] = lease
        self.idle += kept

    def _evict(self, blocks: int) -> None:
        self.idle -= blocks
        self.evictions += blocks
        idle = self._idle
        while blocks:
            lease, (held, session) = next(iter(idle.items()))
            if held > blocks:
                idle[lease][0] = held - blocks
                return
            blocks -= held
            del idle[lease]
            if self._last.get(session) == lease:
                del self._last[session]
