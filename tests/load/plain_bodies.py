"""Request bodies the plain way, message by message: the oracle for those that are joined from segments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.assignment import isolation_prefix

if TYPE_CHECKING:
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.core.trajectory import Message, Trajectory
    from pytest_agentperf.load.bodies import BodyRules

_MARK = "\0agentperf-isolation-prefix\0"


class PlainBodies:
    """Keeps every message encoded, and joins a body from those of its turn."""

    def __init__(self, trajectory: Trajectory, rules: BodyRules, nonce: str) -> None:
        self._trajectory = trajectory
        self._rules = rules
        self._nonce = nonce
        self._messages: dict[int, bytes] = {}
        self._openings: dict[int, tuple[bytes, bytes]] = {}
        self._tools = [_json(tools) for tools in trajectory.tool_sets]
        self._head = b'{"model":' + _json(rules.model) + b',"messages":['
        fixed = {**rules.parameters, "stream": True, "stream_options": {"include_usage": True}}
        self._fixed = b"," + _json(fixed)[1:-1]

    def build(self, key: RequestKey) -> bytes:
        turn = self._trajectory.turns[key.turn]
        indices = list(turn.message_indices())
        before, after = self._opening(indices[0])
        prefix = isolation_prefix(self._nonce, key.phase, key.attempt, key.agent, key.ordinal).encode()
        parts = [before + prefix + after, *(self._message(i) for i in indices[1:])]
        tools = b"" if turn.tools_index is None else b',"tools":' + self._tools[turn.tools_index]
        length = b',"max_tokens":%d' % self._rules.max_tokens
        if self._rules.output_length == "exact":
            assert turn.output_tokens is not None
            n = max(1, min(turn.output_tokens, self._rules.max_tokens))
            length = b',"max_tokens":%d,"min_tokens":%d,"ignore_eos":true' % (n, n)
        return b"".join((self._head, b",".join(parts), b"]", tools, self._fixed, length, b"}"))

    def _message(self, index: int) -> bytes:
        if index not in self._messages:
            self._messages[index] = _json(self._trajectory.messages[index])
        return self._messages[index]

    def _opening(self, index: int) -> tuple[bytes, bytes]:
        if index not in self._openings:
            whole = _json(_with_mark(self._trajectory.messages[index]))
            before, _, after = whole.partition(_json(_MARK)[1:-1])
            self._openings[index] = (before, after)
        return self._openings[index]


def _with_mark(message: Message) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, Mapping) and isinstance(first.get("text"), str):
            marked: Any = [{**first, "text": _MARK + first["text"]}, *content[1:]]
        else:
            marked = [{"type": "text", "text": _MARK}, *content]
    else:
        marked = _MARK + (content or "")
    return {**message, "content": marked}


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
