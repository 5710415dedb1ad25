"""Rows set aside on disk, for traces whose conversations interleave over the whole file."""

from __future__ import annotations

import json
import tempfile
from array import array
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from types import TracebackType

_IN_MEMORY_BYTES = 2**24


class RowStore:
    """JSON values by number, in a temporary file: eight bytes of memory each. A context manager."""

    def __init__(self) -> None:
        # Closed by __exit__.
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        self._starts = array("q", (0,))

    def __enter__(self) -> RowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def append(self, value: Any) -> None:
        """Add a value."""
        data = json.dumps(value, separators=(",", ":")).encode()
        try:
            self._file.seek(self._starts[-1])
            self._file.write(data)
        except OSError as error:
            raise DatasetError(
                f"no room to set rows aside: {error}",
                where=tempfile.gettempdir(),
                remedy="make room there, or point TMPDIR elsewhere: as much as the unpacked recording is needed",
            ) from error
        self._starts.append(self._starts[-1] + len(data))

    def __getitem__(self, number: int) -> Any:
        start = self._starts[number]
        self._file.seek(start)
        return json.loads(self._file.read(self._starts[number + 1] - start))
