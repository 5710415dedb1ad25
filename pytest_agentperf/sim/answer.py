"""What a simulated model says: how long and, token by token, what; a function of the request alone."""

from __future__ import annotations

import json
import math
import re
from hashlib import blake2b
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.sim.prompt import TOKEN_BYTES, content_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.config.engine import EngineConfig

# Every token is a word of three letters and a space, so four bytes.
_WORDS = (
    "add all and any api arg ask bad bit box bug bus byt can cap cmd cut dat def del dir doc dom dot "
    "end env err etc fix fmt fun get git got had has her him how ids int its job key lay led let lib "
    "lin log lot low map may max min mod net new not now num obj off old one opt our out own pad par "
    "per pid pop pre put raw ref rel reg rep req res row run say sec see seq set sha sub sum sys tab "
    "tag tcp the tmp top try two url use val var via was way web who why xml yet you zip "
)

# Every text is a slice of this one.
_RESERVOIR_TOKENS = 4_096
_RESERVOIR = "".join(
    _WORDS[start : start + TOKEN_BYTES]
    for start in (
        blake2b(index.to_bytes(4, "little")).digest()[0] % (len(_WORDS) // TOKEN_BYTES) * TOKEN_BYTES
        for index in range(_RESERVOIR_TOKENS)
    )
)
_TWICE = _RESERVOIR * 2

_P95_Z = NormalDist().inv_cdf(0.95)

# The prefix that isolates the cache between phases opens the first message; it must not change the answer.
_ISOLATION_PREFIX = re.compile(r"\s*[0-9a-f]{128}\s*")


class Limits(NamedTuple):
    """What the request says about the answer's length; `exact` is vLLM's `ignore_eos`."""

    max_tokens: int
    min_tokens: int = 0
    exact: bool = False


class Delta(NamedTuple):
    """What one chunk of tokens adds to the message; empty where it adds nothing."""

    reasoning: str
    content: str
    tool_name: str
    arguments: str


class Answer(NamedTuple):
    """An answer planned in full: reasoning, then content, then perhaps one tool call."""

    tokens: int
    reasoning_tokens: int
    tool_start: int  # index of the token that names the tool; not below `planned` if there is no call
    planned: int  # tokens it would have without max_tokens
    tool_name: str
    finish_reason: str
    text_offset: int
    call_id: str

    def delta(self, start: int, count: int) -> Delta:
        """Return what tokens `start` to `start + count` say."""
        end = start + count
        reasoning_end = self.reasoning_tokens
        reasoning = content = name = arguments = ""
        if start < reasoning_end:
            reasoning = self._text(start, min(end, reasoning_end))
        if end > reasoning_end and start < self.tool_start:
            content = self._text(max(start, reasoning_end), min(end, self.tool_start))
        if end > self.tool_start:
            if start <= self.tool_start:
                name = self.tool_name
            arguments = self._arguments(max(start, self.tool_start), end)
        return Delta(reasoning, content, name, arguments)

    def _text(self, start: int, end: int) -> str:
        first = (self.text_offset + start) % _RESERVOIR_TOKENS
        count = end - start
        text = _TWICE if count <= _RESERVOIR_TOKENS else _RESERVOIR * (count // _RESERVOIR_TOKENS + 2)
        return text[first * TOKEN_BYTES : (first + count) * TOKEN_BYTES]

    def _arguments(self, start: int, end: int) -> str:
        # By tokens of the call: 1: name with {}; 2: name, {}; 3 or more: name, opening, words …, closing.
        call_tokens = self.planned - self.tool_start
        if call_tokens <= 2:
            return "{}" if end == self.planned else ""
        opening, closing = self.tool_start + 1, self.planned - 1
        text = '{"input":"' if start <= opening < end else ""
        first, last = max(start, opening + 1), min(end, closing)
        if first < last:
            text += self._text(first, last)
        return text + '"}' if start <= closing < end else text


class AnswerModel:
    """Plans answers; equal requests and seeds give equal answers, whatever the first message starts with."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._seed = config.seed.to_bytes(8, "little")
        self._log_median = math.log(config.output_tokens_median)
        self._sigma = math.log(config.output_tokens_p95 / config.output_tokens_median) / _P95_Z

    def plan(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], limits: Limits
    ) -> Answer:
        """Plan the answer to a conversation; `tools` is empty where no call is allowed."""
        digest = self._digest(_last_turn(messages))
        natural = max(self._length(digest), limits.min_tokens)
        planned = limits.max_tokens if limits.exact else natural
        tokens = min(planned, limits.max_tokens)
        reasoning = min(int(planned * self._config.reasoning_share), planned - 1)
        call = -(-(planned - reasoning) // 2) if tools else 0
        finish_reason = "tool_calls" if tools else "stop"
        if limits.exact or planned > limits.max_tokens:
            finish_reason = "length"
        return Answer(
            tokens=tokens,
            reasoning_tokens=min(reasoning, tokens),
            tool_start=planned - call,
            planned=planned,
            tool_name=_tool_name(tools, digest[8]),
            finish_reason=finish_reason,
            text_offset=int.from_bytes(digest[10:12], "little"),
            call_id=f"call_{digest[16:].hex()}",
        )

    def natural_length(self, turn: bytes) -> int:
        """Return the length of the answer to a turn that something else than its messages identifies."""
        return self._length(self._digest(turn))

    def _digest(self, turn: bytes) -> bytes:
        return blake2b(turn, digest_size=32, key=self._seed).digest()

    def _length(self, digest: bytes) -> int:
        uniform = (int.from_bytes(digest[:8], "little") + 0.5) / 2**64
        z = NormalDist().inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))
        length = math.exp(self._log_median + self._sigma * z)
        return max(1, min(self._config.output_tokens_max, round(length)))


def _last_turn(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Return what identifies the turn: its position and all since the last answer, without the prefix."""
    first = len(messages) - 1
    while first > 0 and messages[first - 1]["role"] != "assistant":
        first -= 1
    parts = [str(len(messages))]
    for index in range(first, len(messages)):
        message = messages[index]
        text = content_text(message.get("content"))
        if index == 0 and (prefix := _ISOLATION_PREFIX.match(text)):
            text = text[prefix.end() :]
        parts.append(json.dumps([message["role"], text]))
    return "\n".join(parts).encode()


def _tool_name(tools: Sequence[Mapping[str, Any]], choice: int) -> str:
    if not tools:
        return ""
    name: str = tools[choice % len(tools)]["function"]["name"]
    return name
