"""Claude Code sessions: the native JSONL of `~/.claude/projects`, or what `--output-format stream-json` prints.

One answer is several lines of the same message id. The system prompt and the tool definitions are not recorded, so
requests are shorter than recorded prompt counts by these; a stream has not even the user's prompt, for which a line
stands in. Output counts are those at the start of an answer: not trusted. A tool's duration is the time from its call's
line to its result's, waits for a human's permission included: they are not recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.claude_code.branches import branches
from pytest_agentperf.dataset.formats.claude_code.conversation import build
from pytest_agentperf.dataset.formats.claude_code.rows import SYNTHETIC_MODEL, read_rows
from pytest_agentperf.dataset.formats.values import mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "claude-code"
TITLE = "Claude Code session (native JSONL or stream-json)"

_LINES_OF_ITS_OWN = ("file-history-snapshot", "queue-operation")
_LINKS = {"type", "uuid", "parentUuid", "sessionId", "isSidechain"}


def recognises(peek: Peek) -> bool:
    """Say whether a file's lines are those of Claude Code."""
    return not peek.is_dir and any(_is_line(value) for value in peek.objects)


def _is_line(value: dict[str, Any]) -> bool:
    kind, message = value.get("type"), mapping(value.get("message"))
    if kind in ("user", "assistant"):
        return message.get("role") == kind and "content" in message
    if kind == "system":
        init = value if "subtype" in value else message
        return init.get("subtype") == "init" and text(init.get("session_id")) is not None
    if kind == "summary":
        return "leafUuid" in value
    return kind in _LINES_OF_ITS_OWN or value.keys() >= _LINKS


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield a trajectory for each conversation that has an answer: sessions, then their sub-agents."""
    for branch in branches(read_rows(path, context.notes), context.notes):
        first = next(row for row in branch.rows if row.kind in ("user", "assistant"))
        where = first.where
        if branch.cut and first.kind == "assistant":
            context.notes.add("conversations whose beginning is not recorded, left out", where)
            continue
        conversation = build(branch, context.notes)
        if conversation.turns == 0:
            context.notes.add("conversations without an answer, left out", where)
            continue
        context.notes.add(
            "conversations without their system prompt and tool definitions: not recorded", where
        )
        models = (row.model for row in branch.rows if row.kind == "assistant")
        yield context.trajectory(
            branch.name,
            conversation.requests(),
            model=next((model for model in models if model and model != SYNTHETIC_MODEL), None),
        )
