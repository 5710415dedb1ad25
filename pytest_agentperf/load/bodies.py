"""Builds request bodies from segments that were encoded once: a turn costs a copy, not a JSON encoding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_agentperf.core.assignment import isolation_prefix
from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.core.trajectory import Message, Trajectory, Turn

# Where the isolation prefix goes while a message is encoded: no recorded text holds it by accident, and its
# control characters are escaped alike with and without `ensure_ascii`.
_MARK = "\0agentperf-isolation-prefix\0"


@dataclass(frozen=True, slots=True)
class BodyRules:
    """What every request of a run carries besides its messages and tools."""

    model: str
    parameters: Mapping[str, Any]
    max_tokens: int
    output_length: Literal["natural", "exact"]


@dataclass(slots=True)
class _Encoded:
    trajectory: Trajectory
    messages: dict[int, bytes] = field(default_factory=dict)
    openings: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """First messages, cut where the prefix goes."""
    tools: list[bytes] = field(default_factory=list)


class BodyBuilder:
    """Turns request keys into bodies; keeps the encoded messages of each trajectory."""

    def __init__(self, source: TrajectorySource, rules: BodyRules, nonce: str = "") -> None:
        self.nonce = nonce
        self._source = source
        self._rules = rules
        self._encoded: dict[str, _Encoded] = {}
        self._prefixes: dict[int, tuple[tuple[str, int, int, int, int], bytes]] = {}
        self._head = b'{"model":' + _json(rules.model) + b',"messages":['
        fixed = {**rules.parameters, "stream": True, "stream_options": {"include_usage": True}}
        options = rules.parameters.get("stream_options")
        if isinstance(options, Mapping):
            fixed["stream_options"] = {**options, "include_usage": True}
        self._fixed = b"," + _json(fixed)[1:-1]

    def preload(self) -> None:
        """Load and encode everything, so that no request waits for it later."""
        for id_ in self._source.ids():
            encoded = self._get(id_)
            for number, turn in enumerate(encoded.trajectory.turns):
                self._length(id_, number, turn)
                first, *others = turn.message_indices()
                self._opening(encoded, first)
                for index in others:
                    self._message(encoded, index)

    def tool_delays_ns(self, trajectory: str) -> tuple[int, ...]:
        """Return the delay after each turn of a trajectory."""
        return tuple(turn.tool_delay_ns for turn in self._get(trajectory).trajectory.turns)

    def build(self, key: RequestKey) -> bytes:
        """Return the JSON body of one request, isolation prefix included."""
        encoded = self._get(key.trajectory)
        turn = encoded.trajectory.turns[key.turn]
        indices = list(turn.message_indices())
        before, after = self._opening(encoded, indices[0])
        prefix = self._prefix(key)
        parts = [before + prefix + after, *(self._message(encoded, i) for i in indices[1:])]
        tools = b"" if turn.tools_index is None else b',"tools":' + encoded.tools[turn.tools_index]
        return b"".join(
            (
                self._head,
                b",".join(parts),
                b"]",
                tools,
                self._fixed,
                self._length(key.trajectory, key.turn, turn),
                b"}",
            )
        )

    def _prefix(self, key: RequestKey) -> bytes:
        """Return the prefix of the agent's trajectory at hand, made once for all its turns."""
        fields = (self.nonce, key.phase, key.attempt, key.agent, key.ordinal)
        known = self._prefixes.get(key.agent)
        if known is None or known[0] != fields:
            known = self._prefixes[key.agent] = (fields, isolation_prefix(*fields).encode())
        return known[1]

    def _length(self, trajectory: str, number: int, turn: Turn) -> bytes:
        if self._rules.output_length == "natural":
            return b',"max_tokens":%d' % self._rules.max_tokens
        if turn.output_tokens is None:
            raise DatasetError(
                "no recorded output length",
                where=f"trajectory {trajectory!r}, turn {number}",
                remedy="use the output length `natural`, or a dataset with recorded lengths",
            )
        n = max(1, min(turn.output_tokens, self._rules.max_tokens))
        return b',"max_tokens":%d,"min_tokens":%d,"ignore_eos":true' % (n, n)

    def _get(self, trajectory: str) -> _Encoded:
        encoded = self._encoded.get(trajectory)
        if encoded is None:
            loaded = self._source.load(trajectory)
            encoded = self._encoded[trajectory] = _Encoded(loaded, tools=[_json(t) for t in loaded.tool_sets])
        return encoded

    def _message(self, encoded: _Encoded, index: int) -> bytes:
        found = encoded.messages.get(index)
        if found is None:
            found = encoded.messages[index] = _json(encoded.trajectory.messages[index])
        return found

    def _opening(self, encoded: _Encoded, index: int) -> tuple[bytes, bytes]:
        found = encoded.openings.get(index)
        if found is None:
            whole = _json(_with_mark(encoded.trajectory.messages[index]))
            mark = _json(_MARK)[1:-1]
            before, _, after = whole.partition(mark)
            found = encoded.openings[index] = (before, after)
        return found


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
        # A lone surrogate in a recording: as an escape it is valid JSON, as UTF-8 it is not.
        return json.dumps(value, separators=(",", ":")).encode()
