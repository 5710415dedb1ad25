"""What every reader of recordings starts from: a look at the file, and one way from requests to a trajectory.

A reader is a module of this package with

    NAME = "claude-code"                               what `--format` takes
    TITLE = "Claude Code session (JSONL)"
    def recognises(peek: Peek) -> bool                 cheap, never raises for strange content
    def read(path: Path, context: ImportContext) -> Iterator[Trajectory]

`read` streams: at most one trajectory is held at a time. It raises DatasetError (file, line, remedy) for what is
broken, and notes what the recording holds but a dataset cannot carry.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentperf.dataset.counting import fill_counts
from pytest_agentperf.dataset.delays import DelayRules
from pytest_agentperf.dataset.histories import RecordedRequest, TrajectoryBuilder
from pytest_agentperf.dataset.language import guess_language
from pytest_agentperf.dataset.reading import MAX_DURATION_NS, MAX_JSON_BYTES, is_gzip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.core.trajectory import Message, Trajectory

_HEAD_BYTES = 1 << 16
_NAMES_MAX = 10_000
_ROWS_MAX = 20


class Reader(Protocol):
    """A module that reads one recording format."""

    NAME: str
    TITLE: str

    def recognises(self, peek: Peek) -> bool:
        """Say whether the path holds this format."""

    def read(self, path: Path, context: ImportContext) -> Iterator[Trajectory]:
        """Yield its trajectories."""


class Peek:
    """A look at a path, taken once for all readers; broken content looks empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_dir = path.is_dir()

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the entries of a directory."""
        if not self.is_dir:
            return frozenset()
        names = []
        for entry in self.path.iterdir():
            names.append(entry.name)
            if len(names) == _NAMES_MAX:
                break
        return frozenset(names)

    @cached_property
    def head(self) -> str:
        """Return the beginning of a file's text."""
        return self._head_bytes.decode("utf-8", "replace")

    @cached_property
    def _head_bytes(self) -> bytes:
        if self.is_dir:
            return b""
        try:
            with self.path.open("rb") as file:
                if is_gzip(file):
                    return gzip.GzipFile(fileobj=file).read(_HEAD_BYTES)
                return file.read(_HEAD_BYTES)
        except (OSError, EOFError):
            return b""

    @cached_property
    def document(self) -> Any:
        """Return a file's content as one JSON value, None if it is none, or too large for one."""
        try:
            if (
                self.is_dir
                or self.path.stat().st_size > MAX_JSON_BYTES
                or self.head.lstrip()[:1] not in ("{", "[")
            ):
                return None
            return json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    @cached_property
    def rows(self) -> list[Any]:
        """Return the values of the first lines of a JSONL file; lines that are no JSON are left out."""
        rows = []
        for line in self._lines():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
            if len(rows) == _ROWS_MAX:
                break
        return rows

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """Return those rows that are objects."""
        return [row for row in self.rows if isinstance(row, dict)]

    def _lines(self) -> Iterator[bytes]:
        if self.is_dir:
            return
        try:
            with self.path.open("rb") as file:
                source: Any = gzip.GzipFile(fileobj=file) if is_gzip(file) else file
                for _ in range(4 * _ROWS_MAX):
                    # A first line may hold a whole prompt.
                    if not (line := source.readline(MAX_JSON_BYTES)):
                        return
                    yield line
        except (OSError, EOFError):
            return


Note = Callable[[str], None]
"""Notes what is not carried, at a place that its giver knows."""


class Notes:
    """What recordings hold and a dataset does not carry, counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, what: str, where: str) -> None:
        """Note one occurrence of `what`; `where` is kept of the first."""
        self.counts[what] += 1
        self.first.setdefault(what, where)

    def lines(self) -> list[str]:
        """Return the notes, a line each."""
        return [f"{what}: {count:,} (first: {self.first[what]})" for what, count in self.counts.most_common()]


class ImportContext:
    """What readers share: delays, token counts for what was not counted, and notes."""

    def __init__(self, *, delays: DelayRules | None = None, counter: TokenCounter | None = None) -> None:
        self.delays = delays or DelayRules()
        self.counter = counter
        self.notes = Notes()
        self.counted = 0
        """Turns whose counts `counter` made."""

    def trajectory(
        self,
        trajectory_id: str,
        requests: Iterable[RecordedRequest],
        *,
        language: str | None = None,
        model: str | None = None,
    ) -> Trajectory:
        """Return the trajectory of these requests, with delays and counts filled in; raises DatasetError."""
        trajectory_id = safe_id(trajectory_id)
        builder = TrajectoryBuilder(trajectory_id, language=language, model=model)
        answers: list[Message | None] = []
        for number, request in enumerate(requests):
            delay_ns = request.tool_delay_ns
            if delay_ns is None:
                delay_ns = self.delays.turn_delay_ns(
                    request.tool_calls, trajectory=trajectory_id, turn=number
                )
            # Several calls may each have taken nearly a day; no dataset holds a longer delay.
            delay_ns = min(delay_ns, MAX_DURATION_NS)
            builder.add(request._replace(tool_delay_ns=delay_ns, answer=None))
            answers.append(request.answer)
        found = builder.build()
        if self.counter is not None:
            self.counted += sum(None in (turn.prompt_tokens, turn.output_tokens) for turn in found.turns)
            found = fill_counts(found, answers, self.counter)
        return found if language is not None else replace(found, language=guess_language(found))


_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@-]+")


def safe_id(text: str) -> str:
    """Return a trajectory id made from `text`: what can be a file name stays."""
    return _UNSAFE.sub("-", text).lstrip(".-+=@")[:150].rstrip("-") or "trajectory"
