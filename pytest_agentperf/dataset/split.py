"""A tuning and a held-out part of a dataset that share no repository and no task, as far as recordings show it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.ports import RecordedSource
from pytest_agentperf.dataset.digest import source_digest
from pytest_agentperf.dataset.grouping import Group, group_trajectories

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory


class Split(NamedTuple):
    """Two parts of a dataset, and the groups of each, none of which was divided."""

    tuning: tuple[Group, ...]
    held_out: tuple[Group, ...]

    def tuning_ids(self) -> tuple[str, ...]:
        """Return the ids of the part to tune on, sorted."""
        return _ids(self.tuning)

    def held_out_ids(self) -> tuple[str, ...]:
        """Return the ids of the part to score on, sorted."""
        return _ids(self.held_out)

    def lines(self) -> list[str]:
        """Return the report: sizes, and for every group what joined it."""
        found = []
        for name, groups in (("tuning", self.tuning), ("held-out", self.held_out)):
            found.append(f"{name}: {len(_ids(groups))} trajectories in {len(groups)} groups")
            for group in groups:
                because = ", ".join(group.joined_by) or "alone"
                unknown = "" if group.known else "; nothing names its repository"
                found.append(
                    f"  {group.ids[0]} (+{len(group.ids) - 1}, {group.language or 'unknown'}): {because}{unknown}"
                )
        return found


def split_dataset(source: TrajectorySource, *, held_out_share: float, seed: int) -> Split:
    """Split by groups, each language alike where its groups allow it; the same seed gives the same parts.

    Raises DatasetError where there is only one group.
    """
    return split_groups(group_trajectories(source), held_out_share=held_out_share, seed=seed)


def split_groups(groups: Sequence[Group], *, held_out_share: float, seed: int) -> Split:
    """Split groups, whole ones only, so that the held-out part has about its share of the trajectories."""
    if not 0 < held_out_share < 1:
        raise DatasetError(
            f"a held-out share of {held_out_share}", remedy="choose a share between 0 and 1, such as 0.3"
        )
    if len(groups) < 2:
        why = ", ".join(groups[0].joined_by[:3]) if groups else "it is empty"
        raise DatasetError(
            f"the dataset cannot be split: all trajectories belong together ({why})",
            remedy="add trajectories of other repositories",
        )
    strata: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        strata[group.language or ""].append(group)
    taken: list[Group] = []
    missing = 0.0
    for language in sorted(strata):
        # What one language could not give or gave too much, the next makes good.
        wanted = missing + held_out_share * sum(len(group.ids) for group in strata[language])
        for group in sorted(strata[language], key=lambda group: _draw(seed, group)):
            size = len(group.ids)
            if abs(wanted - size) < abs(wanted):
                taken.append(group)
                wanted -= size
        missing = wanted
    return _filled(groups, taken, seed)


def _filled(groups: Sequence[Group], taken: Sequence[Group], seed: int) -> Split:
    held_out = set(taken)
    if len(held_out) in (0, len(groups)):
        smallest = min(groups, key=lambda group: (len(group.ids), _draw(seed, group)))
        held_out ^= {smallest}
    return Split(
        tuple(group for group in groups if group not in held_out),
        tuple(group for group in groups if group in held_out),
    )


def _draw(seed: int, group: Group) -> bytes:
    return hashlib.sha256(f"split\0{seed}\0{group.ids[0]}".encode("utf-8", "surrogatepass")).digest()


def _ids(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(sorted(one for group in groups for one in group.ids))


class PartSource:
    """A `TrajectorySource` of some of a dataset's trajectories, with a name and a digest of its own."""

    def __init__(self, source: TrajectorySource, ids: Iterable[str], *, name: str) -> None:
        self._source = source
        self._ids = tuple(sorted(ids))
        self._known = frozenset(self._ids)
        self.name = name
        if unknown := self._known - frozenset(source.ids()):
            raise DatasetError(f"no trajectory {min(unknown)!r}", where=f"dataset {source.name}")

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of the part's content, computed by reading it once."""
        return source_digest(self)

    def ids(self) -> Sequence[str]:
        """Return the ids of the part, sorted."""
        return self._ids

    def load(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory of the part."""
        self._check(trajectory_id)
        return self._source.load(trajectory_id)

    def load_recorded(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory with what its recording said besides, where the dataset kept it."""
        self._check(trajectory_id)
        source = self._source
        load = source.load_recorded if isinstance(source, RecordedSource) else source.load
        return load(trajectory_id)

    def _check(self, trajectory_id: str) -> None:
        if trajectory_id not in self._known:
            raise DatasetError(
                f"no trajectory {trajectory_id!r}", where=self.name, remedy="use an id that ids() lists"
            )
