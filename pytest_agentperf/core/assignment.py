"""Every source of determinism in one place: which agent replays what, behind which prefix.

Hashes rather than random generators, so that an agent's work does not depend on how many other agents there
are, on the worker it lives in, or on the Python version.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import chain, count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFIX_HEX_CHARS = 128


def _hash_input(*fields: object) -> bytes:
    # Length-prefixed, so that ("1", "23") and ("12", "3") differ.
    return b"".join(f"{len(text)}:{text}".encode() for text in map(str, fields))


# Every agent asks for the same ids.
_id_input = lru_cache(maxsize=1 << 13)(_hash_input)


def trajectory_order(seed: int, agent: int, round_: int, trajectory_ids: Sequence[str]) -> list[str]:
    """Return the permutation of ids that `agent` works through in its `round_`-th pass over the dataset."""
    begun = hashlib.sha256(_hash_input(seed, agent, round_))

    def digest(id_: str) -> bytes:
        hash_ = begun.copy()
        hash_.update(_id_input(id_))
        return hash_.digest()

    return sorted(trajectory_ids, key=digest)


def assigned_trajectories(seed: int, agent: int, trajectory_ids: Sequence[str]) -> Iterator[str]:
    """Return the ids that `agent` works through, without end, identically in every phase.

    The first pass is ordered right away, so that no agent does it between its start and its first request.
    """
    if not trajectory_ids:
        raise ValueError("no trajectories to assign")
    first = trajectory_order(seed, agent, 0, trajectory_ids)
    later = (trajectory_order(seed, agent, round_, trajectory_ids) for round_ in count(1))
    return chain(first, chain.from_iterable(later))


def isolation_prefix(nonce: str, phase: int, attempt: int, agent: int, ordinal: int) -> str:
    """Return the 128 hex characters that open a trajectory's first message, so that no cache entry is shared."""
    hash_ = _begun_prefix(nonce, phase, attempt).copy()
    hash_.update(_hash_input(agent, ordinal))
    return hash_.hexdigest()


@lru_cache(maxsize=8)
def _begun_prefix(nonce: str, phase: int, attempt: int) -> hashlib._Hash:
    return hashlib.sha512(_hash_input(nonce, phase, attempt))
