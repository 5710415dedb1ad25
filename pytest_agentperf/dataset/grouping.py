"""Groups of trajectories that share a repository or a task, as far as the recordings show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.evidence import Evidence, evidence_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_agentperf.core.ports import TrajectorySource

_COMMON_SHARE = 0.1
_COMMON_MIN = 3
"""A line in more trajectories than this, and than that share of them, is a harness's and not a task's."""


class Group(NamedTuple):
    """Trajectories that belong together; `joined_by` says why, in words. `known`: something names its project."""

    ids: tuple[str, ...]
    joined_by: tuple[str, ...]
    known: bool
    language: str | None


def group_trajectories(source: TrajectorySource) -> list[Group]:
    """Return the connected components over shared evidence, by their first id; reads every trajectory once."""
    evidence: dict[str, Evidence] = {}
    languages: dict[str, str | None] = {}
    for trajectory_id in source.ids():
        trajectory = source.load(trajectory_id)
        evidence[trajectory_id] = evidence_of(trajectory)
        languages[trajectory_id] = trajectory.language
    return _components(evidence, languages)


def _components(evidence: Mapping[str, Evidence], languages: Mapping[str, str | None]) -> list[Group]:
    leader = {one: one for one in evidence}
    reasons: list[tuple[str, str]] = []
    for reason, ids in _shared(evidence):
        reasons.append((ids[0], reason))
        for other in ids[1:]:
            one, two = sorted((_find(leader, ids[0]), _find(leader, other)))
            leader[two] = one
    members: dict[str, list[str]] = defaultdict(list)
    for one in sorted(leader):
        members[_find(leader, one)].append(one)
    joined: dict[str, list[str]] = defaultdict(list)
    for one, reason in reasons:
        joined[_find(leader, one)].append(reason)
    return [
        Group(
            tuple(ids),
            tuple(sorted(joined[first])),
            any(evidence[one].repositories or evidence[one].directories for one in ids),
            _most(languages[one] for one in ids),
        )
        for first, ids in sorted(members.items())
    ]


def _find(leader: dict[str, str], one: str) -> str:
    while leader[one] != one:
        leader[one] = leader[leader[one]]
        one = leader[one]
    return one


def _most(languages: Iterable[str | None]) -> str | None:
    counts = Counter(languages)
    return min(counts, key=lambda name: (-counts[name], name or ""))


def _shared(evidence: Mapping[str, Evidence]) -> list[tuple[str, list[str]]]:
    """Return every reason to join and the ids it joins, at least two."""
    holders: dict[str, list[str]] = defaultdict(list)
    of_text: dict[str, list[str]] = defaultdict(list)
    of_line: dict[bytes, list[str]] = defaultdict(list)
    for one, found in sorted(evidence.items()):
        for repository in found.repositories:
            holders[f"repository {repository}"].append(one)
        for directory in found.directories:
            holders[f"directory {directory}"].append(one)
        for text in found.texts:
            of_text[text].append(one)
        for line in found.lines:
            of_line[line].append(one)
    for text, ids in of_text.items():
        if not _is_boilerplate(ids, evidence):
            holders[f"equal first message {text}"] = ids
    common = max(_COMMON_MIN, int(len(evidence) * _COMMON_SHARE))
    lines: Counter[tuple[str, ...]] = Counter()
    for ids in of_line.values():
        if 1 < len(ids) <= common and not _is_boilerplate(ids, evidence):
            lines[tuple(ids)] += 1
    # Named by their number: the texts themselves are not for reports.
    for number, (same, count) in enumerate(sorted(lines.items()), 1):
        holders[f"shared task text {number} ({count} lines)"] = list(same)
    return [(reason, ids) for reason, ids in sorted(holders.items()) if len(ids) > 1]


def _is_boilerplate(ids: list[str], evidence: Mapping[str, Evidence]) -> bool:
    # A task belongs to one repository: what trajectories of several begin with is their harness's text.
    known = [evidence[one].repositories for one in ids if evidence[one].repositories]
    return len(known) > 1 and not frozenset.intersection(*known)
