"""Mooncake traces: a JSONL row per request, `timestamp, input_length, output_length, hash_ids` (blocks of 512 tokens).

Rows do not say which conversation they belong to. A row continues an earlier one if it begins with all of that row's
full blocks, of which the last was new with that row's conversation, and is longer than that row's prompt and answer
together. The last condition leaves out other questions on the same document, the one before it a system prompt that
many share. The longest such row counts, and each is continued once, by the first: later rows branch off into
trajectories of their own, as do all without a predecessor. `hash_ids` number the blocks of one file, so the text
depends on its first row too. `hashed` says how blocks become messages.

No tool is recorded, hence no tool delay: 0. Conversations interleave over the whole file, so rows are set aside in a
temporary file, as large as the unpacked trace; memory is needed for about 250 bytes a row.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.dataset.formats.hashed import TracedRequest, TracePrompts, check_blocks
from pytest_agentperf.dataset.formats.row_store import RowStore
from pytest_agentperf.dataset.reading import Count, read_json_lines, validate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek
    from pytest_agentperf.dataset.formats.hashed import Key

NAME = "mooncake"
TITLE = "Mooncake trace (JSONL with hash_ids)"

BLOCK_TOKENS = 512
_NONE = -1
_MALFORMED = "compare with the format: timestamp, input_length, output_length, hash_ids"


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    input_length: Count
    output_length: Count
    hash_ids: Annotated[list[int], Field(max_length=2**20)]


def recognises(peek: Peek) -> bool:
    """Say whether a file's rows have lengths and block hashes."""
    first = peek.objects[:1]
    return bool(first) and {"input_length", "output_length", "hash_ids"} <= first[0].keys()


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the conversations in the order of their first rows."""
    with RowStore() as rows:
        lines = array("q")
        scope = ""
        for where, value in read_json_lines(path):
            if (row := _row(value, context, where=where)) is not None:
                scope = scope or f"mooncake {hashlib.sha256(repr(row).encode()).hexdigest()}"
                rows.append(row)
                lines.append(int(where.rpartition(":")[2]))
        next_row, is_first = _conversations(rows)
        prompts = TracePrompts(scope, BLOCK_TOKENS)
        for number, follower in enumerate(next_row):
            if follower != _NONE:
                prompts.follow(_request(rows, number), _request(rows, follower))
        for number, first in enumerate(is_first):
            if first:
                yield context.trajectory(
                    f"{path.name.partition('.')[0]}-{lines[number]}",
                    prompts.requests(_chain(rows, next_row, number), where=f"{path}:{lines[number]}"),
                )


def _row(value: Any, context: ImportContext, *, where: str) -> tuple[list[int], int, int] | None:
    row = validate(_Row, value, where=where, remedy=_MALFORMED)
    if not row.input_length or not row.output_length:
        context.notes.add("requests without a prompt or an answer, left out", where)
        return None
    check_blocks(len(row.hash_ids), row.input_length, BLOCK_TOKENS, where=where)
    return row.hash_ids, row.input_length, row.output_length


def _request(rows: RowStore, number: int) -> TracedRequest:
    return TracedRequest(*rows[number])


def _chain(rows: RowStore, next_row: array[int], number: int) -> Iterator[TracedRequest]:
    while number != _NONE:
        yield _request(rows, number)
        number = next_row[number]


def _conversations(rows: RowStore) -> tuple[array[int], bytearray]:
    """Return each row's continuation, and which rows begin a conversation."""
    next_row = array("q", (_NONE,)) * len(rows)
    is_first = bytearray(b"\1") * len(rows)
    # Of last full blocks alone, who had them first: all blocks would need more memory than the file has bytes.
    open_rows = _OpenRows(_last_full_block(_request(rows, number)) for number in range(len(rows)))
    for number in range(len(rows)):
        request = _request(rows, number)
        for earlier in open_rows.candidates(request):
            if _continues(request, _request(rows, earlier)):
                next_row[earlier] = number
                is_first[number] = 0
                open_rows.replace(_last_full_block(_request(rows, earlier)), number, request)
                break
        open_rows.add(number, request)
    return next_row, is_first


class _OpenRows:
    """Rows that can be continued, by their last full block."""

    _UNSEEN, _CLOSED = -1, -2

    def __init__(self, last_full_blocks: Iterator[Key | None]) -> None:
        self._rows = {block: self._UNSEEN for block in last_full_blocks if block is not None}

    def candidates(self, request: TracedRequest) -> Iterator[int]:
        """Yield the rows whose last full block the request has, that of its later blocks first."""
        for block in reversed(request.keys):
            if (row := self._rows.get(block, self._UNSEEN)) >= 0:
                yield row

    def add(self, number: int, request: TracedRequest) -> None:
        """Take a row in: its last full block is its own if no row before had it."""
        own = _last_full_block(request)
        for block in request.keys:
            if self._rows.get(block) == self._UNSEEN:
                self._rows[block] = number if block == own else self._CLOSED

    def replace(self, block: Key | None, number: int, request: TracedRequest) -> None:
        """Take out the row that `request` continues; it may have gone on within the block."""
        if block is not None:
            self._rows[block] = number if block == _last_full_block(request) else self._CLOSED


def _last_full_block(request: TracedRequest) -> Key | None:
    full = request.input_tokens // BLOCK_TOKENS
    return request.keys[full - 1] if full else None


def _continues(request: TracedRequest, earlier: TracedRequest) -> bool:
    full = earlier.input_tokens // BLOCK_TOKENS
    return (
        request.input_tokens > earlier.input_tokens + earlier.output_tokens
        and request.keys[:full] == earlier.keys[:full]
    )
