from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dataset_support import trajectory
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.commitment import (
    Commitment,
    CommittedTrajectory,
    Opening,
    commit,
    decode_commitment,
    decode_opening,
    decode_proof,
    encode,
    prove,
    verify_commitment,
    verify_proof,
)
from pytest_agentperf.dataset.digest import source_digest

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory


class Held:
    name = "held"
    digest = "0" * 64

    def __init__(self, count: int) -> None:
        self._ids = [f"t{i:02}" for i in range(count)]

    def ids(self) -> list[str]:
        return self._ids

    def load(self, trajectory_id: str) -> Trajectory:
        return trajectory(trajectory_id)


@given(count=st.integers(1, 20))
def test_every_trajectory_of_the_set_can_be_proven(count: int) -> None:
    source = Held(count)
    commitment, opening = commit(source)
    verify_commitment(commitment, opening, source_digest(source))
    for one in source.ids():
        proof = prove(opening, one)
        verify_proof(commitment, proof)
        for change in (
            {"position": proof.position + 1},
            {"position": proof.position + count},
            {"salt": "0" * 64},
            {"path": [*proof.path, "0" * 64]},
            {"path": proof.path[:-1]} if proof.path else {"salt": "1" * 64},
            {"trajectory": CommittedTrajectory(id="other", digest=proof.trajectory.digest)},
        ):
            with pytest.raises(DatasetError, match="not shown to be"):
                verify_proof(commitment, proof.model_copy(update=change))


def test_only_the_committed_set_verifies() -> None:
    source = Held(5)
    commitment, opening = commit(source)
    verify_commitment(commitment, opening, "sha256:" + source_digest(source))
    with pytest.raises(DatasetError, match="the committed set has digest"):
        verify_commitment(commitment, opening, source_digest(Held(4)))
    other = opening.model_copy(update={"trajectories": opening.trajectories[:4]})
    with pytest.raises(DatasetError, match="not that of the commitment"):
        verify_commitment(commitment, other, source_digest(Held(4)))
    with pytest.raises(DatasetError, match="no trajectory"):
        prove(opening, "t99")
    with pytest.raises(DatasetError, match="empty"):
        commit(Held(0))


def test_equal_sets_have_unlike_commitments() -> None:
    assert commit(Held(3))[0].root != commit(Held(3))[0].root


def test_a_published_commitment_and_a_proof_give_no_other_trajectory_away() -> None:
    commitment, opening = commit(Held(4))
    text = encode(commitment) + encode(prove(opening, "t00"))
    assert opening.salt.encode() not in text
    for one in opening.trajectories[1:]:
        assert one.id.encode() not in text
        assert one.digest.encode() not in text


def test_documents_are_read_as_written() -> None:
    commitment, opening = commit(Held(3))
    proof = prove(opening, "t01")
    assert decode_commitment(encode(commitment), where="c") == commitment
    assert decode_opening(encode(opening), where="o") == opening
    assert decode_proof(encode(proof), where="p") == proof
    assert isinstance(opening, Opening)


@pytest.mark.parametrize("decode", [decode_commitment, decode_opening, decode_proof])
@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"root": 1}', b"\xff", b"[" * 200_000])
def test_broken_documents(decode: Any, data: bytes) -> None:
    with pytest.raises(DatasetError, match="somewhere"):
        decode(data, where="somewhere")


def test_the_tree_stays_as_published() -> None:
    """Another way to build it would void every commitment there is."""
    opening = Opening(
        salt="07" * 32,
        trajectories=[CommittedTrajectory(id=f"t{i}", digest=f"{i:064x}") for i in range(3)],
    )
    commitment = Commitment(
        root="d3fefc244bd272d2a40aafef772c0ec2850c32e80d83a7198d58f1d56671d60c", trajectories=3
    )
    verify_proof(commitment, prove(opening, "t2"))
    assert len(prove(opening, "t2").path) == 1
