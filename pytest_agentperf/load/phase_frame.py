"""What a worker is told of a phase: what all are told alike, encoded once, and what is its own.

execnet's encoding costs by the item, a microsecond or more: for a thousand workers what is many goes as one text.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

from pytest_agentperf.core.kept import KeepRule
from pytest_agentperf.core.phase import PhaseSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


def spec_to_wire(spec: PhaseSpec) -> bytes:
    """Return what all workers are told alike."""
    return json.dumps(
        {field.name: getattr(spec, field.name) for field in fields(spec) if field.name != "begin_at"}
    ).encode()


def shard_to_wire(spec: PhaseSpec, agents: Sequence[int]) -> bytes:
    """Return what one worker is told: which agents are its, and where they begin."""
    begin_at = {agent: spec.begin_at[agent] for agent in agents} if spec.begin_at else {}
    return json.dumps({"agents": agents, "begin_at": list(begin_at.items())}).encode()


def phase_from_wire(spec: bytes, shard: bytes) -> tuple[PhaseSpec, list[int]]:
    """Rebuild a worker's specification, and its agents."""
    values, own = json.loads(spec), json.loads(shard)
    begin_at = {agent: (trajectory, turn) for agent, (trajectory, turn) in own["begin_at"]}
    values |= {
        "trajectories": tuple(values["trajectories"]),
        "keep": KeepRule(*values["keep"]),
        "begin_at": begin_at,
    }
    return PhaseSpec(**values), own["agents"]
