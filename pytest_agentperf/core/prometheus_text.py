"""The Prometheus text format (0.0.4), read strictly: a line that is none refuses the whole answer.

An exporter shows many metrics of which few are wanted, the same ones again and again: others are passed over by
their first bytes, and what stands before a value is understood once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_LINE_MAX = 64 * 1024
_SHOWN = 60
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*[ \t]*=[ \t]*"(?:[^"\\\n]|\\[\\"n])*"'
_HEAD = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*"
    rf"(?:\{{(?P<labels>[ \t]*(?:{_LABEL}[ \t]*(?:,[ \t]*{_LABEL}[ \t]*)*(?:,[ \t]*)?)?)\}})?"
)
"""Name and labels; what follows a value begins after them."""
_TAIL = re.compile(r"[ \t]*(?P<value>\S+)(?:[ \t]+(?P<time>-?[0-9]+))?")
_BLANK = (b" ", b"\t")
_HEADS_KEPT = 4096
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_VALUE = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE
)
_ESCAPE = re.compile(r'\\([\\"n])')


class Sample(NamedTuple):
    """One line: NaN and infinities are values like any other here."""

    name: str
    labels: dict[str, str]
    value: float
    timestamp_ms: int | None


class NotPrometheusText(ValueError):
    """Which line is no sample, and how it begins."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line} is no Prometheus sample: {text[:_SHOWN]!r}")


def parse(body: bytes, wanted: tuple[str, ...] = ("",)) -> list[Sample]:
    """Return the samples in order whose names begin with one of `wanted`; of other lines nothing is read.

    Raises NotPrometheusText, and UnicodeDecodeError.
    """
    samples: list[Sample] = []
    starts = tuple(name.encode() for name in wanted)
    or_blank = starts + _BLANK
    # Not splitlines: a label may hold any character but a line feed.
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.startswith(or_blank):
            continue
        stripped = line.strip(b" \t\r")
        if stripped and not stripped.startswith(b"#") and stripped.startswith(starts):
            samples.append(_sample(stripped.decode(), number))
    return samples


def _sample(line: str, number: int) -> Sample:
    if len(line) > _LINE_MAX:
        raise NotPrometheusText(number, line)
    # A value holds no brace, a label's text may hold any.
    end = line.rfind("}") + 1
    if not end:
        end = next((i for i, character in enumerate(line) if character in " \t"), len(line))
    head, tail = _head(line[:end]), _TAIL.fullmatch(line, end)
    if head is None or tail is None or not _VALUE.fullmatch(tail["value"]):
        raise NotPrometheusText(number, line)
    time = tail["time"]
    # More digits than any clock has would cost time to convert.
    if time is not None and len(time) > 20:
        raise NotPrometheusText(number, line)
    return Sample(*head, float(tail["value"]), None if time is None else int(time))


@lru_cache(maxsize=_HEADS_KEPT)
def _head(text: str) -> tuple[str, dict[str, str]] | None:
    """Return name and labels, which nobody changes; None if these are none."""
    found = _HEAD.fullmatch(text)
    if found is None:
        return None
    pairs = _PAIR.findall(found["labels"] or "")
    labels = {name: _ESCAPE.sub(_unescape, value) if "\\" in value else value for name, value in pairs}
    return (found["name"], labels) if len(labels) == len(pairs) else None


def _unescape(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
