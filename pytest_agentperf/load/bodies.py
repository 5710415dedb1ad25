"""Builds request bodies from segments that were encoded once: a turn costs a copy, not a JSON encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_agentperf.core.assignment import isolation_prefix
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.load.message_json import json_bytes

if TYPE_CHECKING:
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.load.segments import Segments


@dataclass(frozen=True, slots=True)
class BodyRules:
    """What every request of a run carries besides its messages and tools."""

    model: str
    parameters: Mapping[str, Any]
    max_tokens: int
    output_length: Literal["natural", "exact"]


def common_fields(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all bodies of a run share besides model and lengths."""
    options = parameters.get("stream_options")
    return {
        **parameters,
        "stream": True,
        "stream_options": {**(options if isinstance(options, Mapping) else {}), "include_usage": True},
    }


class _Prefix(NamedTuple):
    fields: tuple[str, int, int, int, int]
    text: bytes
    head: int


class BodyBuilder:
    """Turns request keys into bodies."""

    def __init__(self, segments: Segments, rules: BodyRules, nonce: str = "") -> None:
        """Prepare what all bodies share; raises DatasetError if exact lengths are asked for and not recorded."""
        self.nonce = nonce
        self._segments = segments
        self._prefixes: dict[int, _Prefix] = {}
        self._head = b'{"model":' + json_bytes(rules.model) + b',"messages":['
        self._fixed = b"," + json_bytes(common_fields(rules.parameters))[1:-1]
        self._max_tokens = rules.max_tokens
        self._exact = rules.output_length == "exact"
        if self._exact and (turn := segments.without_output_tokens()):
            raise DatasetError(
                "no recorded output length",
                where=f"trajectory {turn[0]!r}, turn {turn[1]}",
                remedy="use the output length `natural`, or a dataset with recorded lengths",
            )

    def build(self, key: RequestKey) -> bytes:
        """Return the JSON body of one request, isolation prefix included."""
        number = self._segments.number(key.trajectory, key.turn)
        before, *rest = self._segments.slices(number)
        return b"".join(
            (self._head, before, self._prefix(key).text, *rest, self._fixed, self._length(number), b"}")
        )

    def prefix_head(self, key: RequestKey) -> int:
        """Return the first 60 bits of the prefix in a request's body: what its record keeps of it."""
        return self._prefix(key).head

    def _prefix(self, key: RequestKey) -> _Prefix:
        """Return the prefix of the agent's trajectory at hand, made once for all its turns."""
        fields = (self.nonce, key.phase, key.attempt, key.agent, key.ordinal)
        known = self._prefixes.get(key.agent)
        if known is None or known.fields != fields:
            text = isolation_prefix(*fields)
            known = self._prefixes[key.agent] = _Prefix(fields, text.encode(), int(text[:15], 16))
        return known

    def _length(self, number: int) -> bytes:
        if not self._exact:
            return b',"max_tokens":%d' % self._max_tokens
        n = max(1, min(self._segments.output_tokens(number), self._max_tokens))
        return b',"max_tokens":%d,"min_tokens":%d,"ignore_eos":true' % (n, n)
