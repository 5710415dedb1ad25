"""Prepares a dataset for a model and encodes it, once, into the files that all load workers map."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Self

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.dataset import open_dataset, prepare_dataset
from pytest_agentperf.dataset.default import make_available
from pytest_agentperf.dataset.estimate import turn_loads
from pytest_agentperf.load.private_folder import PrivateFolder
from pytest_agentperf.load.segment_writer import SegmentWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from pytest_agentperf.config.suite import HistoryReasoning
    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.steady_start import TurnLoad
    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset import PreparedDataset

# Nobody needs to be told of what takes less.
_PROGRESS_EVERY_NS = 2 * NS_PER_S
_REMEDY = "make room there, or set TMPDIR to a folder that has it"


class EncodedDataset:
    """A dataset as load workers map it, in a private folder that is gone with `close`."""

    def __init__(
        self,
        path: Path,
        *,
        max_prompt_tokens: int,
        history_reasoning: HistoryReasoning,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Read and encode everything, one trajectory at a time; `on_progress(done, total)` hears of it every 2 s.

        A default dataset that is not there yet is made first, which takes minutes, once. Raises DatasetError, and
        LoadError where there is no room.
        """
        paced = _Paced(on_progress)
        source = open_dataset(make_available(path, progress=paced.tell))
        try:
            self._private = PrivateFolder()
        except OSError as error:
            raise LoadError(
                f"the dataset cannot be encoded into a temporary folder: {error.strerror or error}",
                where=tempfile.gettempdir(),
                remedy=_REMEDY,
            ) from None
        self.closed = False
        self.folder = self._private.path
        try:
            with SegmentWriter(self.folder) as writer:
                encoding = _Encoding(writer, source, paced)
                self.prepared: PreparedDataset = prepare_dataset(
                    source,
                    encoding.take,
                    max_prompt_tokens=max_prompt_tokens,
                    history_reasoning=history_reasoning,
                    on_progress=encoding.progress,
                )
                encoding.finish()
            self.turn_loads: Mapping[str, Sequence[TurnLoad]] = encoding.turn_loads
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files; workers that have mapped them keep what they have."""
        self.closed = True
        self._private.close()


class _Paced:
    """Passes progress on, every two seconds."""

    def __init__(self, on_progress: Callable[[int, int], None]) -> None:
        self._on_progress = on_progress
        self._told_ns = monotonic_ns()

    def tell(self, done: int, total: int) -> None:
        if monotonic_ns() - self._told_ns >= _PROGRESS_EVERY_NS:
            self._told_ns = monotonic_ns()
            self._on_progress(done, total)


class _Encoding:
    """How far it is, for those who wait and for those who run out of room."""

    def __init__(self, writer: SegmentWriter, source: TrajectorySource, paced: _Paced) -> None:
        self._writer = writer
        self._paced = paced
        self._done, self._total = 0, len(source.ids())
        self.turn_loads: dict[str, Sequence[TurnLoad]] = {}

    def take(self, trajectory: Trajectory) -> None:
        self.turn_loads[trajectory.id] = turn_loads(trajectory)
        try:
            self._writer.add(trajectory)
        except OSError as error:
            raise self._no_room(error) from None

    def finish(self) -> None:
        try:
            self._writer.finish()
        except OSError as error:
            raise self._no_room(error) from None

    def progress(self, done: int, total: int) -> None:
        self._done = done
        self._paced.tell(done, total)

    def _no_room(self, error: OSError) -> LoadError:
        written_mb = self._writer.size_bytes / 1e6
        # The trajectory at hand is in the file, at least in part.
        needed_mb = written_mb * self._total / min(self._done + 1, self._total)
        return LoadError(
            f"the encoded dataset cannot be written: {error.strerror or error}; it needs about {needed_mb:,.0f} MB, "
            f"{written_mb:,.0f} MB were reached",
            where=str(self._writer.folder),
            remedy=_REMEDY,
        )
