"""Every source of determinism in one place: which agent replays what, behind which prefix.

Hashes rather than random generators, so that an agent's work does not depend on how many other agents there
are, on the worker it lives in, or on the Python version.
"""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFIX_HEX_CHARS = 128


def _hash_input(*fields: object) -> bytes:
    # Length-prefixed, so that ("1", "23") and ("12", "3") differ.
    return b"".join(f"{len(text)}:{text}".encode() for text in map(str, fields))


def trajectory_order(seed: int, agent: int, round_: int, trajectory_ids: Sequence[str]) -> list[str]:
    """Return the permutation of ids that `agent` works through in its `round_`-th pass over the dataset."""
    return sorted(
        trajectory_ids,
        key=lambda id_: (hashlib.sha256(_hash_input(seed, agent, round_, id_)).digest(), id_),
    )


def assigned_trajectories(seed: int, agent: int, trajectory_ids: Sequence[str]) -> Iterator[str]:
    """Yield the ids that `agent` works through, without end, identically in every phase."""
    if not trajectory_ids:
        raise ValueError("no trajectories to assign")
    for round_ in count():
        yield from trajectory_order(seed, agent, round_, trajectory_ids)


def isolation_prefix(nonce: str, phase: int, attempt: int, agent: int, ordinal: int) -> str:
    """Return the 128 hex characters that open a trajectory's first message, so that no cache entry is shared."""
    return hashlib.sha512(_hash_input(nonce, phase, attempt, agent, ordinal)).hexdigest()
