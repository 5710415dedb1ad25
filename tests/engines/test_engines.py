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
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import recipes
import tiny_model
import yaml

from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.launch import Launch, LaunchEnvironment
from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.dataset import DatasetMetadata, write_dataset
from pytest_agentperf.deploy.launch import LaunchedServer

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = {"llama.cpp": recipes.llama_cpp, "dynamo": recipes.dynamo}
ANSWER_TOKENS = 192
SESSION_MAX_S = 900
RULES = {
    "output_length": "exact",
    "max_tokens": ANSWER_TOKENS,
    "min_window_s": 8.0,
    "min_trajectories": 4,
    "min_trajectories_per_agent": 1,
    "resolution": 0.0,
    "warmup_agents": 1,
    "warmup_max_s": 5.0,
    "idle_max_s": 30.0,
    # Server and load share this machine, and where the knee is does not hang on milliseconds.
    "client_lag_p99_max_s": 30.0,
    "client_error_max": 0.99,
    "calibration_s": 2.0,
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


def write_dataset_of_short_prompts(folder: Path) -> Path:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You write code."}]
    turns = []
    for number in range(3):
        messages.append({"role": "user", "content": f"Write function number {number}."})
        turns.append(Turn(((0, len(messages)),), 0, output_tokens=ANSWER_TOKENS))
        messages.append({"role": "assistant", "content": "def f(x):\n    return x"})
    metadata = DatasetMetadata(name="short", version="1", licence="Apache-2.0", provenance="made by a test")
    write_dataset(folder, [Trajectory(f"t{n}", tuple(messages), tuple(turns)) for n in range(8)], metadata)
    return folder


def write_workplace(folder: Path, engine: recipes.Engine) -> None:
    suite = {
        "schema": "agentperf-suite/1",
        "name": "slots",
        "title": "Slots",
        "model": engine.model,
        "max_context_tokens": 4_096,
        "max_tokens": ANSWER_TOKENS,
        "history_reasoning": "none",
        "edition": "1",
        "editions": {
            "1": {
                "source": "between as many agents as slots and one more",
                "tiers": {"tier1": {"output_speed_p25_tok_s": 1, "ttft_p95_s": engine.ttft_p95_s}},
            }
        },
        "sampling": {
            "parameters": {"temperature": 1.0},
            "source": "tests",
            "max_effort": {"default": {"parameters": {}, "source": "tests"}},
        },
        "dataset": str(write_dataset_of_short_prompts(folder / "short")),
        "ruleset": "demo/1",
        "overrides": RULES,
    }
    system = {
        "schema": "agentperf-system/1",
        "name": "engine",
        "title": engine.name,
        "accelerator": {"name": "none", "vendor": "none"},
        "submitter": {"name": "tests"},
        "deployments": {
            "main": {
                "endpoint": {"url": recipes.URL, "model": engine.model},
                "allocated_accelerators": 1,
                "search_start": 2,
                "launch": {**engine.launch, "ready_deadline_s": 180, "stop_grace_s": 10},
                "serving": {"framework": engine.framework},
            }
        },
    }
    for name, content in (("suites/slots/suite.yaml", suite), ("systems/engine.yaml", system)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    test = "def test_capacity(capacity_run, slo_tier):\n    assert capacity_run.agents\n"
    (folder / "suites" / "slots" / "test_capacity.py").write_text(test, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")


def commands() -> str:
    return subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("time", [1, 2, 3], ids=lambda number: f"time{number}")
@pytest.mark.parametrize("engine", list(ENGINES), indirect=True)
def test_the_capacity_is_the_number_of_slots(engine: recipes.Engine, time: int, tmp_path: Path) -> None:
    write_workplace(tmp_path, engine)
    command = [sys.executable, "-m", "pytest", "suites/slots", "--system=engine", "-p", "no:cacheprovider"]
    command += [f"--agentperf-max-agents={4 * engine.slots}", f"--agentperf-seed={time}"]
    session = subprocess.run(
        [*engine.prefix, *command], cwd=tmp_path, capture_output=True, text=True, timeout=SESSION_MAX_S
    )
    assert session.returncode == 0, session.stdout + session.stderr
    (path,) = tmp_path.glob("agentperf-results/*/leaderboard.json")
    (entry,) = Leaderboard.model_validate_json(path.read_text(encoding="utf-8")).entries
    (tier,) = entry.tiers
    print(session.stdout)  # noqa: T201 - the figures, for whoever asks for them with -rP
    assert (tier.agents, tier.confirmed, tier.binding_constraint) == (engine.slots, True, "ttft_p95"), (
        session.stdout
    )
    failures = {kind for phase in entry.phases if phase.metrics for kind in phase.metrics.failures}
    assert not failures, "no connection that a server closes is a lost request"
    # What was launched is told by the model's folder in its command line.
    assert not [line for line in commands().split("\n") if "tiny_model" not in line and str(tmp_path) in line]


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
        body = {"model": engine.model, "stream": True, "max_tokens": 4}
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
