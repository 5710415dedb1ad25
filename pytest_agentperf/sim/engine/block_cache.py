"""The KV cache as blocks with identities: finds what any two prompts have in common, at a cost per block.

A block is *private* until its tokens are computed and its chained hash is known; *shared* while at least one
sequence refers to it under that hash; *idle* when the last one let go. Idle blocks serve later hits and are
evicted, least recently used first, when blocks run out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.sequence import Sequence


class BlockCache:
    """Blocks of one rank; knows hashes and counts."""

    __slots__ = ("_block_tokens", "_idle", "_private", "_references", "capacity", "changes", "evictions")

    sees_while_computed = True

    def __init__(self, capacity: int, block_tokens: int) -> None:
        self.capacity = capacity
        self.evictions = 0
        self.changes = 0
        """Counts what could let a waiting request in: a blocked queue is not tried anew at every step."""
        self._block_tokens = block_tokens
        self._private = 0
        self._references: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def used(self) -> int:
        """Return the blocks that sequences hold."""
        return self._private + len(self._references)

    @property
    def idle(self) -> int:
        """Return the cached blocks that no sequence holds."""
        return len(self._idle)

    def allocate(self, blocks: int) -> bool:
        """Take private blocks, evicting idle ones as needed; all or none."""
        used = self.used
        if used + blocks > self.capacity:
            return False
        self._private += blocks
        excess = used + blocks + len(self._idle) - self.capacity
        for _ in range(excess):
            self._idle.popitem(last=False)
            self.evictions += 1
        return True

    def admit(self, sequence: Sequence, hit_limit: int, blocks: int) -> int | None:
        """Take `blocks` blocks, at most `hit_limit` of them found in the cache; return how many were found."""
        references, idle = self._references, self._idle
        hits = 0
        revived = 0
        hashes = sequence.hashes
        for block_hash in hashes[:hit_limit]:
            if block_hash in references:
                hits += 1
            elif block_hash in idle:
                hits += 1
                revived += 1
            else:
                break
        if self.used + revived + blocks - hits > self.capacity:
            return None
        for block_hash in hashes[:hits]:
            self._refer(block_hash)
        self.allocate(blocks - hits)
        sequence.shared_blocks = hits
        return hits

    def computed(self, sequence: Sequence) -> None:
        """Make computed blocks known under their hashes; where one is known already, the copy is dropped."""
        hashes = sequence.hashes
        known = sequence.shared_blocks
        full = min(len(hashes), sequence.computed // self._block_tokens)
        if full <= known:
            return
        for block_hash in hashes[known:full]:
            self._refer(block_hash)
        self._private -= full - known
        sequence.shared_blocks = full
        self.changes += 1

    def release(self, sequence: Sequence, blocks: int) -> None:
        """Let go of all that a sequence holds; the end of a prompt is evicted before its beginning."""
        references, idle = self._references, self._idle
        shared = sequence.shared_blocks
        for block_hash in reversed(sequence.hashes[:shared]):
            count = references[block_hash]
            if count == 1:
                del references[block_hash]
                idle[block_hash] = None
            else:
                references[block_hash] = count - 1
        self._private -= blocks - shared
        sequence.shared_blocks = 0
        self.changes += 1

    def _refer(self, block_hash: int) -> None:
        count = self._references.get(block_hash)
        if count is None:
            self._idle.pop(block_hash, None)
            self._references[block_hash] = 1
        else:
            self._references[block_hash] = count + 1
