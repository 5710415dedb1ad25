"""Every real recording, imported, has what the plain script counts in it, or is refused for the right reason."""

from __future__ import annotations

from pathlib import Path

import plain_counts
import pytest
from plain_counts import Counts

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.importing import find_recordings, read_recordings

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not at {DATA}")


# What is no recording of requests, and a word of the reason.
REFUSED = {
    "trajectories/aider/chat-history-head.md": "aider",
    "trajectories/atif/openagents-regex-log-v1.4.json": "steps of their own",
    "trajectories/codex/tui-log-oss-story-first400.jsonl": "TUI",
    "trajectories/mini_swe_agent/reasoner.pvlib__pvlib-python-1154.traj.json": "never answered",
    "trajectories/opencode/events/api-abort.json": "without a whole answer",
    "trajectories/opencode/events/api-error.json": "without a whole answer",
    "trajectories/opencode/events/todowrite-malformed-session.json": "beginning is not recorded",
}


def found_recordings() -> list[str]:
    if not DATA.is_dir():
        return []
    found = [*plain_counts.recordings(DATA / "trajectories"), *plain_counts.recordings(DATA / "traces")]
    return [path.relative_to(DATA).as_posix() for path in found]


def imported(path: Path) -> tuple[Counts, ImportContext]:
    context = ImportContext()
    counts = Counts(sessions=0)
    recordings = list(find_recordings([path], unknown=lambda _: None))
    for trajectory in read_recordings(recordings, context):
        counts.sessions += 1
        if trajectory.model is not None:
            counts.models.add(trajectory.model)
        for turn in trajectory.turns:
            counts.tokens.append((turn.prompt_tokens, turn.output_tokens))
            counts.calls += [
                (call.name, None if call.duration_ns is None else call.duration_ns / 1e6)
                for call in turn.tool_calls
            ]
    return counts, context


def why_not_imported(path: Path) -> str:
    try:
        counts, context = imported(path)
    except DatasetError as error:
        return str(error)
    assert counts.requests == 0
    return "\n".join(context.notes.lines())


def sorted_tokens(counts: Counts) -> list[tuple[int, int]]:
    return sorted((-1 if p is None else p, -1 if o is None else o) for p, o in counts.tokens)


def sorted_calls(counts: Counts) -> list[tuple[str, float]]:
    # Timestamps in whole milliseconds, seconds as floats: a microsecond is no difference.
    return sorted((name, -1.0 if ms is None else round(ms, 3)) for name, ms in counts.calls)


@pytest.mark.parametrize("name", [name for name in found_recordings() if name not in REFUSED])
def test_an_import_has_what_is_recorded(name: str) -> None:
    expected = plain_counts.count(DATA / name)
    counts, _ = imported(DATA / name)
    assert counts.requests == expected.requests
    assert sorted_tokens(counts) == sorted_tokens(expected)
    calls, expected_calls = sorted_calls(counts), sorted_calls(expected)
    if expected.calls_known:
        assert [tool for tool, _ in calls] == [tool for tool, _ in expected_calls]
        assert [ms for _, ms in calls] == pytest.approx([ms for _, ms in expected_calls], abs=0.002)
    assert counts.models == expected.models
    if expected.sessions >= 0:
        assert counts.sessions == expected.sessions


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_holds_no_requests_is_refused(name: str) -> None:
    with pytest.raises(plain_counts.Refused):
        plain_counts.count(DATA / name)
    assert REFUSED[name] in why_not_imported(DATA / name)
