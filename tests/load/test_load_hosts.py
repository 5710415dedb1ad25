"""Several load hosts, played by scripts: how they join, what they are trusted with, how they are lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from load_support import HEALTH, MS, phase_spec
from scripted_place import ScriptedPlace

from pytest_agentperf import __version__
from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.config.load_spec import parse_load_specs
from pytest_agentperf.core.answers_so_far import AnswersSoFar, UnderWay
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.phase import Completion, PhaseEvents
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestKey
from pytest_agentperf.core.redact import bare
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load import pool as pool_module
from pytest_agentperf.load.host_facts import HostFacts
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.phase_frame import phase_from_wire
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.load.worker import events_to_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HERE = HostFacts.here()
AHEAD_NS = 5_000 * NS_PER_S


def facts(name: str, **changes: Any) -> HostFacts:
    fields: dict[str, Any] = {"id": name, "name": name, "cores": 8, "chunks_per_core_s": 1_000.0}
    return HERE._replace(**(fields | changes))


class Far:
    """A host whose one worker answers everything; its clock is AHEAD."""

    def __init__(self, name: str, *, ahead_ns: int = AHEAD_NS, busy: int = 0, **changes: Any) -> None:
        self.frames: list[tuple[Any, ...]] = []
        self.busy = busy
        self.reach: str | None = None
        self.place = ScriptedPlace(
            self.answer, remote=True, facts=facts(name, **changes), clock_ahead_ns=ahead_ns
        )

    def answer(self, frame: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        self.frames.append(frame)
        if frame[0] == "chore" and frame[1] == "lock":
            self.busy -= 1
            yield "chore", self.busy < 0
        elif frame[0] == "chore":
            yield "chore", self.reach if frame[1] == "reach" else None
        elif frame[0] == "stop":
            yield "answers", []
            yield "records", self.columns().to_wire(), HEALTH

    def columns(self) -> Any:
        builder = ColumnsBuilder()
        for agent in self.agents():
            sent_ns = self.phase()[3] + 10 * MS
            key = RequestKey(phase=1, attempt=0, agent=agent, ordinal=0, trajectory="t", turn=0)
            builder.add(key, Answer(t_sent_ns=sent_ns, t_end_ns=sent_ns + 7, t_first_ns=sent_ns + 3))
        return builder.finish()

    def phase(self) -> tuple[Any, ...]:
        return next(frame for frame in self.frames if frame[0] == "phase")

    def agents(self) -> list[int]:
        return phase_from_wire(*self.phase()[1:3])[1]

    @property
    def link(self) -> Any:
        return self.place.links[0]


class Pools:
    """Opens pools over hosts of one run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, segments: Path) -> None:
        self._monkeypatch, self._segments = monkeypatch, segments
        self.waits: list[str] = []
        self.opened: list[WorkerPool] = []

    def hosts(self, *names: str, fewer_allowed: bool = False) -> LoadHosts:
        lines = parse_load_specs([f"ssh={name}" for name in names], where="here")
        return LoadHosts(lines, fewer_allowed=fewer_allowed, on_wait=self.waits.append)

    def open(self, hosts: LoadHosts, *far: Far | LoadError, **config: Any) -> WorkerPool:
        left = list(far)

        def open_place(line: Any) -> Any:
            found = left.pop(0)
            if isinstance(found, LoadError):
                raise found
            return found.place

        self._monkeypatch.setattr(pool_module, "open_place", open_place)
        pool = WorkerPool(config | {"segments": str(self._segments)}, hosts=hosts)
        self.opened.append(pool)
        return pool


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pools]:
    (tmp_path / "segments").write_bytes(b"x")
    found = Pools(monkeypatch, tmp_path)
    yield found
    for pool in found.opened:
        pool.close()


def test_times_of_a_host_are_told_in_ours_and_durations_stay_its_own(pools: Pools) -> None:
    a, b = Far("a"), Far("b", ahead_ns=-3)
    pool = pools.open(pools.hosts("a", "b"), a, b)
    start_ns = pool.start_phase(phase_spec(4))
    bound_ns = MS * 50
    assert abs(a.phase()[3] - start_ns - AHEAD_NS) < bound_ns
    a.link.say("events", events_to_wire(PhaseEvents(completions=[Completion(0, start_ns + AHEAD_NS)])))
    (done,) = pool.poll(0.0).completions
    assert abs(done.t_ns - start_ns) < bound_ns
    pool.close_window(start_ns + 9)
    assert abs(a.frames[-1][1] - (start_ns + 9 + AHEAD_NS)) < bound_ns
    columns = pool.stop_phase()
    assert set(columns["agent"]) == {0, 1, 2, 3}
    assert (abs(columns["t_sent_ns"] - start_ns - 10 * MS) < bound_ns).all()
    assert set(columns["t_end_ns"] - columns["t_sent_ns"]) == {7}
    assert set(columns["t_first_ns"] - columns["t_sent_ns"]) == {3}
    assert set(columns["t_last_ns"]) == {-1}
    load = pool.describe()
    assert [host["name"] for host in load["hosts"]] == ["a", "b"]
    assert 0 < load["clock_error_s"] < 0.05
    assert load["clock_error_s"] == max(host["clock_error_s"] for host in load["hosts"])


def test_looks_are_in_our_time_too(pools: Pools) -> None:
    a = Far("a")
    pool = pools.open(pools.hosts("a"), a)
    start_ns = pool.start_phase(phase_spec(1))
    one = AnswersSoFar.of(ColumnsBuilder().finish(), [UnderWay(0, 0, start_ns + AHEAD_NS, None)])
    a.link.answer = lambda frame: [("look", one.to_wire())]
    assert abs(int(pool.look().t_sent_ns[0]) - start_ns) < 50 * MS


def test_a_clock_that_jumps_in_a_phase_is_seen_at_its_end(pools: Pools) -> None:
    a = Far("a")
    pool = pools.open(pools.hosts("a"), a)
    pool.start_phase(phase_spec(1))
    a.link.clock_ahead_ns += 2 * NS_PER_S
    pool.stop_phase()
    assert 1.9 < pool.describe()["clock_error_s"] < 2.1


def test_clocks_are_asked_again_while_a_phase_lasts(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_agentperf.load.clocks._EVERY_NS", 0)
    a = Far("a")
    pool = pools.open(pools.hosts("a"), a)
    pool.start_phase(phase_spec(1))
    a.link.clock_ahead_ns += NS_PER_S
    for _ in range(20):
        pool.poll(0.0)
    assert 0.9 < pool.describe()["clock_error_s"] < 1.1


def test_agents_go_where_there_is_capacity(pools: Pools) -> None:
    fast, slow = Far("fast", chunks_per_core_s=3_000.0), Far("slow", chunks_per_core_s=1_000.0)
    pool = pools.open(pools.hosts("fast", "slow"), fast, slow)
    pool.start_phase(phase_spec(40))
    assert (len(fast.agents()), len(slow.agents())) == (30, 10)


def test_a_host_takes_no_more_than_its_limits_carry(pools: Pools) -> None:
    narrow, wide = Far("narrow", ports=3), Far("wide")
    pool = pools.open(pools.hosts("narrow", "wide"), narrow, wide)
    pool.start_phase(phase_spec(40))
    assert (len(narrow.agents()), len(wide.agents())) == (3, 37)


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"version": "9.9"}, "runs 9.9"), ({"code": "0" * 64}, f"an edited copy of {__version__}")],
)
def test_other_code_is_refused_with_what_to_install(pools: Pools, changes: dict[str, Any], what: str) -> None:
    wrong = Far("b", **changes)
    with pytest.raises(LoadError, match=what) as caught:
        pools.open(pools.hosts("a", "b"), Far("a"), wrong)
    assert caught.value.where == "load host b"
    assert f"pytest-agentperf=={__version__}" in (caught.value.remedy or "")
    assert ("closed",) in wrong.link.sent


def test_a_host_is_sent_paths_of_its_own(pools: Pools) -> None:
    a = Far("a")
    pools.open(pools.hosts("a"), a)
    assert ("config", {"segments": "/kept/there"}) in a.link.sent
    assert [frame[0] for frame in a.link.sent[:3]] == ["hello", "wanted", "config"]


def test_no_frame_on_its_way_shows_a_key(pools: Pools) -> None:
    a = Far("a")
    pools.open(pools.hosts("a"), a, headers={"Authorization": "Bearer sk-hunter2"})
    (sent,) = (frame for frame in a.link.sent if frame[0] == "config")
    assert "sk-hunter2" not in repr(sent)
    _, config = bare(sent)
    assert type(config) is dict
    assert config["headers"] == {"Authorization": "Bearer sk-hunter2"}


def test_hosts_that_count_otherwise_than_the_others_are_refused(pools: Pools) -> None:
    counting, other, without = Far("a"), Far("b"), Far("c")
    counting.place.counts_with = other.place.counts_with = "tokenizers"
    pools.open(pools.hosts("a", "b"), counting, other)
    counting, other = Far("a"), Far("b")
    counting.place.counts_with = "tokenizers"
    with pytest.raises(
        LoadError, match="worker 1 on b counts no tokens, load worker 0 on a tokens with tokenizers"
    ) as caught:
        pools.open(pools.hosts("a", "b"), counting, other)
    assert caught.value.remedy == "pip install 'pytest-agentperf[tokenizers]' on b, in the same version"
    assert ("closed",) in other.link.sent
    counting = Far("a")
    counting.place.counts_with = "tokenizers"
    with pytest.raises(LoadError, match="load worker 1 on a counts tokens with tokenizers") as caught:
        pools.open(pools.hosts("c", "a"), without, counting)
    assert "on c," in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("files", "sent"),
    [
        (("tokenizer.json", "vocab.json"), {"tokenizer.json"}),
        (
            (
                "tokenizer_config.json",
                "vocab.json",
                "merges.txt",
                "added_tokens.json",
                "special_tokens_map.json",
            ),
            {
                "tokenizer_config.json",
                "vocab.json",
                "merges.txt",
                "added_tokens.json",
                "special_tokens_map.json",
            },
        ),
        (
            ("sentencepiece.bpe.model", "model.safetensors", "model.safetensors.index.json"),
            {"sentencepiece.bpe.model"},
        ),
    ],
)
def test_a_tokenizer_is_sent_with_all_that_it_is_read_from(
    pools: Pools, tmp_path: Path, files: tuple[str, ...], sent: set[str]
) -> None:
    folder = tmp_path.parent / f"{tmp_path.name}-tokenizer"
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(b"{}")
    a = Far("a")
    a.place.keeps_nothing = True
    pools.open(pools.hosts("a"), a, tokenizer=str(folder))
    assert {frame[1] for frame in a.link.sent if frame[0] == "file"} == {"segments"} | sent
    assert ("config", {"segments": "/kept/there", "tokenizer": "/kept/there"}) in a.link.sent


def test_a_host_that_dies_ends_the_phase_and_is_named(pools: Pools) -> None:
    a, b = Far("a"), Far("b")
    pool = pools.open(pools.hosts("a", "b"), a, b)
    pool.start_phase(phase_spec(4))
    b.link.die("Connection reset by peer")
    with pytest.raises(LoadError, match="load worker 1 on b is gone:\nConnection reset") as caught:
        pool.poll(0.0)
    assert "network" in (caught.value.remedy or "")


def test_a_host_that_says_nothing_is_named(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Far("a"), Far("b")
    pool = pools.open(pools.hosts("a", "b"), a, b)
    pool.start_phase(phase_spec(4))
    pool._crew.workers[1].heard_ns -= 60 * NS_PER_S
    with pytest.raises(LoadError, match="load worker 1 on b has said nothing for 15 s"):
        pool.poll(0.0)


def test_a_host_that_does_not_answer_is_named_however_much_others_say(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_LOOK_TIMEOUT_S", 0.3)
    a, b = Far("a"), Far("b")
    pool = pools.open(pools.hosts("a", "b"), a, b)
    pool.start_phase(phase_spec(4))
    one = AnswersSoFar.of(ColumnsBuilder().finish(), [])
    a.link.answer = lambda frame: [("look", one.to_wire())]
    over = threading.Event()

    def chatter() -> None:
        while not over.wait(0.05):
            a.link.say("events", events_to_wire(PhaseEvents()))

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        with pytest.raises(LoadError, match="load worker 1 on b did not answer"):
            pool.look()
    finally:
        over.set()
        thread.join()


def say_nothing(pool: WorkerPool) -> None:
    pool._crew.workers[0].heard_ns -= 60 * NS_PER_S


def break_line(pool: WorkerPool) -> None:
    link: Any = pool._crew.workers[0].link
    link.die("Connection reset by peer")


@pytest.mark.parametrize("lose", [say_nothing, break_line])
def test_a_new_pool_waits_until_workers_that_were_lost_have_ended(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, lose: Callable[[WorkerPool], None]
) -> None:
    monkeypatch.setattr(pool_module, "ALONE_S", 0.4)
    hosts = pools.hosts("a")
    pool = pools.open(hosts, Far("a"))
    pool.start_phase(phase_spec(1))
    lose(pool)
    with pytest.raises(LoadError):
        pool.poll(0.0)
    pool.close()
    until_ns = hosts.quiet_from_ns
    pools.open(hosts, Far("a"))
    assert monotonic_ns() >= until_ns > 0
    assert any("workers that were lost" in text for text in pools.waits)


def test_a_run_goes_on_without_a_host_that_was_lost(pools: Pools) -> None:
    hosts = pools.hosts("a", "b", fewer_allowed=True)
    pools.open(hosts, Far("a"), Far("b"))
    away = LoadError("no load worker can be started: timed out")
    pool = pools.open(hosts, Far("a"), away)
    pool.start_phase(phase_spec(3))
    assert [host.name for host in pool.hosts] == ["a"]
    assert pool.describe()["hosts_lost"] == [{"name": "1*ssh=b", "why": away.what}]


def test_a_run_goes_on_with_what_is_left_of_a_cluster(pools: Pools) -> None:
    hosts = LoadHosts(parse_load_specs(["2*ray=auto"], where="here"), fewer_allowed=True)

    def cluster() -> Far:
        far = Far("a")
        far.place._answers.append(far.answer)
        far.place.room = 1
        return far

    pool = pools.open(hosts, cluster())
    assert (pool.workers_for(1), pool.describe()["hosts_lost"]) == (2, [])
    pool = pools.open(hosts, cluster())
    pool.start_phase(phase_spec(3))
    assert pool.workers_for(1) == 1
    lost = {"name": "2*ray=auto", "why": "only 1 of 2 load workers started"}
    assert pool.describe()["hosts_lost"] == [lost]


@pytest.mark.parametrize("fewer_allowed", [True, False])
def test_all_hosts_have_to_join_at_first_and_where_the_rules_say_so_always(
    pools: Pools, fewer_allowed: bool
) -> None:
    away = LoadError("no load worker can be started: timed out")
    hosts = pools.hosts("a", "b", fewer_allowed=fewer_allowed)
    with pytest.raises(LoadError, match="timed out"):
        pools.open(hosts, Far("a"), away)
    pools.open(hosts, Far("a"), Far("b"))
    if not fewer_allowed:
        with pytest.raises(LoadError, match="timed out"):
            pools.open(hosts, Far("a"), away)


def test_a_run_without_any_host_is_told_why(pools: Pools) -> None:
    hosts = pools.hosts("a", fewer_allowed=True)
    pools.open(hosts, Far("a"))
    with pytest.raises(LoadError, match="no load host is left") as caught:
        pools.open(hosts, LoadError("timed out"))
    assert "timed out" in (caught.value.remedy or "")


def test_a_host_that_carries_another_probe_is_waited_for(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentperf.load.chores._LOCK_RETRY_S", 0.0)
    a = Far("a", busy=2)
    pool = pools.open(pools.hosts("a"), a)
    pool.start_phase(phase_spec(1))
    assert [frame[1] for frame in a.frames if frame[0] == "chore"] == ["lock"] * 3
    assert sum("another run's probe" in text for text in pools.waits) == 1
    pool.stop_phase()
    assert a.frames[-1][1] == "unlock"


def test_an_endpoint_out_of_reach_is_told_per_host(pools: Pools) -> None:
    a, b = Far("a"), Far("b")
    pool = pools.open(pools.hosts("a", "b"), a, b)
    b.reach = "No route to host"
    assert pool.unreachable() == {"b": "No route to host"}


def test_many_workers_report_less_often(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    a = Far("a")
    pool = pools.open(pools.hosts("a"), a)
    pool.start_phase(phase_spec(1))
    assert a.phase()[5] == 100 * MS
    monkeypatch.setattr(pool_module, "_REPORTS_PER_S", 2)
    a.frames.clear()
    pool.start_phase(phase_spec(1))
    assert a.phase()[5] == 500 * MS
