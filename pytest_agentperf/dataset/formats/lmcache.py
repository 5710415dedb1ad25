"""LMCache agent traces: a JSONL row per request, `timestamp` (microseconds), `input`, `output`, `session_id`.

`input` is what the agent told the model, joined by blank lines; the model's answers, which agents send back in between,
are left out of it, and rows are not in the order of time. So a session's rows are sorted, what a row's `input` adds
becomes a user message, and the `output` before it the assistant message it follows. Joined again, the user messages
are the recorded `input`. Where `input` does not begin with the one before, the agent replaced its history: the whole
of it is one user message. An `input` that has the answer already gets none.

Lengths are not recorded; the importer counts. When an answer ended is not recorded either: a shell command whose
`<returncode>` came next gets a drawn delay.

Rows are set aside in a temporary file, as large as the unpacked trace. Memory is needed for about 150 bytes a row, and
for one session's messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.chat import assistant
from pytest_agentperf.dataset.formats.row_store import RowStore
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import read_json_lines, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Message, Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "lmcache-agent"
TITLE = "LMCache agent trace (JSONL with input and output)"

_BETWEEN = "\n\n"
_COMMAND_RAN = "<returncode>"
_MALFORMED = "compare with the format: timestamp, input, output, session_id"
_FIELDS = ("timestamp", "input", "output", "session_id")


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    timestamp: float = Field(allow_inf_nan=False)
    input: str = Field(min_length=1)
    output: str
    session_id: str


def recognises(peek: Peek) -> bool:
    """Say whether a file's rows have a session, a text that went in and one that came out."""
    first = peek.objects[0] if peek.objects else {}
    return all(isinstance(first.get(field), str) for field in _FIELDS[1:]) and "timestamp" in first


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the sessions in the order of their first rows."""
    sessions: dict[str, list[tuple[float, int, int]]] = {}
    with RowStore() as rows:
        for where, value in read_json_lines(path):
            row = validate(_Row, value, where=where, remedy=_MALFORMED)
            if not row.output:
                context.notes.add("requests without an answer, left out", where)
                continue
            # Of equal times the shorter history came first.
            sessions.setdefault(row.session_id, []).append((row.timestamp, len(row.input), len(rows)))
            rows.append((row.input, row.output))
        for session_id, order in sessions.items():
            texts = (rows[number] for _, _, number in sorted(order))
            yield context.trajectory(session_id, _requests(texts, context, where=f"{path}: {session_id}"))


def _requests(texts: Iterator[Any], context: ImportContext, *, where: str) -> Iterator[RecordedRequest]:
    before: RecordedRequest | None = None
    input_before, output_before = "", ""
    for input_, output in texts:
        history: list[Message] = []
        new = input_
        if before is not None:
            if input_.startswith(input_before):
                history = list(before.messages)
                new = input_[len(input_before) :].removeprefix(_BETWEEN)
            else:
                context.notes.add("replaced histories", where)
            yield before._replace(tool_calls=_calls(new))
        # Nothing new: the same was asked again.
        if history and new:
            history.append(assistant(output_before))
            new = _without_answer(new, output_before)
        if new:
            history.append({"role": "user", "content": new})
        before = RecordedRequest(messages=history, tools=None, answer=assistant(output))
        input_before, output_before = input_, output
    if before is not None:
        yield before


def _without_answer(new: str, answer: str) -> str:
    rest = new.lstrip()
    return rest[len(answer) :].removeprefix(_BETWEEN) if rest.startswith(answer) else new


def _calls(new: str) -> tuple[ToolCall, ...]:
    return (ToolCall(None, "bash", None),) if _COMMAND_RAN in new else ()
