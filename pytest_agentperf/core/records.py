"""What is kept of every request: integer nanoseconds and the server's counts, as columns."""

from __future__ import annotations

import json
from functools import cached_property
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NULL = -1
"""Stands for "no value" in integer columns in memory; the records file has real nulls."""

INT_COLUMNS = (
    "phase",
    "attempt",
    "agent",
    "ordinal",
    "turn",
    "t_sent_ns",
    "connect_ns",
    "reconnects",
    "t_first_ns",
    "t_last_ns",
    "t_end_ns",
    "status",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "first_chunk_tokens",
    "content_chunks",
    "body_bytes",
    "prefix_head",
)
TIME_COLUMNS = ("t_sent_ns", "t_first_ns", "t_last_ns", "t_end_ns")
"""Moments; `connect_ns` is a duration."""
TEXT_COLUMNS = (
    "trajectory",
    "failure",
    "failure_detail",
    "finish_reason",
    "first_chunk_source",
    "response_id",
)


class RequestKey(NamedTuple):
    """Which request of which run this is: all that its body depends on."""

    phase: int
    attempt: int
    agent: int
    ordinal: int
    """How many trajectories this agent began before in this phase."""
    trajectory: str
    turn: int


class Answer(NamedTuple):
    """What one request got back. `failure` is None for a complete answer; times are monotonic ns.

    `connect_ns` is the set-up time of a new connection (a part of TTFT), None where one was reused; `reconnects`
    counts kept connections that the server had closed before a byte of the request was taken.
    """

    t_sent_ns: int
    t_end_ns: int
    failure: str | None = None
    failure_detail: str | None = None
    status: int | None = None
    connect_ns: int | None = None
    reconnects: int = 0
    t_first_ns: int | None = None
    t_last_ns: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    first_chunk_tokens: int | None = None
    first_chunk_source: str | None = None
    content_chunks: int = 0
    finish_reason: str | None = None
    response_id: str | None = None
    body_bytes: int | None = None
    prefix_head: int | None = None
    """The first 60 bits of the isolation prefix that was sent; None where no body was."""


class RequestColumns:
    """The records of many requests: one numpy int64 array per number, one list of texts per text column."""

    def __init__(
        self, ints: Mapping[str, npt.NDArray[np.int64]], texts: Mapping[str, Sequence[str | None]]
    ) -> None:
        self.ints = {name: ints[name] for name in INT_COLUMNS}
        self.texts = {name: list(texts[name]) for name in TEXT_COLUMNS}
        sizes = {len(column) for column in self.ints.values()} | {
            len(texts_) for texts_ in self.texts.values()
        }
        if len(sizes) > 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.ints["phase"])

    def __getitem__(self, name: str) -> npt.NDArray[np.int64]:
        return self.ints[name]

    @cached_property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Return which requests failed."""
        failures = self.texts["failure"]
        if failures.count(None) == len(failures):
            return np.zeros(len(failures), dtype=bool)
        return np.array([reason is not None for reason in failures], dtype=bool)

    def sent_within(self, open_ns: int, close_ns: int) -> npt.NDArray[np.bool_]:
        """Return which requests were sent inside [open, close)."""
        sent = self.ints["t_sent_ns"]
        return (sent >= open_ns) & (sent < close_ns)

    def earlier(self, offset_ns: int) -> RequestColumns:
        """Return them with all times so much earlier: by the clock that the other one is ahead of."""
        if not offset_ns:
            return self
        shifted = {
            name: np.where(self.ints[name] == NULL, NULL, self.ints[name] - offset_ns)
            for name in TIME_COLUMNS
        }
        return RequestColumns({**self.ints, **shifted}, self.texts)

    def only(self, rows: npt.NDArray[np.bool_]) -> RequestColumns:
        """Return some of them."""
        wanted = np.flatnonzero(rows).tolist()
        return RequestColumns(
            {name: column[rows] for name, column in self.ints.items()},
            {name: [column[i] for i in wanted] for name, column in self.texts.items()},
        )

    @classmethod
    def concatenate(cls, parts: Iterable[RequestColumns]) -> RequestColumns:
        """Join the columns of several workers, ordered by agent, then by time of sending."""
        parts = list(parts) or [ColumnsBuilder().finish()]

        def joined(name: str) -> npt.NDArray[np.int64]:
            return np.concatenate([part.ints[name] for part in parts])

        def joined_texts(name: str) -> npt.NDArray[np.object_]:
            return np.array([text for part in parts for text in part.texts[name]], dtype=np.object_)

        order = np.lexsort((joined("t_sent_ns"), joined("agent")))
        # One column after the other: of millions of requests all of them at once would take as much memory again.
        return cls(
            {name: joined(name)[order] for name in INT_COLUMNS},
            {name: joined_texts(name)[order].tolist() for name in TEXT_COLUMNS},
        )

    def to_wire(self) -> dict[str, Any]:
        """Return plain bytes, for a frame between processes or hosts; numbers little-endian."""
        return {
            "ints": {name: column.astype("<i8").tobytes() for name, column in self.ints.items()},
            "texts": {name: _texts_to_wire(column) for name, column in self.texts.items()},
        }

    @classmethod
    def from_wire(cls, frame: Mapping[str, Any]) -> RequestColumns:
        """Rebuild the columns from `to_wire`."""
        ints = {name: np.frombuffer(data, dtype="<i8") for name, data in frame["ints"].items()}
        return cls(ints, {name: _texts_from_wire(*data) for name, data in frame["texts"].items()})


def _texts_to_wire(texts: Sequence[str | None]) -> tuple[bytes, bytes]:
    """Return each text once, and which of them every request has: most columns hold a few again and again."""
    numbers: dict[str | None, int] = {}
    which = [numbers.setdefault(text, len(numbers)) for text in texts]
    return json.dumps(list(numbers)).encode(), np.array(which, dtype="<i4").tobytes()


def _texts_from_wire(texts: bytes, which: bytes) -> list[str | None]:
    known: list[str | None] = json.loads(texts)
    return [known[number] for number in np.frombuffer(which, dtype="<i4").tolist()]


_pack_row = Struct(f"<{len(INT_COLUMNS)}q").pack
_ROW_BYTES = 8 * len(INT_COLUMNS)
# Rows become columns so many at a time: each column in one go would fetch all rows anew.
_ROWS_IN_CACHE = 2048


class ColumnsBuilder:
    """Collects records one by one, 8 bytes a number.

    Row after row: the ends of so many columns would be fetched anew for every request.
    """

    def __init__(self) -> None:
        self._rows = bytearray()
        self._texts: dict[str, list[str | None]] = {name: [] for name in TEXT_COLUMNS}
        self._add_text = tuple(column.append for column in self._texts.values())

    def add(self, key: RequestKey, answer: Answer) -> None:
        """Append one request."""
        phase, attempt, agent, ordinal, trajectory, turn = key
        (
            t_sent_ns,
            t_end_ns,
            failure,
            failure_detail,
            status,
            connect_ns,
            reconnects,
            t_first_ns,
            t_last_ns,
            prompt_tokens,
            cached_tokens,
            output_tokens,
            reasoning_tokens,
            first_chunk_tokens,
            first_chunk_source,
            content_chunks,
            finish_reason,
            response_id,
            body_bytes,
            prefix_head,
        ) = answer
        # In the order of INT_COLUMNS.
        self._rows += _pack_row(
            phase,
            attempt,
            agent,
            ordinal,
            turn,
            t_sent_ns,
            NULL if connect_ns is None else connect_ns,
            reconnects,
            NULL if t_first_ns is None else t_first_ns,
            NULL if t_last_ns is None else t_last_ns,
            t_end_ns,
            NULL if status is None else status,
            NULL if prompt_tokens is None else prompt_tokens,
            NULL if cached_tokens is None else cached_tokens,
            NULL if output_tokens is None else output_tokens,
            NULL if reasoning_tokens is None else reasoning_tokens,
            NULL if first_chunk_tokens is None else first_chunk_tokens,
            content_chunks,
            NULL if body_bytes is None else body_bytes,
            NULL if prefix_head is None else prefix_head,
        )
        # In the order of TEXT_COLUMNS.
        add_trajectory, add_failure, add_detail, add_finish, add_source, add_response_id = self._add_text
        add_trajectory(trajectory)
        add_failure(failure)
        add_detail(failure_detail)
        add_finish(finish_reason)
        add_source(first_chunk_source)
        add_response_id(response_id)

    def __len__(self) -> int:
        return len(self._texts["failure"])

    def finish(self, first: int = 0) -> RequestColumns:
        """Return the columns collected so far, those of the requests from `first` on."""
        new = memoryview(self._rows)[first * _ROW_BYTES :]
        rows = np.frombuffer(new, dtype="<i8").reshape(-1, len(INT_COLUMNS))
        columns = np.empty((len(INT_COLUMNS), len(rows)), dtype=np.int64)
        for begin in range(0, len(rows), _ROWS_IN_CACHE):
            end = begin + _ROWS_IN_CACHE
            columns[:, begin:end] = rows[begin:end].T
        texts = {name: column[first:] for name, column in self._texts.items()}
        return RequestColumns(dict(zip(INT_COLUMNS, columns, strict=True)), texts)
