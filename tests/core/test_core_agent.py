from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from core_support import MS, S, steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.agent import Agent
from pytest_agentperf.core.records import Answer, RequestKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DELAYS = {"a": [2 * S, 0, 5 * S], "b": [S // 2, 7 * S]}


def make_agent(delays: Mapping[str, Sequence[int]] = DELAYS, order: Iterator[str] | None = None) -> Agent:
    return Agent(4, order or cycle(delays), delays.__getitem__, failure_wait_ns=S, phase=7, attempt=2)


def send(ordinal: int, trajectory: str, turn: int) -> RequestKey:
    return RequestKey(7, 2, 4, ordinal, trajectory, turn)


def waits(agent: Agent, answer: Answer) -> int:
    """Until when the agent waits after an answer."""
    assert agent.answered(answer) is None
    return agent.wake_ns


def ok(t_end_ns: int) -> Answer:
    return Answer(t_sent_ns=0, t_end_ns=t_end_ns)


def bad(t_end_ns: int) -> Answer:
    return Answer(t_sent_ns=0, t_end_ns=t_end_ns, failure="stalled")


def test_turns_in_order_with_the_delay_after_each_but_the_last() -> None:
    agent = make_agent()
    assert agent.start() == send(0, "a", 0)
    assert waits(agent, ok(100 * S)) == 102 * S
    assert agent.woke() == send(0, "a", 1)
    # A delay of 0 is none: the next turn goes out at once.
    assert agent.answered(ok(110 * S)) == send(0, "a", 2)
    assert agent.completed == 0
    # The last turn's delay does not count: there is no pause between trajectories.
    assert agent.answered(ok(120 * S)) == send(1, "b", 0)
    assert agent.completed == 1
    assert waits(agent, ok(130 * S)) == 130 * S + S // 2
    assert agent.woke() == send(1, "b", 1)
    assert agent.answered(ok(140 * S)) == send(2, "a", 0)
    assert agent.completed == 2


def test_a_failure_waits_for_the_longer_of_tool_delay_and_one_second() -> None:
    agent = make_agent()
    agent.start()
    assert waits(agent, bad(100 * S)) == 102 * S  # the tool delay of 2 s is longer
    assert agent.woke() == send(0, "a", 1)  # and it goes on at k+1
    assert waits(agent, bad(200 * S)) == 201 * S  # the tool delay of 0 s is shorter
    assert agent.woke() == send(0, "a", 2)


def test_a_failed_last_turn_completes_the_trajectory_at_once_and_waits_before_the_next() -> None:
    agent = make_agent({"a": [S // 2], "b": [0]})
    agent.start()
    assert waits(agent, bad(100 * S)) == 101 * S
    assert agent.completed == 1
    assert agent.woke() == send(1, "b", 0)
    assert agent.completed == 1


def test_without_a_failure_wait_a_failure_pauses_like_an_answer() -> None:
    agent = Agent(4, cycle("a"), {"a": [0, 0]}.__getitem__, failure_wait_ns=0, phase=7, attempt=2)
    agent.start()
    assert agent.answered(bad(S)) == send(0, "a", 1)


def walk(
    delays: Mapping[str, Sequence[int]], failures: Sequence[bool]
) -> tuple[list[RequestKey], list[int], int]:
    """The turns, the pauses before them, and how many trajectories completed."""
    agent = make_agent(delays)
    sends, pauses = [agent.start()], []
    for i, failed in enumerate(failures):
        end_ns = 1_000 * S * (i + 1)
        key = agent.answered(bad(end_ns) if failed else ok(end_ns))
        pauses.append(agent.wake_ns - end_ns if key is None else 0)
        sends.append(key or agent.woke())
    return sends, pauses, agent.completed


plans = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.lists(st.sampled_from([0, 1, 500 * MS, S, 3 * S]), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


@steady
@given(plans, st.lists(st.booleans(), max_size=40))
def test_failures_change_no_turn_only_pauses(delays: dict[str, list[int]], failures: list[bool]) -> None:
    sends, pauses, completed = walk(delays, failures)
    untroubled_sends, untroubled_pauses, untroubled_completed = walk(delays, [False] * len(failures))
    assert sends == untroubled_sends
    assert completed == untroubled_completed
    for key, failed, pause, untroubled in zip(sends, failures, pauses, untroubled_pauses, strict=False):
        # After a failure the recorded delay counts for the last turn too.
        assert pause == (max(delays[key.trajectory][key.turn], S) if failed else untroubled)


@steady
@given(plans, st.integers(0, 60))
def test_turns_count_up_and_ordinals_follow_the_assignment(delays: dict[str, list[int]], steps: int) -> None:
    sends, pauses, completed = walk(delays, [False] * steps)
    expected, expected_pauses = [], []
    for ordinal, name in zip(range(steps + 1), cycle(delays), strict=False):
        turns = len(delays[name])
        expected += [send(ordinal, name, turn) for turn in range(turns)]
        expected_pauses += [*delays[name][:-1], 0]
    assert sends == expected[: steps + 1]
    assert pauses == expected_pauses[:steps]
    assert completed == sends[-1].ordinal


def test_misuse() -> None:
    agent = make_agent()
    with pytest.raises(RuntimeError, match="before its start"):
        agent.answered(ok(0))
    with pytest.raises(RuntimeError, match="does not wait"):
        agent.woke()
    agent.start()
    with pytest.raises(RuntimeError, match="started twice"):
        agent.start()
    with pytest.raises(RuntimeError, match="does not wait"):
        agent.woke()
    agent.answered(ok(0))
    with pytest.raises(RuntimeError, match="while it waits"):
        agent.answered(ok(0))
    assert agent.completed == 0


def test_a_trajectory_without_turns_is_an_error() -> None:
    with pytest.raises(ValueError, match="'x' has no turns"):
        make_agent({"x": []}).start()
