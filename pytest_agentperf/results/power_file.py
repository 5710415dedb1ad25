"""The power readings of a phase as a Parquet file: one row per device and reading, nulls where not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.results.files import new_file

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.power_series import PowerSeries


def write_power(path: Path, series: PowerSeries) -> None:
    """Write all readings, in the time of the records: a complete new file, or none."""
    device = pa.DictionaryArray.from_arrays(pa.array(series.device), pa.array(series.devices, pa.string()))
    values = [pa.array(v, mask=np.isnan(v)) for v in (series.power_w, series.energy_j)]
    table = pa.Table.from_arrays(
        [pa.array(series.t_ns), device, *values], names=["t_ns", "device", "power_w", "energy_j"]
    )
    with new_file(path) as file:
        pq.write_table(table, file, compression="zstd")
