"""Request traces of Dynamo (`dynamo.request.trace.v1`, JSONL, mostly gzipped): block hashes, sessions, tool events.

- **Conversations.** A session is a trajectory, its requests ordered by when they were received; a sub-agent has a
  session of its own. A request without a session is a trajectory of one turn.
- **Blocks.** `input_sequence_hashes` tell a block together with all before it, so they mean the same everywhere.
  `hashed` says how blocks become messages.
- **Tool time.** A tool belongs to the session's last request that was received before the tool started. The delay
  after a turn is the time in which at least one of its tools ran; tools that ran side by side do not add up. What a
  sub-agent took is no tool time. A tool whose end is missing has no duration: the turn's delay is then drawn.

Sessions interleave over the whole file, so requests are set aside in a temporary file, as large as the unpacked trace;
memory is needed for about 150 bytes a request and 400 a tool call.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.hashed import (
    MAX_BLOCK_TOKENS,
    MIN_BLOCK_TOKENS,
    TracedRequest,
    TracePrompts,
    check_blocks,
)
from pytest_agentperf.dataset.formats.row_store import RowStore
from pytest_agentperf.dataset.formats.times import Interval, tools_delay_ns
from pytest_agentperf.dataset.reading import Count, DurationMs, read_json_lines, to_ns, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "dynamo-trace"
TITLE = "Dynamo request trace (JSONL, also gzipped)"

_SCHEMA = "dynamo.request.trace."
_MALFORMED = "compare with Dynamo's request trace reference (dynamo.request.trace.v1)"

UnixMs = Annotated[int, Field(ge=0, le=2**53)]


class _Foreign(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Session(_Foreign):
    session_id: str | None = None


class _Replay(_Foreign):
    trace_block_size: Annotated[int, Field(ge=MIN_BLOCK_TOKENS, le=MAX_BLOCK_TOKENS)]
    input_length: Count
    input_sequence_hashes: list[int]


class _Metrics(_Foreign):
    request_id: str | None = None
    model: str | None = None
    output_tokens: Count | None = None
    request_received_ms: UnixMs | None = None
    total_time_ms: DurationMs | None = None
    replay: _Replay | None = None


class _Tool(_Foreign):
    tool_call_id: str
    tool_class: str | None = None
    started_at_unix_ms: UnixMs | None = None
    ended_at_unix_ms: UnixMs | None = None
    duration_ms: DurationMs | None = None


class _Event(_Foreign):
    schema_: Annotated[str, Field(alias="schema")]
    event_type: str
    event_time_unix_ms: UnixMs
    agent_context: _Session | None = None
    request: _Metrics | None = None
    tool: _Tool | None = None


class _Line(_Foreign):
    event: _Event


class _Call(NamedTuple):
    name: str
    start_ns: int | None = None
    duration_ns: int | None = None


class _Conversation:
    """What is kept of a session while the file is read."""

    def __init__(self, name: str, model: str | None, where: str) -> None:
        self.name = name
        self.model = model
        self.where = where
        self.requests: list[tuple[int, int]] = []
        """When each was received, and its number among the rows set aside."""
        self.calls: dict[str, _Call] = {}


def recognises(peek: Peek) -> bool:
    """Say whether a file's rows are events of that schema."""
    event = peek.objects[0].get("event") if peek.objects else None
    schema = event.get("schema") if isinstance(event, dict) else None
    return isinstance(schema, str) and schema.startswith(_SCHEMA)


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the sessions in the order of their first rows."""
    with RowStore() as rows:
        reader = _TraceReader(rows, context)
        for where, value in read_json_lines(path):
            reader.take(value, where=where)
        yield from reader.trajectories()


class _TraceReader:
    """Sorts a file's events by session."""

    def __init__(self, rows: RowStore, context: ImportContext) -> None:
        self._rows = rows
        self._context = context
        self._conversations: dict[str, _Conversation] = {}
        self._block_size: int | None = None

    def take(self, value: Any, *, where: str) -> None:
        """Take in a row of the file."""
        event = validate(_Line, value, where=where, remedy=_MALFORMED).event
        session = None if event.agent_context is None else event.agent_context.session_id
        if event.event_type == "request_end" and event.request is not None:
            self._request(event, event.request, session, where=where)
        elif event.event_type.startswith("tool_") and event.tool is not None and session is not None:
            self._tool(event.tool, self._conversation(session, session, where=where))
        else:
            self._context.notes.add("events that tell of no request or tool call, left out", where)

    def trajectories(self) -> Iterator[Trajectory]:
        """Yield what was taken in."""
        prompts = TracePrompts(f"dynamo {self._block_size}", self._block_size or 1)
        conversations = [found for found in self._conversations.values() if found.requests]
        for conversation in conversations:
            conversation.requests.sort()
            for (_, earlier), (_, later) in pairwise(conversation.requests):
                prompts.follow(TracedRequest(*self._rows[earlier]), TracedRequest(*self._rows[later]))
        for conversation in conversations:
            yield self._context.trajectory(
                conversation.name,
                prompts.requests(self._turns(conversation), where=conversation.where),
                model=conversation.model,
            )

    def _conversation(self, key: str, name: str, *, where: str, model: str | None = None) -> _Conversation:
        found = self._conversations.setdefault(key, _Conversation(name, model, where))
        found.model = found.model or model
        return found

    def _request(self, event: _Event, request: _Metrics, session: str | None, *, where: str) -> None:
        replay = request.replay
        if replay is None:
            self._context.notes.add("requests without block hashes, left out", where)
            return
        if not replay.input_length or not request.output_tokens:
            self._context.notes.add("requests without a prompt or an answer, left out", where)
            return
        if replay.trace_block_size != (self._block_size or replay.trace_block_size):
            raise DatasetError(
                f"blocks of {replay.trace_block_size} tokens after blocks of {self._block_size}",
                where=where,
                remedy="import traces with different block sizes as files of their own",
            )
        self._block_size = replay.trace_block_size
        check_blocks(len(replay.input_sequence_hashes), replay.input_length, self._block_size, where=where)
        number = len(self._rows)
        name = session or request.request_id or f"request-{number}"
        key = f"{number}\0" if session is None else session
        conversation = self._conversation(key, name, where=where, model=request.model)
        conversation.requests.append((_received_ms(event, request), number))
        self._rows.append((replay.input_sequence_hashes, replay.input_length, request.output_tokens))

    def _tool(self, tool: _Tool, conversation: _Conversation) -> None:
        call = conversation.calls.get(tool.tool_call_id) or _Call(tool.tool_class or "unknown")
        if tool.started_at_unix_ms is not None:
            call = call._replace(start_ns=to_ns(tool.started_at_unix_ms))
        if tool.duration_ms is not None:
            call = call._replace(duration_ns=to_ns(tool.duration_ms))
        elif tool.ended_at_unix_ms is not None and call.start_ns is not None:
            call = call._replace(duration_ns=max(0, to_ns(tool.ended_at_unix_ms) - call.start_ns))
        conversation.calls[tool.tool_call_id] = call

    def _turns(self, conversation: _Conversation) -> Iterator[TracedRequest]:
        received_ns = [to_ns(received_ms) for received_ms, _ in conversation.requests]
        calls: list[dict[str, _Call]] = [{} for _ in received_ns]
        for call_id, call in conversation.calls.items():
            turn = -1 if call.start_ns is None else bisect_left(received_ns, call.start_ns) - 1
            if turn < 0:
                self._context.notes.add("tool calls of no known turn, left out", conversation.where)
            else:
                calls[turn][call_id] = call
        for (_, number), made in zip(conversation.requests, calls, strict=True):
            yield TracedRequest(*self._rows[number])._replace(
                tool_delay_ns=tools_delay_ns((call.name, _when(call)) for call in made.values()),
                tool_calls=tuple(
                    ToolCall(call_id, call.name, call.duration_ns) for call_id, call in made.items()
                ),
            )


def _received_ms(event: _Event, request: _Metrics) -> int:
    if request.request_received_ms is not None:
        return request.request_received_ms
    return event.event_time_unix_ms - round(request.total_time_ms or 0)


def _when(call: _Call) -> Interval | None:
    if call.start_ns is None or call.duration_ns is None:
        return None
    return Interval(call.start_ns, call.start_ns + call.duration_ns)
