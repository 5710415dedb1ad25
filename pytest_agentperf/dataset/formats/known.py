"""Files of agents that are known and hold no requests: the reason is better than "unknown format"."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.base import Peek

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext

NAME = "refused"
TITLE = "logs that hold no requests (aider chat history, Codex display logs, prompt histories, databases)"


class _Refused(NamedTuple):
    is_it: Callable[[Peek], bool]
    reason: str
    remedy: str


def recognises(peek: Peek) -> bool:
    """Say whether a file is of a format that cannot be imported."""
    return _refused(peek) is not None


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Raise DatasetError with what the format lacks."""
    refused = _refused(Peek(path))
    if refused is None:
        raise DatasetError(
            "none of the formats that are known and refused", where=str(path), remedy="leave --format out"
        )
    raise DatasetError(refused.reason, where=str(path), remedy=refused.remedy)
    yield  # A generator, as every reader's `read` is.


def _refused(peek: Peek) -> _Refused | None:
    return None if peek.is_dir else next((known for known in _KNOWN if known.is_it(peek)), None)


def _is_aider(peek: Peek) -> bool:
    return "\n# aider chat started at " in "\n" + peek.head


def _is_codex_display(peek: Peek) -> bool:
    first = peek.objects[:3]
    return bool(first) and all({"ts", "dir", "kind"} <= line.keys() for line in first)


def _is_codex_exec(peek: Peek) -> bool:
    return bool(peek.objects) and peek.objects[0].get("type") == "thread.started"


def _is_prompt_history(peek: Peek) -> bool:
    first = peek.objects[:3]
    return bool(first) and (
        all(line.keys() == {"session_id", "ts", "text"} for line in first)
        or all({"display", "project", "timestamp"} <= line.keys() for line in first)
    )


def _is_database(peek: Peek) -> bool:
    return peek.head.startswith("SQLite format 3\0")


_KNOWN = (
    _Refused(
        _is_aider,
        "an aider chat history: it has what was shown, not the requests, and no tool calls or durations",
        "record aider's requests at the endpoint instead, for example as OpenTelemetry gen_ai spans",
    ),
    _Refused(
        _is_codex_display,
        "a Codex TUI log: it has display events, and neither system prompt nor tool results as sent",
        "import the session itself: ~/.codex/sessions/*/*/*/rollout-*.jsonl",
    ),
    _Refused(
        _is_codex_exec,
        "the event stream of `codex exec --json`: it has display events, not the requests",
        "import the session itself: ~/.codex/sessions/*/*/*/rollout-*.jsonl",
    ),
    _Refused(
        _is_prompt_history,
        "a history of prompts: it has what the user typed, and no answers",
        "import the sessions themselves: ~/.claude/projects/*/*.jsonl or ~/.codex/sessions",
    ),
    _Refused(
        _is_database,
        "an SQLite database",
        "export its sessions as JSON with the agent's own tool, for example `opencode export`",
    ),
)
