"""The turns of the replayed trajectories as a Parquet file: without them nobody could tell what a run left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.results.artifact import REHEARSAL
from pytest_agentperf.results.files import make_private, new_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def turns_name(*, rehearsal: bool) -> str:
    """Return the file's name in a run directory."""
    return f"turns{REHEARSAL if rehearsal else ''}.parquet"


def keep_turns(folder: Path, tool_delays_ns: Mapping[str, Sequence[int]], *, rehearsal: bool) -> None:
    """Write each trajectory's turns with the recorded delay after each, unless the run has that file."""
    path = folder / turns_name(rehearsal=rehearsal)
    if path.exists():
        return
    rows = [
        (name, turn, delay) for name, delays in tool_delays_ns.items() for turn, delay in enumerate(delays)
    ]
    names, turns, delays_ns = zip(*rows, strict=True)
    table = pa.table(
        {
            "trajectory": pa.array(names, pa.string()).dictionary_encode(),
            "turn": pa.array(turns, pa.int64()),
            "tool_delay_ns": pa.array(delays_ns, pa.int64()),
        }
    )
    make_private(folder)
    with new_file(path) as file:
        pq.write_table(table, file, compression="zstd")
