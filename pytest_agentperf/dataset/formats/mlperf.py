"""The agentic dataset of MLPerf Inference Endpoints: flat JSONL rows by conversation and turn.

`delay_seconds` on a tool row is how long the tools ran. On a user row it is a human's time and is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.chat import NO_ANSWER, NO_TOOLS, assistant
from pytest_agentperf.dataset.formats.times import duration_ns
from pytest_agentperf.dataset.formats.values import MALFORMED, arguments_text
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import MAX_DURATION_MS, read_json_lines, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "mlperf-agentic"
TITLE = "MLPerf agentic inference dataset (JSONL)"

Seconds = Annotated[float, Field(ge=0, le=MAX_DURATION_MS / 1_000, allow_inf_nan=False)]


class _Foreign(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Function(_Foreign):
    name: str
    arguments: str | dict[str, Any]


class _Call(_Foreign):
    id: str | None = None
    function: _Function


class _Result(_Foreign):
    tool_call_id: str
    content: str


class _Row(_Foreign):
    conversation_id: str
    turn: Annotated[int, Field(ge=1)]
    role: Literal["user", "assistant", "tool"]
    content: str | None = None
    system: str | None = None
    tools: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    tool_results: list[_Result] | None = None
    delay_seconds: Seconds | None = None
    model: str | None = None


def recognises(peek: Peek) -> bool:
    """Say whether the first rows are turns of a conversation."""
    rows = peek.objects
    return bool(rows) and {"conversation_id", "turn", "role"} <= rows[0].keys()


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield one trajectory per conversation; its rows must stand together and in order."""
    current: _Conversation | None = None
    done: set[str] = set()
    for where, value in read_json_lines(path):
        row = validate(_Row, value, where=where, remedy=MALFORMED)
        if current is None or row.conversation_id != current.id:
            if current is not None:
                done.add(current.id)
                yield from current.trajectories(context)
            if row.conversation_id in done:
                raise DatasetError(
                    f"rows of conversation {row.conversation_id!r} do not stand together",
                    where=where,
                    remedy="sort the file by conversation_id and turn",
                )
            current = _Conversation(row.conversation_id, where)
        current.add(row, where, context)
    if current is not None:
        yield from current.trajectories(context)


class _Conversation:
    def __init__(self, conversation_id: str, where: str) -> None:
        self.id = conversation_id
        self._where = where
        self._turn = 0
        self._model: str | None = None
        self._tools: list[dict[str, Any]] | None = None
        self._history: list[dict[str, Any]] = []
        self._requests: list[RecordedRequest] = []

    def add(self, row: _Row, where: str, context: ImportContext) -> None:
        if row.turn != self._turn + 1:
            raise DatasetError(
                f"turn {row.turn} of conversation {self.id!r} follows turn {self._turn}",
                where=where,
                remedy="turns count from 1 without gaps: fetch or write the dataset again",
            )
        self._turn = row.turn
        self._model = self._model or row.model
        if row.system is not None:
            self._set_system(row.system)
        if row.tools is not None:
            self._tools = row.tools or None
        if row.role == "assistant":
            self._answer(row, where)
        elif row.role == "tool":
            self._results(row, where)
        else:
            if row.delay_seconds:
                context.notes.add("delay_seconds before a user message is no tool time", where)
            self._history.append({"role": "user", "content": row.content})

    def _set_system(self, text: str) -> None:
        message = {"role": "system", "content": text}
        if self._history and self._history[0]["role"] == "system":
            self._history[0] = message
        else:
            self._history.insert(0, message)

    def _answer(self, row: _Row, where: str) -> None:
        if not self._history:
            raise DatasetError("a conversation that opens with an answer", where=where, remedy=MALFORMED)
        calls = [
            (call.id, call.function.name, arguments_text(call.function.arguments, where))
            for call in row.tool_calls or ()
        ]
        answer = assistant(row.content, reasoning=row.reasoning_content, calls=calls)
        self._requests.append(
            RecordedRequest(
                messages=tuple(self._history),
                tools=self._tools,
                tool_calls=tuple(ToolCall(id_, name, None) for id_, name, _ in calls),
                answer=answer,
            )
        )
        self._history.append(answer)

    def _results(self, row: _Row, where: str) -> None:
        if not row.tool_results:
            raise DatasetError("a tool row without tool_results", where=where, remedy=MALFORMED)
        self._history += [
            {"role": "tool", "tool_call_id": result.tool_call_id, "content": result.content}
            for result in row.tool_results
        ]
        delay_ns = duration_ns(row.delay_seconds)
        if delay_ns is None or not self._requests:
            return
        last = self._requests[-1]
        calls = last.tool_calls
        if len(calls) == 1:
            calls = (replace(calls[0], duration_ns=delay_ns),)
        self._requests[-1] = last._replace(tool_delay_ns=delay_ns, tool_calls=calls)

    def trajectories(self, context: ImportContext) -> Iterator[Trajectory]:
        if not self._requests:
            context.notes.add(NO_ANSWER, self._where)
            return
        if any(request.tool_calls and request.tools is None for request in self._requests):
            context.notes.add(NO_TOOLS, self._where)
        yield context.trajectory(self.id, self._requests, model=self._model)
