from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from load_support import (
    DEMO_SET,
    EVENTS,
    MS,
    WAIT_S,
    answering,
    chunked,
    phase_spec,
    raw_server,
    wait_for,
)
from scripted_place import ScriptedPlace

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.answers_so_far import AnswersSoFar, UnderWay
from pytest_agentperf.core.assignment import isolation_prefix
from pytest_agentperf.core.errors import LoadError, LoadLimitError
from pytest_agentperf.core.phase import Completion, Phase, PhaseEvents, PhaseSpec, Stage, StopRule
from pytest_agentperf.core.records import ColumnsBuilder
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.host_facts import host_id
from pytest_agentperf.load.hosts import Joining
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.load.segment_writer import SegmentWriter
from pytest_agentperf.load.worker import events_to_wire
from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.process import SimServer
from pytest_agentperf.worker import RequestRules, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from load_support import RawServer

    from pytest_agentperf.core.records import RequestColumns

FAST = EngineConfig(
    step_base_ms=0.5,
    step_per_sequence_ms=0.05,
    output_tokens_median=4,
    output_tokens_p95=8,
    output_tokens_max=16,
)
API_KEY = "sk-0123456789abcdef"
RULE = StopRule(
    settle_ns=100 * MS,
    min_window_ns=600 * MS,
    min_trajectories=4,
    min_trajectories_per_agent=1,
    phase_max_ns=60 * NS_PER_S,
)
END_S = 30.0
"""A worker that the controller has left ends within this: execnet's own last resort comes after 15 s."""


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    with SimServer(FAST, api_key=API_KEY) as found:
        yield found


@cache
def demo() -> EncodedDataset:
    """Return the demo set, encoded once; its files go when the process ends."""
    return EncodedDataset(DEMO_SET, max_prompt_tokens=100_000, history_reasoning="all")


def config(server: SimServer, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "url": server.url,
        "headers": {"Authorization": f"Bearer {API_KEY}"},
        "model": server.model,
        "parameters": {},
        "segments": str(demo().folder),
        "rules": RequestRules.of(DEMO_1),
        "tokenizer": None,
    }
    return WorkerConfig(**(fields | changes)).to_wire()


def spec(n_agents: int, **changes: Any) -> PhaseSpec:
    fields = {
        "stagger_ns": 20 * MS,
        "trajectories": demo().prepared.ids,
        "failure_wait_ns": 50 * MS,
    }
    return phase_spec(n_agents, **(fields | changes))


@contextmanager
def pool_of(workers: int, config: dict[str, Any]) -> Iterator[WorkerPool]:
    before = children()
    pool = WorkerPool(config, workers=workers)
    try:
        assert len(children() - before) == workers
        yield pool
    finally:
        pool.close()
    assert not children() - before


def children(pid: int | str = "self") -> set[int]:
    """Return the pids of a process's running children."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.is_dir():
        pytest.skip("no /proc here to find child processes in")
    listed: set[int] = set()
    for task in tasks.iterdir():
        # A thread may end meanwhile; its children are then another's.
        with suppress(FileNotFoundError, ProcessLookupError):
            listed |= {int(pid) for pid in (task / "children").read_text().split()}
    return {pid for pid in listed if runs(pid)}


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def run_phase(pool: WorkerPool, phase: PhaseSpec) -> tuple[Phase, RequestColumns]:
    state = Phase(phase.n_agents, RULE, pool.start_phase(phase))
    deadline_ns = monotonic_ns() + 60 * NS_PER_S
    while state.stage is not Stage.DONE:
        assert monotonic_ns() < deadline_ns
        before = state.stage
        stage = state.update(pool.poll(0.05), monotonic_ns())
        if stage is Stage.DRAIN and before is not Stage.DRAIN:
            assert state.close_ns is not None
            pool.close_window(state.close_ns)
    return state, pool.stop_phase()


def work(columns: RequestColumns) -> dict[int, list[tuple[int, str, int]]]:
    """Return what each agent did, in order."""
    done: dict[int, list[tuple[int, str, int]]] = {}
    for i in range(len(columns)):
        step = (int(columns["ordinal"][i]), columns.texts["trajectory"][i] or "", int(columns["turn"][i]))
        done.setdefault(int(columns["agent"][i]), []).append(step)
    return done


def test_a_phase_with_one_and_with_two_workers(server: SimServer) -> None:
    found = []
    for workers in (1, 2):
        with pool_of(workers, config(server)) as pool:
            assert pool.describe()["workers"] == workers
            assert "lag_p99_s" not in pool.describe()
            for attempt in range(2):
                state, columns = run_phase(pool, spec(5, attempt=attempt, nonce=f"with {workers}"))
                check_phase(state, columns, attempt)
                found.append(work(columns))
            description = pool.describe()
            assert description["lag_max_s"] >= description["lag_p99_s"] >= 0
            assert description["cpu_share_max"] > 0
    # However they are sharded, agents do the same things in the same order, one phase after the other.
    for other in found[1:]:
        for agent, steps in found[0].items():
            both = min(len(steps), len(other[agent]))
            assert both >= 3
            assert steps[:both] == other[agent][:both]


def check_phase(state: Phase, columns: RequestColumns, attempt: int) -> None:
    assert not state.timed_out
    assert state.open_ns is not None
    assert state.close_ns is not None
    assert state.close_ns - state.open_ns >= RULE.min_window_ns
    assert state.completions >= 4
    assert set(columns["agent"]) == set(range(5))
    assert set(columns["attempt"]) == {attempt}
    assert not columns.failed.any()
    assert (columns["output_tokens"] > 0).all()
    # Isolation: a trajectory's first request finds nothing in the cache, later turns find their prefix.
    assert columns["cached_tokens"][columns["turn"] == 0].max() == 0
    assert columns["cached_tokens"][columns["turn"] > 0].min() > 0
    for agent in range(5):
        mine = columns["agent"] == agent
        first_ns = columns["t_sent_ns"][mine].min()
        assert first_ns >= state.start_ns + agent * 20 * MS
        assert first_ns < state.open_ns
        # The first request opened a connection; there is never more than one request at a time.
        assert columns["connect_ns"][mine][0] > 0
        sent, ended = columns["t_sent_ns"][mine], columns["t_end_ns"][mine]
        assert (sent[1:] >= ended[:-1]).all()


def test_more_workers_than_agents(server: SimServer) -> None:
    with pool_of(2, config(server)) as pool:
        _, columns = run_phase(pool, spec(1, trajectories=("demo-11", "demo-24")))
    assert set(columns["agent"]) == {0}


def sized(monkeypatch: pytest.MonkeyPatch, *, workers: int | None, cores: int, rate: float) -> WorkerPool:
    """Return a pool that starts nothing, on a machine of that many cores."""
    monkeypatch.setattr("pytest_agentperf.load.pool.cores", lambda: cores)
    monkeypatch.setattr(Joining, "join", lambda joining, place, count: None)
    return WorkerPool({}, workers=workers, chunks_per_agent_s=rate)


@pytest.mark.parametrize(
    ("n_agents", "rate", "cores", "expected"),
    [
        (1, 20.0, 64, 1),
        (1_500, 20.0, 64, 1),
        (1_501, 20.0, 64, 2),
        (4_000, 20.0, 64, 3),
        (4_000, 180.0, 64, 24),
        (4_000, 180.0, 8, 7),
        (4_000, 180.0, 2, 1),
        (4_000, 180.0, 1, 1),
    ],
)
def test_as_many_workers_as_the_load_needs_and_the_cores_allow(
    monkeypatch: pytest.MonkeyPatch, n_agents: int, rate: float, cores: int, expected: int
) -> None:
    assert sized(monkeypatch, workers=None, cores=cores, rate=rate).workers_for(n_agents) == expected
    assert sized(monkeypatch, workers=5, cores=cores, rate=rate).workers_for(n_agents) == 5


def test_a_pool_grows_with_the_phases_and_does_not_shrink(
    server: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentperf.load.pool.cores", lambda: 3)
    before = children()
    pool = WorkerPool(config(server), chunks_per_agent_s=10_000.0)
    try:
        counts = [len(children() - before)]
        for n_agents in (3, 5, 1):
            _, columns = run_phase(pool, spec(n_agents))
            assert set(columns["agent"]) == set(range(n_agents))
            counts.append(len(children() - before))
    finally:
        pool.close()
    assert counts == [1, 1, 2, 2]


def test_more_agents_than_the_limits_carry_are_refused_before_anything_is_sent(server: SimServer) -> None:
    with raw_server(answering(chunked(EVENTS))) as raw, pool_of(2, config(server, url=raw.url)) as pool:
        (host,) = pool.hosts
        told = host.facts
        assert told.descriptors > 64
        host.facts = told._replace(descriptors=66)
        with pytest.raises(
            LoadLimitError, match=r"66 open files in each of 2 .* carry 4 agents, not 5"
        ) as caught:
            pool.start_phase(spec(5))
        assert "ulimit" in (caught.value.remedy or "")
        host.facts = told._replace(ports=2)
        with pytest.raises(LoadLimitError, match=r"2 local ports\) carry 2 agents, not 4") as caught:
            pool.start_phase(spec(4))
        host.facts = told
        assert "ip_local_port_range" in (caught.value.remedy or "")
        pool.poll(0.2)
        assert (raw.connections, raw.requests) == (0, [])
        # And the workers are none the worse for it.
        pool.start_phase(spec(4))
        wait_for(lambda: raw.connections == 4)
        assert set(pool.stop_phase()["agent"]) <= set(range(4))


def news(agent: int, **changes: Any) -> tuple[Any, ...]:
    done = [Completion(agent, 1)]
    return ("events", events_to_wire(PhaseEvents(completions=done, tokens=10, **changes)))


def seen(agent: int) -> tuple[Any, ...]:
    one = AnswersSoFar.of(ColumnsBuilder().finish(), [UnderWay(agent, 0, 1, None)])
    return ("look", one.to_wire())


def to_looks(*answers: list[tuple[Any, ...]]) -> Callable[[Any], list[tuple[Any, ...]]]:
    """Return what answers each look with frames written down before."""
    left = list(answers)
    return lambda frame: left.pop(0) if frame == ("look",) else []


def scripted(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> WorkerPool:
    monkeypatch.setattr("pytest_agentperf.load.pool.GatewayPlace", lambda: ScriptedPlace(*answers))
    return WorkerPool({}, workers=len(answers))


def test_news_that_comes_while_a_look_is_waited_for_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    first = to_looks([news(0, in_flight=3), seen(0)], [seen(2), news(2, in_flight=1)])
    second = to_looks([seen(1), news(1, in_flight=4)], [news(3, in_flight=2, drained=True), seen(3)])
    pool = scripted(monkeypatch, first, second)
    assert pool.look().agent.tolist() == [0, 1]
    # A look straight after it, before anybody has polled: the order of one worker's news stays.
    assert pool.look().agent.tolist() == [2, 3]
    events = pool.poll(0.0)
    assert sorted(done.agent for done in events.completions) == [0, 1, 2, 3]
    assert (events.tokens, events.in_flight, events.drained) == (40, 3, False)
    assert pool.poll(0.0).completions == []


def test_news_of_a_phase_before_is_none_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = scripted(monkeypatch, to_looks([news(0), seen(0)]))
    pool.look()
    pool.start_phase(spec(1))
    assert pool.poll(0.0).completions == []


def asked_in_one_phase(pool: WorkerPool) -> tuple[RawServer, RawServer]:
    """Run five agents against an endpoint for each of two workers."""
    answer = answering(chunked(EVENTS))
    with raw_server(answer) as first, raw_server(answer) as second:
        pool.start_phase(spec(5, stagger_ns=0), urls={host_id(): [first.url, second.url]})
        wait_for(lambda: first.connections == 3 and second.connections == 2)
        wait_for(lambda: len(first.requests) > 10 and len(second.requests) > 10)
        pool.stop_phase()
    return first, second


def test_agents_are_spread_over_the_workers_by_their_number(server: SimServer) -> None:
    prefixes = {
        isolation_prefix("n", 1, 0, agent, ordinal).encode(): agent
        for agent in range(5)
        for ordinal in range(100)
    }
    with pool_of(2, config(server)) as pool:
        asked = [*asked_in_one_phase(pool), *asked_in_one_phase(pool)]
    for raw, expected in zip(asked, [{0, 2, 4}, {1, 3}] * 2, strict=True):
        found = [re.findall(rb"[0-9a-f]{128}", request.body)[0] for request in raw.requests]
        assert {prefixes[prefix] for prefix in found} == expected
        for request in raw.requests:
            # Another endpoint than the configured one gets no headers of ours.
            assert b"authorization" not in request.head.lower()
            assert API_KEY.encode() not in request.head + request.body


def test_another_endpoint_for_one_phase_gets_no_headers_of_ours(server: SimServer) -> None:
    with SimServer(FAST) as other, pool_of(1, config(server)) as pool:
        pool.start_phase(spec(2), urls={host_id(): [other.url]})
        until_events(pool)
        pool.stop_phase()
        # That server asks for a key, and this phase sends it none.
        pool.start_phase(spec(2, attempt=1), urls={host_id(): [server.url]})
        failures = 0
        deadline_ns = monotonic_ns() + round(WAIT_S * NS_PER_S)
        while not failures:
            failures += pool.poll(0.05).failures
            assert monotonic_ns() < deadline_ns
        refused = pool.stop_phase()
        _, columns = run_phase(pool, spec(2, attempt=2))
    assert set(refused.texts["failure"]) == {"http_4xx"}
    assert not columns.failed.any()


def test_failures_are_recorded() -> None:
    faulty = SimServer(FAST, faults=FaultRates(fail=0.3, cut=0.3, seed=1))
    with faulty as server, pool_of(1, config(server, headers={})) as pool:
        _, columns = run_phase(pool, spec(4))
    assert {"http_5xx", "cut", None} == set(columns.texts["failure"])
    detail = next(text for text in columns.texts["failure_detail"] if text and text.startswith("HTTP 503"))
    assert "Failed on purpose" in detail


def test_the_server_dies_and_the_phase_goes_on_to_its_end() -> None:
    server = SimServer(FAST)
    server.start()
    try:
        with pool_of(1, config(server, headers={})) as pool:
            pool.start_phase(spec(2))
            until_events(pool)
            server.stop()
            failures = 0
            deadline_ns = monotonic_ns() + 30 * NS_PER_S
            while failures < 2 and monotonic_ns() < deadline_ns:
                failures += pool.poll(0.1).failures
            columns = pool.stop_phase()
    finally:
        server.stop()
    assert {"connect", "closed_before_response", "cut"} & set(columns.texts["failure"])


def find_out(pool: WorkerPool, when: str) -> None:
    if when == "stopping":
        pool.stop_phase()
    elif when == "idle":
        pool.start_phase(spec(4))
    poll_to_the_end(pool)


def poll_to_the_end(pool: WorkerPool) -> None:
    """Poll until something is raised, or for so long that nothing will be."""
    for _ in range(round(END_S * 10)):
        pool.poll(0.1)


def until_events(pool: WorkerPool) -> None:
    deadline_ns = monotonic_ns() + round(WAIT_S * NS_PER_S)
    while not pool.poll(0.05).activations:
        assert monotonic_ns() < deadline_ns


@pytest.mark.parametrize("when", ["idle", "running", "stopping"])
def test_a_killed_worker_is_named(server: SimServer, when: str) -> None:
    before = children()
    pool = WorkerPool(config(server), workers=2)
    try:
        # Started one after the other.
        victim = sorted(children() - before)[1]
        if when != "idle":
            pool.start_phase(spec(4))
            until_events(pool)
        os.kill(victim, signal.SIGKILL)
        gone(victim)
        with pytest.raises(LoadError, match="load worker 1 is gone") as caught:
            find_out(pool, when)
        assert caught.value.remedy
    finally:
        pool.close()
    assert children() == before


def gone(*pids: int) -> None:
    deadline_ns = monotonic_ns() + round(END_S * NS_PER_S)
    while left := [pid for pid in pids if runs(pid)]:
        assert monotonic_ns() < deadline_ns, f"still there: {left}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"segments": "/nowhere/at/all"}, "/nowhere/at/all: the encoded dataset cannot be opened"),
        ({"tokenizer": str(DEMO_SET)}, "no tokenizer.json in it"),
        ({"parameters": "many"}, "parameters"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_worker_that_cannot_start_says_why(server: SimServer, changes: dict[str, Any], cause: str) -> None:
    before = children()
    began_ns = monotonic_ns()
    with pytest.raises(LoadError) as caught:
        WorkerPool(config(server) | changes, workers=2)
    assert cause in str(caught.value)
    assert API_KEY not in str(caught.value)
    # Far below the time that a worker has to get ready: nobody waits for one that has failed.
    assert monotonic_ns() - began_ns < END_S * NS_PER_S
    assert children() == before


def test_an_error_while_agents_run_ends_the_phase(server: SimServer) -> None:
    """Nobody may wait for an agent that an error of ours has stopped."""
    with pool_of(1, config(server)) as pool:
        pool.start_phase(spec(3, trajectories=("demo-01", "no-such-trajectory")))
        with pytest.raises(LoadError, match="no-such-trajectory") as caught:
            poll_to_the_end(pool)
        assert "load worker 0 failed" in str(caught.value)


def test_exact_lengths_that_were_not_recorded_are_told_before_anything_is_sent(
    server: SimServer, tmp_path: Path
) -> None:
    with SegmentWriter(tmp_path) as writer:
        writer.add(Trajectory("t1", ({"role": "user", "content": "x"},), (Turn(((0, 1),), 0),)))
        writer.finish()
    exact = DEMO_1.model_copy(update={"output_length": "exact"})
    with pytest.raises(LoadError, match="trajectory 't1', turn 0: no recorded output length") as caught:
        WorkerPool(config(server, segments=str(tmp_path), rules=RequestRules.of(exact)), workers=1)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("running", [False, True])
def test_closing_ends_the_workers_at_once(server: SimServer, running: bool) -> None:
    before = children()
    pool = WorkerPool(config(server), workers=2)
    workers = children() - before
    if running:
        pool.start_phase(spec(4))
        until_events(pool)
    began_ns = monotonic_ns()
    pool.close()
    assert not any(map(runs, workers))
    # execnet kills what has not ended by itself after 5 s.
    assert monotonic_ns() - began_ns < 4.5 * NS_PER_S
    pool.close()


CONTROLLER = """
import json, sys, time
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.load.pool import WorkerPool
config, spec = json.loads(sys.stdin.readline())
spec["trajectories"] = tuple(spec["trajectories"])
pool = WorkerPool(config, workers=2)
pool.start_phase(PhaseSpec(**spec))
while not pool.poll(0.05).activations:
    pass
print("running", flush=True)
time.sleep(600)
"""


def test_workers_end_when_the_controller_is_killed(server: SimServer) -> None:
    phase = spec(4)
    wire = {name: getattr(phase, name) for name in PhaseSpec.__slots__}
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    workers: set[int] = set()
    try:
        assert controller.stdin is not None
        assert controller.stdout is not None
        controller.stdin.write(json.dumps([config(server), wire]).encode() + b"\n")
        controller.stdin.flush()
        assert controller.stdout.readline() == b"running\n"
        workers = children(controller.pid)
        assert len(workers) == 2
        controller.kill()
        gone(*workers)
    finally:
        controller.kill()
        controller.communicate()
        for pid in filter(runs, workers):
            os.kill(pid, signal.SIGKILL)


def test_the_key_is_on_no_command_line(server: SimServer) -> None:
    before = children()
    with pool_of(1, config(server)):
        (worker,) = children() - before
        for name in ("cmdline", "environ"):
            assert API_KEY.encode() not in Path(f"/proc/{worker}/{name}").read_bytes()
