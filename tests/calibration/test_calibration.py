"""The load generator against the null server, over real sockets."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_agentperf.calibration import Compared, Share, _calibration, _compare, _groups, calibrate
from pytest_agentperf.cli import main
from pytest_agentperf.config.bundled import find_dataset
from pytest_agentperf.core.client_error import Calibration
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestKey
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.dataset import open_dataset
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.host_facts import host_id
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.load.sse import decode
from pytest_agentperf.sim.null import Truth, null_servers
from pytest_agentperf.worker import RequestRules, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO_SET = find_dataset("bundled:demo-v1", relative_to=Path())
TRAJECTORIES = open_dataset(DEMO_SET).ids()


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with EncodedDataset(DEMO_SET, max_prompt_tokens=100_000, history_reasoning="all") as dataset:
        yield from pool_of(str(dataset.folder))


def pool_of(segments: str) -> Iterator[WorkerPool]:
    config = WorkerConfig(
        url="http://127.0.0.1:9/v1",
        headers={"Authorization": "Bearer sk-0123456789abcdef"},
        model="m",
        parameters={},
        segments=segments,
        rules=RequestRules.of(DEMO_1),
        tokenizer=None,
    )
    found = WorkerPool(config.to_wire(), workers=1)
    yield found
    found.close()


def test_what_the_client_adds_is_small_against_what_it_measures(pool: WorkerPool) -> None:
    found = calibrate(pool, TRAJECTORIES, n_agents=20, chunks_per_s=400.0, hold_s=1.0)
    assert found.n_agents == 20
    assert found.requests >= 20
    assert found.workers == 1
    assert -0.001 < found.ttft_error_p50_s <= found.ttft_error_p99_s
    # Bounds that a machine under any load keeps; how small it is, the benchmark tells.
    assert found.ttft_error_p50_s < 1.0
    assert found.chunks_per_s_reached > 0


def test_a_second_calibration_uses_the_same_workers(pool: WorkerPool) -> None:
    before = pool.describe()["workers"]
    said: list[str] = []
    calibrate(pool, TRAJECTORIES, n_agents=5, chunks_per_s=100.0, hold_s=1.0, on_progress=said.append)
    assert pool.describe()["workers"] == before
    assert said == ["calibrating the load generator: 5 agents, 100 chunks/s"]


def test_a_null_server_that_goes_away_is_an_error(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    start_phase = pool.start_phase

    def to_nobody(spec: Any, *, urls: Any) -> int:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        return start_phase(spec, urls={host_id(): [f"http://127.0.0.1:{port}/v1"]})

    monkeypatch.setattr(pool, "start_phase", to_nobody)
    with pytest.raises(LoadError, match=r"requests to the null server failed \(connect"):
        calibrate(pool, TRAJECTORIES, n_agents=5, chunks_per_s=100.0, hold_s=0.3)


def test_the_null_server_tells_the_truth() -> None:
    """Read by the plainest client: what it noted is what came, in order and number."""
    with null_servers(1, tokens_per_s=100.0, answer_s=0.2) as servers:
        port = int(servers.urls[0].rpartition(":")[2].removesuffix("/v1"))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            received = b""
            for _ in range(2):
                sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 4\r\n\r\n{")
                sock.sendall(b"  }")
                start = len(received)
                while not received[start:].endswith(b"0\r\n\r\n"):
                    received += sock.recv(65_536)
        truth = Truth(servers.stop())
    answers = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert len(answers) == 2
    for number, answer in enumerate(answers):
        body = answer.partition(b"\r\n\r\n")[2]
        content = decode([(0, b"".join(part for part in body.split(b"\r\n") if part.startswith(b"data:")))])
        assert content.failure is None
        assert content.response_id == f"null-0-{number}"
        assert content.output_tokens == content.content_chunks >= 3
        came, first, last = truth.answers[f"null-0-{number}"]
        assert came + NS_PER_S // 50 <= first < last
        assert last - first >= (content.content_chunks - 1) * NS_PER_S // 200


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--agents=8", "--speed=10", "--seconds=1", "--json"]) in (0, 1)
    out, err = capsys.readouterr()
    assert json.loads(out)["n_agents"] == 8
    assert "8 agents" in err
    main(["calibrate", "--agents=8", "--speed=10", "--seconds=1"])
    assert "added to TTFT" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--agents=0", "--speed=0", "--seconds=-1", "--workers=0"])
def test_bad_input_costs_no_time(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", flag]) == 2
    assert flag.split("=")[0] in capsys.readouterr().err


def compared(answers: int, *, read_at_once: int) -> float:
    """P99 of the speed error: ten tokens from 5 to 10 s, some answers read in one piece."""
    truth, columns = Truth(), ColumnsBuilder()
    for i in range(answers):
        truth.answers[f"a{i}"] = (0, 5 * NS_PER_S, 10 * NS_PER_S)
        whole = i < read_at_once
        columns.add(
            RequestKey(phase=0, attempt=0, agent=i, ordinal=0, trajectory="t", turn=0),
            Answer(
                t_sent_ns=0,
                t_first_ns=10 * NS_PER_S if whole else 5 * NS_PER_S,
                t_last_ns=10 * NS_PER_S,
                t_end_ns=10 * NS_PER_S,
                status=200,
                response_id=f"a{i}",
                output_tokens=10,
                first_chunk_tokens=10 if whole else 1,
                first_chunk_source="usage",
                content_chunks=10,
            ),
        )
    load = {"cpu_share_max": 0.1, "workers": 1}
    share = Share("this machine", answers, 1.0)
    (group,) = _groups([_compare(columns.finish(), truth, share, 0, 20 * NS_PER_S)])
    return _calibration(group, load).speed_error_p99


def test_an_answer_that_was_read_in_one_piece_counts_as_an_error() -> None:
    assert compared(40, read_at_once=0) == pytest.approx(0)
    # Nine tokens in 5 s; such a client says ten in 10 s.
    assert compared(40, read_at_once=20) == pytest.approx(1 - (10 / 10) / (9 / 5))


def test_too_few_answers_to_compare() -> None:
    with pytest.raises(LoadError, match="only 3 answers"):
        compared(3, read_at_once=0)


def host(name: str, answers: int, error_s: float = 0.001) -> Compared:
    """A host that reached its share of a load, always equally late."""
    return Compared(Share(name, answers, 100.0), 100.0, np.full(answers, error_s), np.full(answers, 0.01))


def test_hosts_with_few_answers_are_judged_together_and_all_others_alone() -> None:
    found = _groups([host("big", 250), host("s1", 60), host("fair", 100), host("s2", 5), host("s3", 60)])
    assert [[one.share.host for one in group] for group in found] == [["s2", "s1", "s3"], ["fair"], ["big"]]
    # What is left over has no P99 of its own either.
    (group,) = _groups([host("a", 60), host("b", 60), host("c", 60)])
    assert len(group) == 3


def test_many_hosts_with_few_answers_each_are_no_error_but_one_without_any_is() -> None:
    assert len(_groups([host(f"h{i}", 4) for i in range(100)])) == 4
    with pytest.raises(LoadError, match="only 0 answers") as caught:
        _groups([host("busy", 250), host("silent", 0)])
    assert caught.value.where == "silent"


def test_one_bad_host_among_many_is_seen() -> None:
    load = {"cpu_share_max": 0.1, "workers": 300}
    hosts = [host(f"h{i}", 250, 0.2 if i == 7 else 0.001) for i in range(150)]
    found = Calibration.of_hosts([_calibration(group, load) for group in _groups(hosts)])
    assert found.ttft_error_p99_s == pytest.approx(0.2)
    assert found.ttft_error_p50_s == pytest.approx(0.2)
    assert (found.requests, found.workers) == (150 * 250, 300)


def test_a_host_that_falls_short_is_not_made_good_in_its_group() -> None:
    short = host("short", 60)._replace(chunks_per_s_reached=10.0)
    found = _calibration([host("a", 60), short], {"cpu_share_max": 0.1, "workers": 2})
    assert found.chunks_per_s == 200.0
    assert found.chunks_per_s_reached == pytest.approx(20.0)
