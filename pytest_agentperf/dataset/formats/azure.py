"""Azure's LLM inference traces (2023, 2024): a CSV row per request, `TIMESTAMP,ContextTokens,GeneratedTokens`.

Rows have neither text nor hashes nor conversations: each becomes a trajectory of one turn whose prompt shares nothing
with any other. One row is held at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.hashed import MAX_PROMPT_TOKENS, lone_prompt
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import Line, brief, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "azure-trace"
TITLE = "Azure LLM inference trace (CSV)"

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MAX_LINE_BYTES = 4096
_DAMAGED = "the trace is damaged: fetch it again"


def recognises(peek: Peek) -> bool:
    """Say whether a file begins with the trace's column names."""
    return tuple(peek.head.lstrip("\ufeff").split("\n", 1)[0].strip().split(",")) == _COLUMNS


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield a trajectory for each row."""
    lines = read_lines(path, max_line_bytes=_MAX_LINE_BYTES)
    header = next(lines, None)
    if header is None or header.data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace") != ",".join(
        _COLUMNS
    ):
        raise DatasetError(
            f"does not begin with {','.join(_COLUMNS)}", where=f"{path}:1", remedy="check the file's format"
        )
    for line in lines:
        where = f"{path}:{line.number}"
        row, input_tokens, output_tokens = _row(line, where=where)
        if not input_tokens or not output_tokens:
            context.notes.add("requests without a prompt or an answer, left out", where)
            continue
        request = RecordedRequest(
            messages=lone_prompt(f"azure {line.number} {row}", input_tokens),
            tools=None,
            prompt_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        yield context.trajectory(f"{path.stem}-{line.number}", [request])


def _row(line: Line, *, where: str) -> tuple[str, int, int]:
    text = line.data.decode("utf-8", "replace")
    fields = text.split(",")
    if len(fields) != len(_COLUMNS):
        raise DatasetError(f"{len(fields)} fields instead of 3", where=where, remedy=_DAMAGED)
    return text, _count(fields[1], where=where), _count(fields[2], where=where)


def _count(text: str, *, where: str) -> int:
    text = text.strip()
    # The length first: int() refuses very long digits with an error of its own.
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > MAX_PROMPT_TOKENS:
        raise DatasetError(f"no count of tokens: {brief(text)}", where=where, remedy=_DAMAGED)
    return int(text)
