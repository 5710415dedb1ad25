"""The KV cache as counts of blocks: private, shared and in use, cached and idle.

A block is *private* until its tokens are computed and its chained hash is known; *shared* while at least one
sequence refers to it under that hash; *idle* when the last one let go. Idle blocks serve later hits and are
evicted, least recently used first, when blocks run out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class KvCache:
    """Blocks of one engine; knows hashes and counts, no sequences."""

    __slots__ = ("_idle", "_private", "_references", "capacity", "changes", "evictions")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.evictions = 0
        # Counts what could let a waiting request in: a blocked queue is not matched anew at every step.
        self.changes = 0
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
        used = self._private + len(self._references)
        if used + blocks > self.capacity:
            return False
        self._private += blocks
        excess = used + blocks + len(self._idle) - self.capacity
        for _ in range(excess):
            self._idle.popitem(last=False)
            self.evictions += 1
        return True

    def admit(self, hashes: Sequence[int], hit_limit: int, blocks: int) -> int | None:
        """Take `blocks` blocks, the longest cached prefix of at most `hit_limit` shared; return the hits."""
        references, idle = self._references, self._idle
        hits = 0
        revived = 0
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
        return hits

    def share(self, hashes: Sequence[int]) -> None:
        """Make private blocks known under their hashes; where one is known already, the copy is dropped."""
        for block_hash in hashes:
            self._refer(block_hash)
        self._private -= len(hashes)
        self.changes += 1

    def release(self, shared: Sequence[int], private: int) -> None:
        """Let go of a sequence's blocks; the end of a prompt is evicted before its beginning."""
        references, idle = self._references, self._idle
        for block_hash in reversed(shared):
            count = references[block_hash]
            if count == 1:
                del references[block_hash]
                idle[block_hash] = None
            else:
                references[block_hash] = count - 1
        self._private -= private
        self.changes += 1

    def _refer(self, block_hash: int) -> None:
        count = self._references.get(block_hash)
        if count is None:
            self._idle.pop(block_hash, None)
            self._references[block_hash] = 1
        else:
            self._references[block_hash] = count + 1
