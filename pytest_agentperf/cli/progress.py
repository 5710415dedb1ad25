"""How far long work is: a bar on a terminal, a line now and then elsewhere; always on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from pytest_agentperf.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self, TextIO

Item = TypeVar("Item")

_DRAW_NS = 100_000_000
_LOG_NS = 10_000_000_000
_BAR_CELLS = 24


class Progress:
    """Counts finished items of `total`; a context, so that the bar is gone before anything else is printed."""

    def __init__(self, what: str, total: int, *, stream: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._done = 0
        # The first line of a log comes only when the work turns out to be long.
        self._next_ns = monotonic_ns() + (0 if self._live else _LOG_NS)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar."""
        if self._live:
            self._write("\r\033[K")

    def advance(self, items: int = 1) -> None:
        """Say that more items are finished."""
        self._done += items
        now_ns = monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + (_DRAW_NS if self._live else _LOG_NS)
        if self._live:
            filled = _BAR_CELLS * min(self._done, self._total) // max(self._total, 1)
            bar = "█" * filled + "░" * (_BAR_CELLS - filled)
            self._write(f"\r\033[K{self._what} {bar} {self._done:,}/{self._total:,}")
        else:
            self._write(f"{self._what}: {self._done:,} of {self._total:,}\n")

    def track(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; each counts once the next is asked for."""
        for item in items:
            yield item
            self.advance()

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
