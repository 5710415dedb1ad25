"""Trajectories without what identifies people and machines or opens doors: a lazy `TrajectorySource`."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.ports import RecordedSource
from pytest_agentperf.core.trajectory import Recorded
from pytest_agentperf.dataset.digest import source_digest
from pytest_agentperf.dataset.scrub_patterns import RULES
from pytest_agentperf.dataset.scrub_placeholders import Placeholders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory

# Names within a conversation: calls and results are matched by them.
_KEPT_FIELDS = frozenset(("role", "type", "id", "tool_call_id"))
_KNOWN_MIN_CHARACTERS = 8
_AGAIN = "known secret again"


class ScrubReport:
    """How many values of each kind were replaced in which trajectory; never the values."""

    def __init__(self) -> None:
        self.by_trajectory: dict[str, Counter[str]] = {}

    @property
    def totals(self) -> Counter[str]:
        """Return the counts over all trajectories."""
        return sum(self.by_trajectory.values(), Counter())

    def lines(self) -> list[str]:
        """Return the report: totals, then every trajectory in which something was replaced."""
        found = [f"{kind}: {count:,}" for kind, count in sorted(self.totals.items())]
        for trajectory_id, counts in sorted(self.by_trajectory.items()):
            if counts:
                found.append(
                    f"  {trajectory_id}: " + ", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items()))
                )
        return found


class ScrubbedSource:
    """A source with private values replaced: equal values by equal placeholders throughout.

    With the same `key` they are the same in another run, too; keep it as secret as the values. Without one, a fresh key
    is drawn, and `digest` is a new one every time. Token counts stay those of the recording.
    """

    def __init__(self, source: TrajectorySource, *, key: bytes | None = None) -> None:
        self._source = source
        self._placeholders = Placeholders(secrets.token_bytes(32) if key is None else key)
        self.report = ScrubReport()

    @property
    def name(self) -> str:
        """Return the underlying dataset's name."""
        return self._source.name

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of the scrubbed content, computed by reading all of it once."""
        return source_digest(self)

    def ids(self) -> Sequence[str]:
        """Return the ids, which are not scrubbed."""
        return self._source.ids()

    def load(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory, scrubbed; what its recording said besides is left out."""
        return self._scrubbed(replace(self._source.load(trajectory_id), recorded=None))

    def load_recorded(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory, with what its recording said besides scrubbed likewise."""
        source = self._source
        load = source.load_recorded if isinstance(source, RecordedSource) else source.load
        return self._scrubbed(load(trajectory_id))

    def _scrubbed(self, trajectory: Trajectory) -> Trajectory:
        scrubber = TextScrubber(self._placeholders)
        try:
            for text in _texts(trajectory):
                scrubber.learn(text)
            found = _rewritten(trajectory, scrubber.scrub)
        except RecursionError as error:
            raise DatasetError(
                "nested too deeply",
                where=f"trajectory {trajectory.id!r}",
                remedy="no recording nests this deeply: check it",
            ) from error
        self.report.by_trajectory[trajectory.id] = scrubber.counts
        return found


class TextScrubber:
    """Scrubs the texts of one trajectory; secrets it learned are replaced where nothing but they gives them away."""

    def __init__(self, placeholders: Placeholders) -> None:
        self._placeholders = placeholders
        self._known: dict[str, str] = {}
        self._again: re.Pattern[str] | None = None
        self.counts: Counter[str] = Counter()

    def learn(self, text: str) -> None:
        """Remember the secrets of a text."""
        for rule in RULES:
            if rule.everywhere and any(hint in text for hint in rule.hints):
                for found in rule.pattern.finditer(text):
                    value = found["x"]
                    if (
                        len(value) >= _KNOWN_MIN_CHARACTERS
                        and value not in self._known
                        and rule.accepts(found)
                    ):
                        self._known[value] = rule.placeholder(self._placeholders, value)
                        self._again = None

    def scrub(self, text: str) -> str:
        """Return a text with private values replaced."""
        for rule in RULES:
            if any(hint in text for hint in rule.hints):
                text = rule.pattern.sub(lambda found, rule=rule: self._replaced(found, rule), text)  # type: ignore[misc]
        if self._known:
            text = self._known_pattern().sub(self._known_again, text)
        return text

    def _replaced(self, found: re.Match[str], rule: Any) -> str:
        whole: str = found[0]
        if not rule.accepts(found):
            return whole
        self.counts[rule.kind] += 1
        start, stop = found.span("x")
        value = found["x"]
        placeholder = self._known.get(value) or rule.placeholder(self._placeholders, value)
        return whole[: start - found.start()] + placeholder + whole[stop - found.start() :]

    def _known_pattern(self) -> re.Pattern[str]:
        if self._again is None:
            longest_first = sorted(self._known, key=len, reverse=True)
            names = "|".join(map(re.escape, longest_first))
            self._again = re.compile(rf"(?:(?<![A-Za-z0-9\\])|(?<=\\[nrtbf]))(?:{names})(?![A-Za-z0-9])")
        return self._again

    def _known_again(self, found: re.Match[str]) -> str:
        self.counts[_AGAIN] += 1
        return self._known[found[0]]


def _texts(trajectory: Trajectory) -> Iterator[str]:
    recorded = trajectory.recorded
    yield from _strings(trajectory.messages)
    yield from _strings(trajectory.tool_sets)
    if recorded is not None:
        yield from _strings(recorded.head)
        yield from _strings(recorded.turns)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _KEPT_FIELDS:
                yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _rewritten(trajectory: Trajectory, scrub: Callable[[str], str]) -> Trajectory:
    recorded = trajectory.recorded
    return replace(
        trajectory,
        messages=tuple(_fields(message, scrub) for message in trajectory.messages),
        tool_sets=tuple(tuple(_fields(tool, scrub) for tool in tools) for tools in trajectory.tool_sets),
        recorded=None
        if recorded is None
        else Recorded(
            recorded.format,
            _fields(recorded.head, scrub),
            tuple(_fields(turn, scrub) for turn in recorded.turns),
        ),
    )


def _fields(value: Mapping[str, Any], scrub: Callable[[str], str]) -> dict[str, Any]:
    return {
        name: item if name in _KEPT_FIELDS and isinstance(item, str) else _value(item, scrub)
        for name, item in value.items()
    }


def _value(value: Any, scrub: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return _fields(value, scrub)
    if isinstance(value, list | tuple):
        return [_value(item, scrub) for item in value]
    return value
