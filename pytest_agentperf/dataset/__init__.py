"""Recorded agent runs: opening them, checking them, cutting them to a model's context.

Everything here turns files into `core.trajectory.Trajectory`; nothing here sends a request. `open_dataset`
picks the reader by content, `DatasetStore` and `write_dataset` are the package's own format,
`ReplayDataset` reads agentperf-local replays, `prepare_dataset` adapts trajectories to the model under test.
"""

from pytest_agentperf.dataset.digest import dataset_digest, trajectory_digest
from pytest_agentperf.dataset.documents import DatasetMetadata
from pytest_agentperf.dataset.formats.agentperf_replay import ReplayDataset
from pytest_agentperf.dataset.open import open_dataset
from pytest_agentperf.dataset.prepared import PreparedDataset, prepare_dataset
from pytest_agentperf.dataset.reasoning import HistoryReasoning, trim_reasoning
from pytest_agentperf.dataset.store import DatasetStore, write_dataset
from pytest_agentperf.dataset.truncate import FitReport, fit_trajectory

__all__ = [
    "DatasetMetadata",
    "DatasetStore",
    "FitReport",
    "HistoryReasoning",
    "PreparedDataset",
    "ReplayDataset",
    "dataset_digest",
    "fit_trajectory",
    "open_dataset",
    "prepare_dataset",
    "trajectory_digest",
    "trim_reasoning",
    "write_dataset",
]
