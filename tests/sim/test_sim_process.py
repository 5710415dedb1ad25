from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
from sim_support import engine_config

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from pathlib import Path


def launch(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest_agentperf.sim", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_serves_until_the_block_ends() -> None:
    config = engine_config(context_tokens=1_234)
    with SimServer(config, model="tiny", api_key="sesame", faults=FaultRates(fail=1.0)) as server:
        assert server.alive()
        assert server.pid != os.getpid()
        assert server.url.endswith("/v1")
        with httpx.Client(
            base_url=server.url, headers={"authorization": "Bearer sesame"}, trust_env=False
        ) as client:
            models = client.get("/models").json()["data"]
            assert [(model["id"], model["max_model_len"]) for model in models] == [("tiny", 1_234)]
            assert client.post("/chat/completions", json={}).status_code == 503
        assert httpx.get(f"{server.url}/models", trust_env=False).status_code == 401
    assert not server.alive()


def test_stop_tells_the_exit_code() -> None:
    server = SimServer()
    server.start()
    assert server.stop() == 0
    assert server.stop() is None


def test_a_server_that_cannot_start_says_why() -> None:
    with SimServer() as first:
        port = int(first.url.split(":")[2].partition("/")[0])
        with pytest.raises(EndpointError, match="ended with code 2") as caught:
            SimServer(port=port).start()
    assert "cannot listen" in str(caught.value)
    assert str(port) in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    process = launch("--port", "0")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert (ready["event"], ready["pid"]) == ("ready", process.pid)
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")


def test_it_ends_with_its_parent() -> None:
    process = launch("--exit-with-parent")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "ready"
    output, errors = process.communicate(timeout=10)  # closes stdin
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--api-key-env", "AGENTPERF_TEST_UNSET"], "AGENTPERF_TEST_UNSET is not set"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--port", "70000"], "70000 is not between 0 and 65535"),
        (["--fail-rate", "2"], "2 is not between 0 and 1"),
    ],
)
def test_mistakes_are_named_without_a_traceback(arguments: list[str], message: str) -> None:
    process = launch(*arguments)
    try:
        output, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


def test_yaml_configures_it(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("accelerators: 3\n")
    process = launch("--config", str(path), "--exit-with-parent")
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"].removesuffix("/v1")
    page = httpx.get(f"{url}/metrics", trust_env=False).text
    process.communicate(timeout=10)
    assert page.count("agentperf_sim_power_watts{") == 3
