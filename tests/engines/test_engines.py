"""Real engines, launched: the capacity is the number of slots that they were given. Run by `tox -e engines`.

With more agents than slots a request waits for another one to end, most of an answer's time; with as many, none does.
An answer takes long beside a prompt here, so that the two are far apart even on a busy machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import recipes
import tiny_model
from workplace import entry_of, examine, left_running, measure, write_workplace

from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.launch import Launch, LaunchEnvironment
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.deploy.launch import LaunchedServer

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = {
    "llama.cpp": recipes.llama_cpp,
    "dynamo": recipes.dynamo,
    "transformers": recipes.transformers_serve,
}


def cache_folder() -> Path:
    named = os.environ.get("AGENTPERF_ENGINES_CACHE")
    return Path(named) if named else Path(__file__).parents[2] / ".tox" / "engines-cache"


@pytest.fixture(scope="session")
def model() -> Path:
    # By its sources' content, so that a changed recipe makes another one.
    folder = cache_folder() / f"model-{hash_of(Path(tiny_model.__file__))}"
    return recipes.cached(folder, lambda folder: (tiny_model.make(folder), None)[1])


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, model: Path) -> recipes.Engine:
    prepare: Callable[[Path, Path], recipes.Engine] = ENGINES[request.param]
    made = prepare(cache_folder(), model)
    if made.name == "dynamo" and not made.prefix:
        pytest.skip("no network namespace can be made here, and it opens sockets to the network")
    return made


@pytest.mark.parametrize("time", [1, 2, 3], ids=lambda number: f"time{number}")
@pytest.mark.parametrize("engine", ["llama.cpp", "dynamo"], indirect=True)
def test_the_capacity_is_the_number_of_slots(engine: recipes.Engine, time: int, tmp_path: Path) -> None:
    write_workplace(tmp_path, engine)
    session = measure(
        tmp_path, engine, f"--agentperf-max-agents={4 * engine.slots}", f"--agentperf-seed={time}"
    )
    assert session.returncode == 0, session.stdout + session.stderr
    entry = entry_of(tmp_path)
    (tier,) = entry.tiers
    print(session.stdout)  # noqa: T201 - the figures, for whoever asks for them with -rP
    assert (tier.agents, tier.confirmed, tier.binding_constraint) == (engine.slots, True, "ttft_p95"), (
        session.stdout
    )
    failures = {kind for phase in entry.phases if phase.metrics for kind in phase.metrics.failures}
    assert not failures, "no connection that a server closes is a lost request"
    assert not left_running(tmp_path)


@pytest.mark.parametrize("engine", ["transformers"], indirect=True)
def test_transformers_serve_is_examined_and_measured(engine: recipes.Engine, tmp_path: Path) -> None:
    """It has no slots: whoever comes is served, slower and slower."""
    write_workplace(tmp_path, engine)
    examined = examine(tmp_path, engine)
    assert examined.returncode == 0, examined.stdout + examined.stderr
    (checks,) = json.loads(examined.stdout).values()
    found = {check["name"]: check["status"] for check in checks}
    assert {
        found[name] for name in ("endpoint", "model", "parameters", "streaming", "usage", "max_tokens")
    } == {"ok"}
    # It declares no context, and tells nothing of its cache.
    assert {found[name] for name in ("context", "prefix cache")} == {"warning"}
    session = measure(tmp_path, engine, f"--agentperf-max-agents={engine.slots}")
    print(session.stdout)  # noqa: T201
    assert session.returncode == 0, session.stdout + session.stderr
    entry = entry_of(tmp_path)
    assert (entry.tiers[0].agents, entry.tiers[0].confirmed) == (engine.slots, True)
    assert not {kind for phase in entry.phases if phase.metrics for kind in phase.metrics.failures}
    assert not left_running(tmp_path)


@pytest.mark.parametrize("engine", ["transformers"], indirect=True)
def test_transformers_serve_dies_of_an_over_long_prompt(engine: recipes.Engine, tmp_path: Path) -> None:
    """Its front lives on and lists its models; everything else is answered 503."""
    write_workplace(tmp_path, engine, long_last=True, restart=True, warmup_agents=0)
    session = measure(tmp_path, engine, "--agentperf-max-agents=1")
    print(session.stdout)  # noqa: T201
    entry = entry_of(tmp_path)
    first, second = entry.phases
    assert [reason.code for reason in first.invalid] == ["server_crashed"], session.stdout + session.stderr
    assert "No requests can be scheduled" in "".join(first.invalid[0].log_tail)
    assert first.metrics is not None
    assert "http_5xx" in first.metrics.failures
    assert second.verdicts[0].verdict is Verdict.FAIL
    assert entry.tiers[0].agents == 0
    logs = sorted(path.name for path in tmp_path.glob("agentperf-results/*/logs/*"))
    assert logs == ["main-server-1.log", "main-server-2.log"], "it was launched anew"
    assert not left_running(tmp_path)


@pytest.mark.parametrize("engine", ["llama.cpp"], indirect=True)
def test_llama_cpp_closes_every_connection_after_a_stream(engine: recipes.Engine, tmp_path: Path) -> None:
    """It promises to keep them: a client that believes it loses requests."""
    launch = Launch.model_validate({**engine.launch, "ready_deadline_s": 120})
    server = LaunchedServer(
        "main",
        launch,
        LaunchEnvironment.read(launch),
        recipes.URL,
        {},
        engine.model,
        RealClock(),
        directory=tmp_path,
    )
    server.start()
    try:
        port = int(server.url.split(":")[2].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body: dict[str, object] = {"model": engine.model, "stream": True, "max_tokens": 4}
        body["messages"] = [{"role": "user", "content": "Hello."}]
        with contextlib.closing(connection):
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            assert "timeout" in (response.getheader("Keep-Alive") or "")
            response.read()
            assert connection.sock is None or not connection.sock.recv(1)
    finally:
        server.stop()
