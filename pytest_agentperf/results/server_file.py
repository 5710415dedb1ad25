"""The server's own metrics of a phase as a Parquet file: a row per reading, a column per metric, nulls where absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.results.files import new_file

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.server_metrics import ServerSeries


def write_server(path: Path, series: ServerSeries) -> None:
    """Write all readings, in the time of the records: a complete new file, or none."""
    columns = {name: pa.array(values, mask=np.isnan(values)) for name, values in series.values.items()}
    table = pa.table({"t_ns": pa.array(series.t_ns), **columns})
    with new_file(path) as file:
        pq.write_table(table, file, compression="zstd")
