"""The Prometheus text format (0.0.4), read strictly: a line that is none refuses the whole answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE_MAX = 64 * 1024
_SHOWN = 60
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*[ \t]*=[ \t]*"(?:[^"\\\n]|\\[\\"n])*"'
_LINE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*"
    rf"(?:\{{(?P<labels>[ \t]*(?:{_LABEL}[ \t]*(?:,[ \t]*{_LABEL}[ \t]*)*(?:,[ \t]*)?)?)\}}[ \t]*|[ \t])"
    r"(?P<value>\S+)(?:[ \t]+(?P<time>-?[0-9]+))?[ \t]*"
)
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


def parse(text: str) -> list[Sample]:
    """Return all samples in order; comments, HELP and TYPE are passed over."""
    samples: list[Sample] = []
    # Not splitlines: a label may hold any character but a line feed.
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r")
        if stripped and not stripped.startswith("#"):
            samples.append(_sample(stripped, number))
    return samples


def _sample(line: str, number: int) -> Sample:
    found = _LINE.fullmatch(line) if len(line) <= _LINE_MAX else None
    if found is None or not _VALUE.fullmatch(found["value"]):
        raise NotPrometheusText(number, line)
    pairs = _PAIR.findall(found["labels"] or "")
    labels = {name: _ESCAPE.sub(_unescape, value) if "\\" in value else value for name, value in pairs}
    if len(labels) != len(pairs):
        raise NotPrometheusText(number, line)
    time = found["time"]
    # More digits than any clock has would cost time to convert.
    if time is not None and len(time) > 20:
        raise NotPrometheusText(number, line)
    return Sample(found["name"], labels, float(found["value"]), None if time is None else int(time))


def _unescape(found: re.Match[str]) -> str:
    return "\n" if found[1] == "n" else found[1]
