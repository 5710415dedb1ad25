"""Counting a text's tokens without a tokenizer, for the kinds of text that are synthesised here.

Byte-pair tokenizers cut a text into words, numbers, punctuation and space first, by a pattern, and these pieces into
tokens. The pattern is the same here; what a piece costs on average was fitted to the DeepSeek V4 tokenizer. A test
compares both.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.synth.word_costs import WORD_COSTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKENIZER = "DeepSeek V4"
_PIECE = re.compile(
    r"[0-9]{1,3}|[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n!-~]?[A-Za-z\u0080-\uffff]+| ?[!-/:-@\[-`{-~]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^A-Za-z]")
# Thousandths of a token, by the number of letters: of a word as such, after a space, after another sign; and of each
# further capitalised part of a name.
_WORD = (1000, 943, 1049, 1042, 1113, 1181, 1360, 1434, 1754, 1841, 1900)
_WORD_AFTER_SPACE = (1000, 1000, 1002, 1002, 1003, 1075, 1052, 1058, 1168, 1129, 1318)
_WORD_AFTER_SIGN = (1033, 1037, 1203, 1355, 1455, 1800, 2029, 2085, 2605, 2439, 2300)
_NEXT_PART = (900, 759, 832, 1053, 1137, 1320, 1289, 1427, 1400, 1626)
_SIGNS = (1000, 1024, 1421, 1789, 2567, 2900, 3000, 3106)
_SPACE = 1004

# What the chat template puts around messages, calls and parameters, in tokens.
REQUEST_TOKENS = 228
TURN_TOKENS = 2
MESSAGE_TOKENS = 7
_ANSWER_TOKENS = 2
_CALLS_TOKENS = 13
_CALL_TOKENS = 12
_PARAMETER_TOKENS = 16


def _by_length(costs: tuple[int, ...], text: str) -> int:
    return costs[min(len(text), len(costs)) - 1]


@lru_cache(maxsize=1 << 17)
def _cost(piece: str) -> int:
    known = WORD_COSTS.get(piece)
    if known is not None:
        return known
    if piece[-1].isdigit():
        return 1000
    if not piece.strip():
        return _SPACE
    first, *others = [part for part in _PART.findall(piece) if part[0].isalpha()] or [""]
    if not first:
        return _by_length(_SIGNS, piece.strip())
    sign = "" if piece[0].isalpha() else piece[0]
    table = _WORD if not sign else _WORD_AFTER_SPACE if sign == " " else _WORD_AFTER_SIGN
    cost = WORD_COSTS.get(sign + first, _by_length(table, first))
    return cost + sum(_by_length(_NEXT_PART, part) for part in others)


def text_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return sum(map(_cost, _PIECE.findall(text))) // 1000


def call_tokens(name: str, arguments: Mapping[str, Any]) -> int:
    """Return about how many tokens a tool call has in the model's own notation."""
    values = sum(text_tokens(value if isinstance(value, str) else str(value)) for value in arguments.values())
    return _CALL_TOKENS + text_tokens(name) + values + _PARAMETER_TOKENS * len(arguments)


def answer_tokens(reasoning: str, content: str, calls: int) -> int:
    """Return about how many tokens an answer has, `calls` being its calls' tokens."""
    frame = _ANSWER_TOKENS + (_CALLS_TOKENS if calls else 0)
    return text_tokens(reasoning) + text_tokens(content) + calls + frame


def tools_tokens(tools: Sequence[Mapping[str, Any]]) -> int:
    """Return about how many tokens the template needs for tool definitions."""
    # Compact JSON has longer runs of signs than other text, which makes the sum of pieces a little too large.
    return sum(text_tokens(json.dumps(tool["function"])) for tool in tools) * 96 // 100
