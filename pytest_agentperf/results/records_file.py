"""The per-request records of a phase as a Parquet file: raw integers, real nulls, one row per request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.core.records import INT_COLUMNS, NULL, TEXT_COLUMNS, RequestColumns
from pytest_agentperf.results.files import new_file

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import PhaseResult


def write_records(path: Path, result: PhaseResult | None, columns: RequestColumns) -> None:
    """Write a phase's records: a complete new file, or none; without a result no request is in a window."""
    window = (0, 0) if result is None else (result.window_open_ns, result.window_close_ns)
    inside = columns.sent_within(*window)
    arrays = [pa.array(columns[name], mask=columns[name] == NULL) for name in INT_COLUMNS]
    arrays += [pa.array(columns.texts[name], type=pa.string()).dictionary_encode() for name in TEXT_COLUMNS]
    arrays.append(pa.array(inside))
    table = pa.Table.from_arrays(arrays, names=[*INT_COLUMNS, *TEXT_COLUMNS, "in_window"])
    with new_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_records(path: Path, *, texts: Container[str] = TEXT_COLUMNS) -> RequestColumns:
    """Read a phase's records; what is not asked for, or was not kept by an older version, is without values.

    Raises OSError or pyarrow's errors.
    """
    there = set(pq.read_schema(path).names)
    ints = [name for name in INT_COLUMNS if name in there]
    wanted = [name for name in TEXT_COLUMNS if name in there and name in texts]
    table = pq.read_table(path, columns=[*ints, *wanted])
    found = {name: table[name].fill_null(NULL).to_numpy().astype(np.int64, copy=False) for name in ints}
    missing = np.full(table.num_rows, NULL, dtype=np.int64)
    nothing: list[str | None] = [None] * table.num_rows
    return RequestColumns(
        {name: found.get(name, missing) for name in INT_COLUMNS},
        {name: table[name].to_pylist() if name in wanted else nothing for name in TEXT_COLUMNS},
    )
