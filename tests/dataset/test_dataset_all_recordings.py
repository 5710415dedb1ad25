"""Every real recording, imported, has what the plain script counts in it, or is refused for the right reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import plain_counts
import pytest
from recorded_support import check_counts, counted
from trace_support import FILES

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.importing import find_recordings, read_recordings

if TYPE_CHECKING:
    from plain_counts import Counts

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
    recordings = list(find_recordings([path], unknown=lambda _: None))
    return counted(read_recordings(recordings, context)), context


def why_not_imported(path: Path) -> str:
    try:
        counts, context = imported(path)
    except DatasetError as error:
        return str(error)
    assert counts.requests == 0
    return "\n".join(context.notes.lines())


# Texts of millions of tokens are made for these: once, in `test_dataset_trace_files.py`.
SYNTHESISED = {f"traces/{name}" for name in FILES}


@pytest.mark.parametrize(
    "name", [name for name in found_recordings() if name not in REFUSED and name not in SYNTHESISED]
)
def test_an_import_has_what_is_recorded(name: str) -> None:
    counts, _ = imported(DATA / name)
    check_counts(counts, DATA / name)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_holds_no_requests_is_refused(name: str) -> None:
    with pytest.raises(plain_counts.Refused):
        plain_counts.count(DATA / name)
    assert REFUSED[name] in why_not_imported(DATA / name)
