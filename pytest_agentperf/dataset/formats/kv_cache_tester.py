"""Traces of kv-cache-tester (Claude Code sessions): one JSON per session with block hashes, sub-agents nested.

- **Conversations.** The session is a trajectory, and so is each sub-agent. `hash_ids` mean the same blocks in all of
  them; in other files too only where `hash_id_scope` is "global".
- **Blocks.** `hash_ids` cover the full blocks of `in` tokens; the rest of a prompt belongs to this request alone, or
  to the one that continues it. The first `tool_tokens` + `system_tokens` are a system message: tools were sent, but
  their definitions are not recorded. `hashed` says how blocks become messages.
- **Tool time.** `think_time` is not: it is the whole gap between an answer's end and the next request, in seconds,
  with the client's own time and a human's who reads, types or grants a permission. A turn whose next request brings
  a tool's result made a call of unknown name and duration, whose delay is drawn. Where sub-agents ran in between,
  the calls are theirs, and what they took is no tool time. Before a human's message there is no delay.

The file is held as a whole, as one JSON value has to be.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.hashed import (
    MAX_BLOCK_TOKENS,
    MIN_BLOCK_TOKENS,
    TracedRequest,
    TracePrompts,
    check_blocks,
)
from pytest_agentperf.dataset.reading import Count, read_document, to_ns, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek
    from pytest_agentperf.dataset.formats.hashed import Key

NAME = "kv-cache-tester"
TITLE = "kv-cache-tester trace (JSON with hash_ids)"

_SUB_AGENT = "subagent"
_MALFORMED = "compare with kv-cache-tester's docs/trace_replay_tester.md"


class _Foreign(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Request(_Foreign):
    in_: Annotated[Count, Field(alias="in")]
    out: Count
    hash_ids: list[int]
    model: str | None = None
    input_types: list[str] = []
    output_types: list[str] = []
    stop: str | None = None


class _Agent(_Foreign):
    requests: list[dict[str, Any]]
    agent_id: str | None = None
    tool_tokens: Count = 0
    system_tokens: Count = 0
    duration_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class _Trace(_Agent):
    id: str | None = None
    block_size: Annotated[int, Field(ge=MIN_BLOCK_TOKENS, le=MAX_BLOCK_TOKENS)]
    hash_id_scope: str = "local"


class _Conversation(NamedTuple):
    id: str
    requests: list[TracedRequest]
    model: str | None


def recognises(peek: Peek) -> bool:
    """Say whether a file is one JSON with a block size and requests."""
    value = peek.document
    return isinstance(value, dict) and {"block_size", "requests"} <= value.keys()


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the session, then its sub-agents."""
    value = read_document(path)
    trace = validate(_Trace, value, where=str(path), remedy=_MALFORMED)
    name = trace.id or path.stem
    is_global = trace.hash_id_scope == "global"
    prompts = TracePrompts(
        f"kv-cache-tester {trace.block_size} {'' if is_global else name}", trace.block_size
    )
    conversations = list(_conversations(trace, name, context, where=str(path)))
    for conversation in conversations:
        for earlier, later in pairwise(conversation.requests):
            prompts.follow(earlier, later)
    for conversation in conversations:
        if conversation.requests:
            yield context.trajectory(
                conversation.id,
                prompts.requests(conversation.requests, where=str(path)),
                model=conversation.model,
            )


def _conversations(
    trace: _Trace, name: str, context: ImportContext, *, where: str
) -> Iterator[_Conversation]:
    # A list, not a recursion: how deep agents nest is the file's choice.
    waiting: list[tuple[str, _Agent]] = [(name, trace)]
    while waiting:
        name, agent = waiting.pop(0)
        reader = _AgentReader(name, agent, trace.block_size, context, where=where)
        yield reader.conversation()
        waiting += reader.sub_agents


class _AgentReader:
    """Reads the requests of a session or of a sub-agent."""

    def __init__(
        self, name: str, agent: _Agent, block_size: int, context: ImportContext, *, where: str
    ) -> None:
        self._name = name
        self._agent = agent
        self._block_size = block_size
        self._context = context
        self._where = where
        self.sub_agents: list[tuple[str, _Agent]] = []
        self._rows: list[tuple[_Request, list[ToolCall]]] = []
        """Requests, and the sub-agents that ran after each."""

    def conversation(self) -> _Conversation:
        """Return what this agent asked, leaving its sub-agents in `sub_agents`."""
        for number, value in enumerate(self._agent.requests):
            where = f"{self._where}: {self._name}, requests[{number}]"
            if value.get("type") == _SUB_AGENT:
                self._sub_agent(value, where=where)
            else:
                self._request(value, where=where)
        nexts = [request for request, _ in self._rows[1:]]
        requests = [
            self._traced(number, request, calls, following)
            for number, ((request, calls), following) in enumerate(
                zip(self._rows, [*nexts, None], strict=False)
            )
        ]
        models = [request.model for request, _ in self._rows if request.model]
        return _Conversation(self._name, requests, models[0] if models else None)

    def _sub_agent(self, value: dict[str, Any], *, where: str) -> None:
        agent = validate(_Agent, value, where=where, remedy=_MALFORMED)
        name = agent.agent_id or f"agent_{len(self.sub_agents) + 1}"
        self.sub_agents.append((f"{self._name}-{name}", agent))
        if self._rows:
            duration_ns = None if agent.duration_ms is None else to_ns(agent.duration_ms)
            self._rows[-1][1].append(ToolCall(agent.agent_id, "Task", duration_ns))

    def _request(self, value: dict[str, Any], *, where: str) -> None:
        request = validate(_Request, value, where=where, remedy=_MALFORMED)
        if not request.in_ or not request.out:
            self._context.notes.add("requests without a prompt or an answer, left out", where)
            return
        check_blocks(len(self._keys(request, "rest")), request.in_, self._block_size, where=where)
        self._rows.append((request, []))

    def _keys(self, request: _Request, rest: str) -> list[Key]:
        if request.in_ % self._block_size and len(request.hash_ids) == request.in_ // self._block_size:
            return [*request.hash_ids, rest]
        return [*request.hash_ids]

    def _traced(
        self, number: int, request: _Request, calls: list[ToolCall], following: _Request | None
    ) -> TracedRequest:
        if not calls and _called_a_tool(request, following):
            calls = [ToolCall(None, "unknown", None)]
        return TracedRequest(
            keys=self._keys(request, f"{self._name} {number}"),
            input_tokens=request.in_,
            output_tokens=request.out,
            system_tokens=self._agent.tool_tokens + self._agent.system_tokens,
            tool_calls=tuple(calls),
        )


def _called_a_tool(request: _Request, following: _Request | None) -> bool:
    # What came next tells it better: streamed answers have neither types nor a reason to stop.
    if following is not None and following.input_types:
        return "tool_result" in following.input_types
    return request.stop == "tool_use" or "tool_use" in request.output_types
