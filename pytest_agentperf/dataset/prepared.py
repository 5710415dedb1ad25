"""A dataset as a model under test gets it: fitted to its context, with the reasoning its API wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.reasoning import HistoryReasoning, trim_reasoning
from pytest_agentperf.dataset.truncate import FitReport, FittedSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory


class PreparedSource:
    """A `TrajectorySource` of what will really be sent; name and digest are the dataset's own."""

    def __init__(
        self, source: TrajectorySource, *, max_prompt_tokens: int, history_reasoning: HistoryReasoning
    ) -> None:
        self._fitted = FittedSource(source, max_prompt_tokens=max_prompt_tokens)
        self._history_reasoning = history_reasoning

    @property
    def name(self) -> str:
        """Return the dataset's name."""
        return self._fitted.name

    @property
    def digest(self) -> str:
        """Return the digest of the whole dataset, before anything was cut."""
        return self._fitted.digest

    def ids(self) -> Sequence[str]:
        """Return the ids of the trajectories of which at least one turn fits."""
        return self._fitted.ids()

    def load(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory, cut and trimmed."""
        return trim_reasoning(self._fitted.load(trajectory_id), self._history_reasoning)

    def report(self) -> FitReport:
        """Return what was cut."""
        return self._fitted.report()
