"""A dataset as a model under test gets it: fitted to its context, with the reasoning its API wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import dataset_digest, trajectory_digest
from pytest_agentperf.dataset.reasoning import HistoryReasoning, trim_reasoning
from pytest_agentperf.dataset.store import DatasetStore
from pytest_agentperf.dataset.truncate import FitReport, Fitting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory


class PreparedDataset(NamedTuple):
    """What was prepared: the dataset's own name and digest, before anything was cut; the ids that remain."""

    name: str
    digest: str
    ids: tuple[str, ...]
    report: FitReport
    longest_prompt_tokens: int = 0
    """As recorded, or estimated where nothing was; of the turns that remain."""
    tool_delays_ns: Mapping[str, tuple[int, ...]] = {}
    """Per trajectory that remains: the recorded delay after each turn."""


def prepare_dataset(
    source: TrajectorySource,
    take: Callable[[Trajectory], None],
    *,
    max_prompt_tokens: int,
    history_reasoning: HistoryReasoning,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedDataset:
    """Read a dataset once, one trajectory at a time; `take` gets each that has a turn left, cut and trimmed.

    Raises DatasetError if nothing fits, or if the content has not the declared digest: results compare only at equal
    digests, so a declared one must be true. `take` has had everything by then.
    """
    fitting = Fitting(max_prompt_tokens)
    digests: list[tuple[str, str]] = []
    delays_ns: dict[str, tuple[int, ...]] = {}
    names = source.ids()
    for done, name in enumerate(names, 1):
        whole = source.load(name)
        digests.append((name, trajectory_digest(whole)))
        fitted = fitting.fit(whole)
        if fitted.turns:
            take(trim_reasoning(fitted, history_reasoning))
            delays_ns[name] = tuple(turn.tool_delay_ns for turn in fitted.turns)
        on_progress(done, len(names))
    digest = dataset_digest(digests)
    if isinstance(source, DatasetStore):
        source.check_digest(digest)
    if not delays_ns:
        raise DatasetError(
            f"no trajectory has a turn within {max_prompt_tokens} prompt tokens",
            where=f"dataset {source.name}",
            remedy="use a longer context, a smaller max_tokens, or a dataset with shorter prompts",
        )
    return PreparedDataset(
        source.name, digest, tuple(delays_ns), fitting.report(), fitting.longest_prompt_tokens, delays_ns
    )
