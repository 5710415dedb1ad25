"""Whether agents worked through the trajectories that the seed assigns to them: METHODOLOGY.md §4.8."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING

from pytest_agentperf.recheck.hashed import fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.recheck.course import Course
    from pytest_agentperf.recheck.findings import Findings


class Assignment:
    """Which trajectory an agent works through as its k-th: per round, ids by SHA-256(seed, agent, round, id) (§4.8)."""

    def __init__(self, seed: int, ids: Sequence[str]) -> None:
        self._seed = seed
        self._ids = [(name, fields(name)) for name in ids]
        self._orders: dict[tuple[int, int], list[str]] = {}

    def __call__(self, agent: int, ordinal: int) -> str:
        """Return the id."""
        round_, place = divmod(ordinal, len(self._ids))
        key = agent, round_
        if key not in self._orders:
            begun = fields(self._seed, agent, round_)
            keyed = sorted((hashlib.sha256(begun + field).digest(), name) for name, field in self._ids)
            self._orders[key] = [name for _, name in keyed]
        return self._orders[key][place]


def check_assignment(course: Course, found: Findings, assigned: Assignment) -> None:
    """Check which trajectories agents worked through, and that no turn of them is missing (§4.8)."""
    exact, text = course.records.exact, course.records.text
    wrong = [
        f"agent {agent} sent nothing"
        for agent in range(course.phase["n_agents"])
        # Of what was under way when all were called off, or given up, nothing is recorded.
        if agent not in course.agents and not course.may_be_under_way
    ]
    wrong += [
        f"agent {agent} is none of {course.phase['n_agents']}"
        for agent in course.agents
        if agent >= course.phase["n_agents"]
    ]
    for agent, rows in course.agents.items():
        expected = _turns(course, agent, assigned, rows)
        for row in rows:
            ordinal, turn, name = next(expected)
            if (exact["ordinal"][row], exact["turn"][row]) != (ordinal, turn):
                wrong.append(
                    f"agent {agent}: turn {turn} of its trajectory {ordinal} is missing or out of order, "
                    f"{course.name_of(row)} stands there"
                )
                break
            if text["trajectory"][row] != name:
                wrong.append(
                    f"agent {agent}, trajectory {ordinal}: {text['trajectory'][row]!r} instead of {name!r}"
                )
                break
    found.tell(
        "assignment", course.where, wrong, f"{len(course.agents)} agents, trajectories and turns as assigned"
    )


def _turns(
    course: Course, agent: int, assigned: Assignment, rows: Sequence[int]
) -> Iterator[tuple[int, int, str]]:
    before = 0
    if course.rules.begins_inside:
        # Where it began rests on the weights of all turns, which are not kept; from there on it is as assigned.
        before, first = 1, rows[0]
        name = course.records.text["trajectory"][first] or ""
        for turn in range(course.records.exact["turn"][first] or 0, len(course.delays_ns[name])):
            yield 0, turn, name
    for ordinal in count(before):
        name = assigned(agent, ordinal - before)
        for turn in range(len(course.delays_ns[name])):
            yield ordinal, turn, name
