"""Holds what was imported against what the plain script counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plain_counts
import pytest
from plain_counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory


def counted(trajectories: Iterable[Trajectory]) -> Counts:
    counts = Counts(sessions=0)
    for trajectory in trajectories:
        counts.sessions += 1
        if trajectory.model is not None:
            counts.models.add(trajectory.model)
        for turn in trajectory.turns:
            counts.tokens.append((turn.prompt_tokens, turn.output_tokens))
            counts.calls += [
                (call.name, None if call.duration_ns is None else call.duration_ns / 1e6)
                for call in turn.tool_calls
            ]
    return counts


def check_counts(counts: Counts, path: Path) -> None:
    expected = plain_counts.count(path)
    assert counts.requests == expected.requests
    assert _sorted_tokens(counts) == _sorted_tokens(expected)
    calls, expected_calls = _sorted_calls(counts), _sorted_calls(expected)
    if expected.calls_known:
        assert [tool for tool, _ in calls] == [tool for tool, _ in expected_calls]
        assert [ms for _, ms in calls] == pytest.approx([ms for _, ms in expected_calls], abs=0.002)
    assert counts.models == expected.models
    if expected.sessions >= 0:
        assert counts.sessions == expected.sessions


def _sorted_tokens(counts: Counts) -> list[tuple[int, int]]:
    return sorted((-1 if p is None else p, -1 if o is None else o) for p, o in counts.tokens)


def _sorted_calls(counts: Counts) -> list[tuple[str, float]]:
    # Timestamps in whole milliseconds, seconds as floats: a microsecond is no difference.
    return sorted((name, -1.0 if ms is None else round(ms, 3)) for name, ms in counts.calls)
