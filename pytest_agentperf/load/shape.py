"""Recognises a server's plain output events by their bytes, so that a token costs one match instead of a JSON parse.

A stream's events differ in their values only: the same keys in the same order, another text. A `Shape` is learned
from one event that was decoded and holds nothing but output; what matches it holds nothing but output either.
Everything else is decoded in full, so a server that no shape fits is measured as truly, only at a higher cost.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Match = Callable[[bytearray, int, int], re.Match[bytes] | None]

# Not ASCII, and well-formed: what no JSON parser would take must not be taken for output.
_UTF8 = (
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
_ASCII = rb"[ !#-\[\]-\x7f]*"
_STRING = rb'"%b(?:(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|%b)%b)*"' % (_ASCII, _UTF8, _ASCII)
# Not empty. Most texts are plain ASCII, which the first branch takes in one go.
_TEXT = rb'"(?:%b"|(?!")%b)' % (_ASCII[:-1] + b"+", _STRING[1:])
_INTEGER = rb"-?(?:0|[1-9][0-9]*)"
_NUMBER = _INTEGER + rb"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(
    rb'(?P<string>%b)(?P<colon>\s*:)?|(?P<number>-?[0-9][0-9.eE+-]*)|(?P<rest>[^"0-9-]+|-)' % _STRING
)
_TEXT_FIELDS = ("content", "reasoning", "reasoning_content")
# Strings that are the same in all events of an endpoint: a literal is cheaper to match than a free string.
_CONSTANT = frozenset(
    {b'"object"', b'"model"', b'"role"', b'"type"', b'"system_fingerprint"', b'"service_tier"'}
)
# A zero there says nothing, as null does; another number would.
_JUDGED = frozenset(
    {b'"usage"', b'"error"', b'"finish_reason"', b'"tool_calls"', b'"function"', b'"name"'}
) | {b'"%b"' % name.encode() for name in _TEXT_FIELDS}
# More kinds of plain event than these no server sends; and one that matches nothing must not be asked forever.
_SHAPES_MAX = 6
_MISSES_MAX = 64


class Shape:
    """All events that differ from a plain one in the values of strings and numbers alone."""

    def __init__(self, json_pattern: bytes) -> None:
        event = rb"data: ?%b(?:\n\n|\r\n\r\n)\r\n" % json_pattern
        self.matches: Callable[[bytes], re.Match[bytes] | None] = re.compile(json_pattern).fullmatch
        self.one_chunk: Match = re.compile(event).fullmatch
        """Match what follows the size of an HTTP chunk that holds exactly one such event."""
        self.chunk: Match = re.compile(rb"([0-9a-fA-F]{1,6})\r\n%b" % event).match
        """Match a whole HTTP chunk that does; group 1 is its declared size."""


class Shapes:
    """The shapes learned from one endpoint, shared by all its streams."""

    def __init__(self) -> None:
        self._shapes: list[Shape] = []
        self._misses = 0

    def find(self, data: bytes, payload: Mapping[str, Any]) -> Shape | None:
        """Return the shape of an event that brought output, learned from it if need be; None if it has none."""
        if self._misses > _MISSES_MAX:
            return None
        for shape in self._shapes:
            # What looks like a plain event is one.
            if shape.matches(data):
                return shape
        if not is_plain(payload):
            return None
        self._misses += 1
        if len(self._shapes) < _SHAPES_MAX and (pattern := _json_pattern(data)) is not None:
            shape = Shape(pattern)
            if shape.matches(data):
                self._shapes.append(shape)
                return shape
        return None


def is_plain(payload: Mapping[str, Any]) -> bool:
    """Return whether an event says nothing but "here is more output": no count, end, name, or second choice."""
    if payload.get("usage") or payload.get("error") or payload.get("object", "") == "error":
        return False
    choices = payload.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return False
    (choice,) = choices
    delta = choice.get("delta")
    if choice.get("finish_reason") or not isinstance(delta, dict):
        return False
    texts = [delta[name] for name in _TEXT_FIELDS if delta.get(name)]
    texts += [(call.get("function") or {}).get("arguments") for call in delta.get("tool_calls") or ()]
    return bool(texts) and all(isinstance(text, str) and text for text in texts)


def _json_pattern(data: bytes) -> bytes | None:
    """Return a pattern for the event's JSON: keys, literals and what is empty as they are, other values free."""
    if b"\n" in data:
        return None  # joined from several lines: such an event does not look like its data
    pattern = bytearray()
    place = 0
    key = b""
    while place < len(data):
        found = _TOKEN.match(data, place)
        if found is None:
            return None
        place = found.end()
        string, number = found["string"], found["number"]
        if string is not None and found["colon"] is not None:
            key = string
            pattern += re.escape(found[0])
        elif string is not None and string != b'""' and key not in _CONSTANT:
            # The same length for all ids of an endpoint, and skipping bytes costs nothing.
            free = rb'"[^"]{%d}"' % (len(string) - 2) if key == b'"id"' else _TEXT
            pattern += free
        elif number is not None and key not in _JUDGED:
            pattern += _INTEGER if number.lstrip(b"-").isdigit() else _NUMBER
        else:
            pattern += re.escape(found[0])
    return bytes(pattern)
