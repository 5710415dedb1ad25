from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from load_support import MS, ScriptedClient, phase_spec

from pytest_agentperf.core.answers_so_far import AnswersSoFar
from pytest_agentperf.core.assignment import assigned_trajectories
from pytest_agentperf.core.phase import Completion, PhaseSpec
from pytest_agentperf.core.records import Answer
from pytest_agentperf.load.driver import Driver
from pytest_agentperf.sim.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_agentperf.core.records import RequestColumns, RequestKey

# The delay after the last turn counts after a failure only: the next trajectory begins without a pause.
DELAYS: Mapping[str, tuple[int, ...]] = {
    "a": (20 * MS, 30 * MS, 999 * MS),
    "b": (999 * MS,),
    "c": (0, 10 * MS),
}
DURATION_NS = 100 * MS


def spec(n_agents: int, **changes: Any) -> PhaseSpec:
    fields: dict[str, Any] = {
        "phase": 4,
        "attempt": 1,
        "stagger_ns": 10 * MS,
        "seed": 3,
        "trajectories": tuple(DELAYS),
        "failure_wait_ns": 1_000 * MS,
    }
    return phase_spec(n_agents, **(fields | changes))


def answer(key: RequestKey) -> tuple[int, dict[str, Any]]:
    return DURATION_NS, {
        "prompt_tokens": 10,
        "output_tokens": 5,
        "t_first_ns": 0,
        "t_last_ns": 0,
        "status": 200,
    }


class System:
    """Drivers over one virtual clock and one scripted client."""

    def __init__(
        self,
        n_agents: int,
        script: Callable[[RequestKey], tuple[int, Mapping[str, Any]]] = answer,
        *,
        shards: int = 1,
        **changes: Any,
    ) -> None:
        self.clock = VirtualClock(start_ns=5 * MS)
        self.client = ScriptedClient(self.clock, script)
        phase = spec(n_agents, **changes)
        self.drivers = [
            Driver(
                phase,
                range(shard, n_agents, shards),
                clock=self.clock,
                client=self.client,
                tool_delays_ns=DELAYS.__getitem__,
            )
            for shard in range(shards)
        ]
        self.driver = self.drivers[0]

    def start(self, start_ns: int = 5 * MS) -> None:
        for driver in self.drivers:
            driver.start(start_ns)

    def run_until(self, until_ns: int) -> None:
        """Run everything that is due up to and including `until_ns`."""
        self.clock.run_until(until_ns)

    def sent(self, agent: int) -> list[tuple[int, int, str, int]]:
        return [
            (t_ns // MS, key.ordinal, key.trajectory, key.turn)
            for t_ns, key in self.client.sent
            if key.agent == agent
        ]


def expected_sends(
    agent: int, start_ms: int, until_ms: int, shape: Iterable[str]
) -> list[tuple[int, int, str, int]]:
    """Walk an agent's timeline by hand."""
    sends: list[tuple[int, int, str, int]] = []
    now_ms = start_ms
    for ordinal, name in enumerate(shape):
        for turn, delay_ns in enumerate(DELAYS[name]):
            if now_ms > until_ms:
                return sends
            sends.append((now_ms, ordinal, name, turn))
            last = turn == len(DELAYS[name]) - 1
            now_ms += DURATION_NS // MS + (0 if last else delay_ns // MS)
    raise AssertionError("the shape has no end")


@pytest.mark.parametrize("agent", [0, 1, 6])
def test_agents_start_staggered_and_send_on_time(agent: int) -> None:
    system = System(7)
    system.start(20 * MS)
    system.run_until(3_000 * MS)
    shape = assigned_trajectories(3, agent, tuple(DELAYS))
    assert system.sent(agent) == expected_sends(agent, 20 + 10 * agent, 3_000, shape)


def test_tool_delays_may_be_capped() -> None:
    system = System(1, tool_delay_cap_ns=5 * MS, trajectories=("a",))
    system.start(5 * MS)
    system.run_until(600 * MS)
    turn_ms = DURATION_NS // MS + 5
    starts = [5, 5 + turn_ms, 5 + 2 * turn_ms]
    # The next trajectory begins without a pause.
    again = starts[-1] + DURATION_NS // MS
    assert [sent[0] for sent in system.sent(0)] == [*starts, again, again + turn_ms, again + 2 * turn_ms]


def test_an_agent_whose_start_has_passed_starts_at_once() -> None:
    system = System(2)
    system.start(0)
    system.run_until(15 * MS)
    assert [(t_ns // MS, key.agent) for t_ns, key in system.client.sent] == [(5, 0), (10, 1)]


def test_every_answer_is_recorded_with_its_key_and_times() -> None:
    system = System(2)
    system.start(5 * MS)
    system.run_until(1_000 * MS)
    ended = [sent for sent in system.client.sent if sent.t_ns + DURATION_NS <= 1_000 * MS]
    columns = system.driver.stop()
    rows = {
        (columns["agent"][i], columns["ordinal"][i], columns.texts["trajectory"][i], columns["turn"][i]): (
            columns["t_sent_ns"][i],
            columns["t_end_ns"][i],
        )
        for i in range(len(columns))
    }
    assert rows == {
        (k.agent, k.ordinal, k.trajectory, k.turn): (t_ns, t_ns + DURATION_NS) for t_ns, k in ended
    }
    assert len(columns) == len(ended)
    assert set(columns["phase"]) == {4}
    assert set(columns["attempt"]) == {1}
    assert set(columns["prompt_tokens"]) == {10}


def test_events_are_told_once() -> None:
    system = System(2, trajectories=("b",))
    driver = system.driver
    assert driver.take_events().activations == []
    system.start(5 * MS)
    system.run_until(50 * MS)
    events = driver.take_events()
    assert events.activations == [Completion(0, 5 * MS), Completion(1, 15 * MS)]
    assert (events.completions, events.in_flight, events.tokens, events.drained) == ([], 2, 0, False)
    system.run_until(110 * MS)
    events = driver.take_events()
    assert (events.activations, events.completions) == ([], [Completion(0, 105 * MS)])
    assert (events.in_flight, events.tokens, events.failures) == (2, 15, 0)
    assert (len(events.ttft_s), len(events.speed_tok_s)) == (1, 1)
    assert driver.take_events()._replace(in_flight=0) == (
        events._replace(completions=[], ttft_s=[], speed_tok_s=[], tokens=0, in_flight=0)
    )


def test_requests_sent_before_the_close_are_followed_to_their_end_and_no_others() -> None:
    def script(key: RequestKey) -> tuple[int, dict[str, Any]]:
        # The first request of agent 1 outlives many of agent 0.
        return (1_000 * MS if (key.agent, key.ordinal) == (1, 0) else DURATION_NS), {}

    system = System(2, script, trajectories=("b",))
    driver = system.driver
    system.start(5 * MS)
    assert not driver.drained
    system.run_until(400 * MS)
    assert not driver.drained
    driver.close_window(405 * MS)
    # Agent 0 sends exactly at the close: that request is outside of the window.
    system.run_until(1_014 * MS)
    assert not driver.drained
    assert not driver.take_events().drained
    agent_0 = [t_ms for t_ms, *_ in system.sent(0)]
    assert agent_0 == list(range(5, 1_015, 100)), "the load is kept up meanwhile"
    system.run_until(1_015 * MS)
    assert driver.drained
    assert driver.take_events().drained
    columns = driver.stop()
    assert (columns["t_sent_ns"] < 405 * MS).sum() == 4 + 1


def test_a_request_sent_at_the_close_does_not_keep_the_phase() -> None:
    system = System(1, trajectories=("b",))
    system.start(5 * MS)
    system.run_until(110 * MS)
    system.driver.close_window(105 * MS)
    assert system.driver.drained
    system.driver.close_window(106 * MS)
    assert not system.driver.drained


def test_a_driver_without_agents_is_drained_once_the_window_has_closed() -> None:
    system = System(0)
    system.start()
    assert not system.driver.drained
    system.driver.close_window(9)
    assert system.driver.drained
    assert len(system.driver.stop()) == 0


def test_stop_calls_everything_off() -> None:
    system = System(7)
    system.start(5 * MS)
    # Agents that wait for their start, for an answer and for a tool.
    system.run_until(50 * MS)
    columns = system.driver.stop()
    sent = len(system.client.sent)
    assert (sent, system.client.cancelled) == (5, 5)
    system.run_until(60_000 * MS)
    assert len(system.client.sent) == sent
    assert len(columns) == 0
    assert system.driver.take_events().in_flight == 0


def test_an_answer_after_stop_is_ignored() -> None:
    system = System(1)
    callbacks: list[Callable[..., None]] = []
    send = system.client.send

    def leaky(key: RequestKey, on_answer: Callable[..., None]) -> Any:
        callbacks.append(on_answer)
        return send(key, on_answer)

    system.client.send = leaky  # type: ignore[method-assign]
    system.start(5 * MS)
    system.run_until(50 * MS)
    columns = system.driver.stop()
    callbacks[0](Answer(5 * MS, 60 * MS))
    assert len(columns) == 0
    assert len(system.client.sent) == 1


def test_failures_are_recorded_and_the_agent_goes_on_after_a_wait() -> None:
    def script(key: RequestKey) -> tuple[int, dict[str, Any]]:
        failing = {"failure": "http_5xx", "failure_detail": "HTTP 503", "status": 503, "prompt_tokens": None}
        return DURATION_NS, failing if key.ordinal == 0 else answer(key)[1]

    system = System(1, script, trajectories=("a",))
    system.start(5 * MS)
    system.run_until(3_400 * MS)
    # 100 ms each; then the failure's 1 s rather than the tools' 20 and 30 ms, and before the next trajectory too.
    assert system.sent(0) == [(5, 0, "a", 0), (1105, 0, "a", 1), (2205, 0, "a", 2), (3305, 1, "a", 0)]
    events = system.driver.take_events()
    assert events.failures == 3
    assert events.ttft_s == [float("inf")] * 3
    assert events.speed_tok_s == [0.0] * 3
    assert events.tokens == 0
    assert events.completions == [Completion(0, 2305 * MS)], "the trajectory still completes"
    columns = system.driver.stop()
    assert columns.texts["failure"] == ["http_5xx"] * 3
    assert columns.texts["failure_detail"] == ["HTTP 503"] * 3


def test_a_longer_tool_delay_outlasts_the_wait_after_a_failure() -> None:
    system = System(
        1, lambda _: (DURATION_NS, {"failure": "cut"}), trajectories=("a",), failure_wait_ns=25 * MS
    )
    system.start(5 * MS)
    system.run_until(1_400 * MS)
    # 25 ms rather than the first tool's 20; then the tools' 30 and 999.
    assert [t_ms for t_ms, *_ in system.sent(0)] == [5, 130, 260, 1359]


def sequences(shards: int) -> tuple[RequestColumns, dict[int, list[tuple[int, int, str, int]]]]:
    system = System(9, shards=shards)
    system.start(5 * MS)
    system.run_until(2_000 * MS)
    parts = [driver.stop() for driver in system.drivers]
    columns = type(parts[0]).concatenate(parts)
    return columns, {agent: system.sent(agent) for agent in range(9)}


@pytest.mark.parametrize("shards", [2, 4, 9, 12])
def test_an_agent_does_the_same_in_any_shard(shards: int) -> None:
    one, expected = sequences(1)
    many, found = sequences(shards)
    assert found == expected
    assert all(expected.values())
    assert {name: column.tolist() for name, column in many.ints.items()} == {
        name: column.tolist() for name, column in type(one).concatenate([one]).ints.items()
    }


def test_a_drained_driver_sends_nothing_more_and_lets_requests_end() -> None:
    """Two requests are in flight, one agent waits for a tool, one has not begun."""
    system = System(4, stagger_ns=100 * MS)
    system.start()
    # Agent 0 has its first answer at 105 ms; agents start at 5, 30, 55 and 80 ms or the like.
    system.run_until(106 * MS)
    driver, sent = system.driver, len(system.client.sent)
    in_flight = driver.take_events().in_flight
    assert 0 < in_flight < 4
    assert not driver.drained
    driver.drain()
    assert not driver.drained
    system.run_until(106 * MS + DURATION_NS)
    assert driver.drained
    system.run_until(2_000 * MS)
    assert len(system.client.sent) == sent
    columns = driver.stop()
    assert len(columns) == sent
    assert not columns.failed.any()


def test_a_driver_that_never_sent_is_drained_at_once() -> None:
    system = System(2)
    system.start()
    system.driver.drain()
    assert system.driver.drained
    system.run_until(2_000 * MS)
    assert system.client.sent == []


def test_agents_may_begin_in_mid_trajectory_and_join_with_their_first_token() -> None:
    def slow(key: RequestKey) -> tuple[int, dict[str, Any]]:
        duration_ns, fields = answer(key)
        # Agent 1 gets its first token 40 ms after it began.
        return duration_ns, {**fields, "t_first_ns": system.clock.now_ns() + (1 + 39 * key.agent) * MS}

    system = System(2, slow, begin_at={0: ("a", 1), 1: ("c", 1)})
    system.start()
    system.run_until(30 * MS)
    assert [(k.trajectory, k.turn, k.ordinal) for _, k in system.client.sent] == [("a", 1, 0), ("c", 1, 0)]
    assert system.driver.take_events().activations == [Completion(0, 6 * MS)]
    system.run_until(60 * MS)
    assert system.driver.take_events().activations == [Completion(1, 55 * MS)]
    system.run_until(2_000 * MS)
    events = system.driver.take_events()
    assert events.activations == []
    # What was left of the first trajectory counts as one, and the assigned ones follow.
    first = next(iter(assigned_trajectories(3, 0, tuple(DELAYS))))
    sent = [(key.ordinal, key.trajectory, key.turn) for _, key in system.client.sent if key.agent == 0]
    assert sent[:3] == [(0, "a", 1), (0, "a", 2), (1, first, 0)]
    assert any(agent == 0 for agent, _ in events.completions)


def test_an_agent_that_fails_at_once_has_joined_too() -> None:
    system = System(1, lambda key: (100 * MS, {"failure": "http_5xx", "status": 500}), begin_at={0: ("b", 0)})
    system.start()
    system.run_until(200 * MS)
    assert system.driver.take_events().activations == [Completion(0, 105 * MS)]


def test_a_look_has_what_ended_since_the_last_one_and_what_is_under_way() -> None:
    def streamed(key: RequestKey) -> tuple[int, dict[str, Any]]:
        now_ns = system.clock.now_ns()
        fields = {"output_tokens": 11, "first_chunk_tokens": 1, "t_first_ns": now_ns + 50 * MS}
        return DURATION_NS, {**fields, "t_last_ns": now_ns + DURATION_NS, "status": 200}

    system = System(1, streamed, trajectories=("c",))
    system.start()
    system.run_until(20 * MS)
    under_way = system.driver.look()
    assert under_way.ended.tolist() == [False]
    assert np.isnan(under_way.ttft_s).all()
    assert np.isnan(under_way.speed_tok_s).all()
    system.run_until(160 * MS)
    look = system.driver.look()
    assert look.ended.tolist() == [True, False]
    assert look.t_sent_ns.tolist() == [5 * MS, 105 * MS]
    assert look.ttft_s.tolist() == [0.05, 0.05]
    assert look.speed_tok_s[0] == pytest.approx(200)
    assert np.isnan(look.speed_tok_s[1])
    system.run_until(230 * MS)
    assert system.driver.look().t_sent_ns[:1].tolist() == [105 * MS]
    there = AnswersSoFar.from_wire(look.to_wire())
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(there, look, strict=True))
