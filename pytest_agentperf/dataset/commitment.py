"""A public commitment to a held-out set that stays secret: a Merkle root over salted trajectory digests.

Whoever publishes the root can later show, by the opening, that a score's dataset digest is that of the committed set,
or, by a proof, that one trajectory is in it, without showing the others.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import canonical_json, dataset_digest, trajectory_digest
from pytest_agentperf.dataset.reading import Count, parse_json, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.ports import TrajectorySource

COMMITMENT_SCHEMA = "agentperf-commitment/1"
OPENING_SCHEMA = "agentperf-opening/1"
PROOF_SCHEMA = "agentperf-proof/1"
_SALT_BYTES = 32
_Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Id = Annotated[str, StringConstraints(min_length=1)]
_REMEDY = "take the file that `commit` gave, unchanged"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Commitment(_Closed):
    """What is published."""

    schema_: Literal["agentperf-commitment/1"] = Field(alias="schema", default="agentperf-commitment/1")
    root: _Hash
    trajectories: Annotated[int, Field(ge=1)]


class CommittedTrajectory(_Closed):
    """One trajectory of the set."""

    id: _Id
    digest: _Hash


class Opening(_Closed):
    """What is kept with the held-out set, and as secret as it is, until the set is disclosed."""

    schema_: Literal["agentperf-opening/1"] = Field(alias="schema", default="agentperf-opening/1")
    salt: _Hash
    trajectories: Annotated[list[CommittedTrajectory], Field(min_length=1)]


class Proof(_Closed):
    """That one trajectory is in the set: its leaf's salt, its place, and the hashes beside its path to the root."""

    schema_: Literal["agentperf-proof/1"] = Field(alias="schema", default="agentperf-proof/1")
    trajectory: CommittedTrajectory
    salt: _Hash
    position: Count
    path: list[_Hash]


def commit(source: TrajectorySource) -> tuple[Commitment, Opening]:
    """Commit to a dataset under a fresh salt; reads every trajectory once."""
    trajectories = [
        CommittedTrajectory(id=one, digest=trajectory_digest(source.load(one))) for one in source.ids()
    ]
    if not trajectories:
        raise DatasetError("an empty dataset cannot be committed to", where=f"dataset {source.name}")
    opening = Opening(salt=secrets.token_hex(_SALT_BYTES), trajectories=trajectories)
    return _commitment(opening), opening


def verify_commitment(commitment: Commitment, opening: Opening, digest: str) -> None:
    """Raise DatasetError unless `digest`, a score's dataset digest, is that of the set committed to."""
    if _commitment(opening) != commitment:
        raise DatasetError(
            "the opening is not that of the commitment", remedy="compare both files with what was published"
        )
    found = dataset_digest((one.id, one.digest) for one in opening.trajectories)
    if found != digest.removeprefix("sha256:"):
        raise DatasetError(
            f"the committed set has digest {found}, not {digest}",
            remedy="the score was measured on another dataset, or on a part of this one",
        )


def prove(opening: Opening, trajectory_id: str) -> Proof:
    """Return the proof that a trajectory is in the set, which shows nothing of the others."""
    for position, one in enumerate(opening.trajectories):
        if one.id == trajectory_id:
            path = _path(_leaves(opening), position)
            return Proof(
                trajectory=one,
                salt=_leaf_salt(opening, position).hex(),
                position=position,
                path=[side.hex() for side in path],
            )
    raise DatasetError(f"no trajectory {trajectory_id!r} in the set", remedy="use one of its ids")


def verify_proof(commitment: Commitment, proof: Proof) -> None:
    """Raise DatasetError unless the proof's trajectory is in the committed set."""
    leaf = _leaf(bytes.fromhex(proof.salt), proof.trajectory)
    sides = [bytes.fromhex(side) for side in proof.path]
    root = _climb(leaf, proof.position, commitment.trajectories, sides)
    if root is None or root.hex() != commitment.root:
        raise DatasetError(
            f"trajectory {proof.trajectory.id!r} is not shown to be in the committed set",
            remedy="compare commitment and proof with what was published",
        )


def encode(document: Commitment | Opening | Proof) -> bytes:
    """Return a document as JSON, with a line end."""
    return canonical_json(document.model_dump(by_alias=True)) + b"\n"


def decode_commitment(data: bytes, *, where: str) -> Commitment:
    """Read a published commitment; raises DatasetError."""
    return validate(Commitment, parse_json(data, where=where, first_line=1), where=where, remedy=_REMEDY)


def decode_opening(data: bytes, *, where: str) -> Opening:
    """Read an opening; raises DatasetError."""
    return validate(Opening, parse_json(data, where=where, first_line=1), where=where, remedy=_REMEDY)


def decode_proof(data: bytes, *, where: str) -> Proof:
    """Read a proof; raises DatasetError."""
    return validate(Proof, parse_json(data, where=where, first_line=1), where=where, remedy=_REMEDY)


def _commitment(opening: Opening) -> Commitment:
    return Commitment(root=_root(_leaves(opening)).hex(), trajectories=len(opening.trajectories))


def _leaves(opening: Opening) -> list[bytes]:
    return [_leaf(_leaf_salt(opening, i), one) for i, one in enumerate(opening.trajectories)]


def _leaf_salt(opening: Opening, position: int) -> bytes:
    # Each leaf has its own, so that a proof gives none away that would help to guess the others.
    return hmac.digest(bytes.fromhex(opening.salt), b"leaf %d" % position, "sha256")


def _leaf(salt: bytes, one: CommittedTrajectory) -> bytes:
    return hashlib.sha256(b"\0" + salt + canonical_json([one.id, one.digest])).digest()


def _node(left: bytes, right: bytes) -> bytes:
    # Other first bytes for leaves and nodes: no node can be passed off as a leaf.
    return hashlib.sha256(b"\1" + left + right).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [_node(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        # An odd one out goes up as it is: doubled, it would let two sets have one root.
        levels.append(above + below[len(below) - len(below) % 2 :])
    return levels


def _root(leaves: Sequence[bytes]) -> bytes:
    return _levels(leaves)[-1][0]


def _path(leaves: Sequence[bytes], position: int) -> list[bytes]:
    path = []
    for level in _levels(leaves)[:-1]:
        if (beside := position ^ 1) < len(level):
            path.append(level[beside])
        position //= 2
    return path


def _climb(leaf: bytes, position: int, count: int, sides: Sequence[bytes]) -> bytes | None:
    if position >= count:
        return None
    following = iter(sides)
    found = leaf
    while count > 1:
        if position ^ 1 < count:
            side = next(following, None)
            if side is None:
                return None
            found = _node(side, found) if position % 2 else _node(found, side)
        position //= 2
        count = (count + 1) // 2
    return found if next(following, None) is None else None
