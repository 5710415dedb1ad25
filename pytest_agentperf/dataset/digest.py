"""What a dataset *is*, as one SHA-256: what the servers see and when, however it is stored.

The digest covers the requests (every message and tool list, as canonical JSON), the delays, the recorded
token counts and tool calls, and each trajectory's id, language and model. It does not cover how messages
are pooled, compressed or laid out in files, nor the dataset's name and provenance.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory


def canonical_json(value: Any) -> bytes:
    """Return compact ASCII JSON with keys in recorded order.

    Keys are not sorted: chat templates print tool schemas in their order, so another order is another prompt.
    Raises DatasetError for what JSON cannot hold.
    """
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"a message or tool list that JSON cannot hold: {error}",
            remedy="record numbers that are finite and values that are plain JSON",
        ) from error


def content_key(value: Any) -> bytes:
    """Return the SHA-256 of a value's canonical JSON, which tells 1 from true and 1.0."""
    return hashlib.sha256(canonical_json(value)).digest()


def trajectory_digest(trajectory: Trajectory) -> str:
    """Return the SHA-256 (hex) of a trajectory's semantic content.

    Each request enters as the hash of its messages' hashes: expanding the histories would be quadratic.
    """
    messages = [content_key(message) for message in trajectory.messages]
    tool_sets = [content_key(tools).hex() for tools in trajectory.tool_sets]
    turns = [
        {
            "request": hashlib.sha256(b"".join(messages[i] for i in turn.message_indices())).hexdigest(),
            "tools": None if turn.tools_index is None else tool_sets[turn.tools_index],
            "tool_delay_ns": turn.tool_delay_ns,
            "prompt_tokens": turn.prompt_tokens,
            "output_tokens": turn.output_tokens,
            "tool_calls": [[call.id, call.name, call.duration_ns] for call in turn.tool_calls],
        }
        for turn in trajectory.turns
    ]
    content = {
        "id": trajectory.id,
        "language": trajectory.language,
        "model": trajectory.model,
        "turns": turns,
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def dataset_digest(trajectories: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 (hex) over the sorted (id, `trajectory_digest`) pairs."""
    return hashlib.sha256(canonical_json(sorted(trajectories))).hexdigest()


def source_digest(source: TrajectorySource) -> str:
    """Compute a source's digest by reading all of it, whatever digest it declares."""
    return dataset_digest((name, trajectory_digest(source.load(name))) for name in source.ids())
