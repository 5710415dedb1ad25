"""`agentperf doctor --load`, with real workers of this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_agentperf.cli import load_hosts, main
from pytest_agentperf.load.chores import Chores


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short calibration."""
    monkeypatch.setattr(load_hosts, "_HOLD_S", 0.4)
    monkeypatch.setattr(load_hosts, "_AGENTS_PER_WORKER", 32)
    monkeypatch.setattr("pytest_agentperf.load.chores._LOCK_RETRY_S", 0.05)


def test_workers_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--load", "2*popen"])
    out, err = capsys.readouterr()
    head, row, *_ = out.splitlines()
    assert head.split()[:3] == ["place", "host", "workers"]
    assert row.split()[:4] == ["2*popen", "this", "machine", "2"]
    assert row.endswith("ours")
    assert "all together" in out
    assert "64 agents at" in out
    assert "load workers: 2*popen …" in err
    assert "calibrating the load generator: 64 agents" in err


def test_a_busy_host_is_waited_for_and_told_and_one_that_cannot_join_is_a_row_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(load_hosts, "_say", said.append)
    ask, answers = Chores._ask, [False, False]

    def busy_at_first(self: Chores, host: Any, name: str, **arguments: Any) -> Any:
        return answers.pop() if name == "lock" and answers else ask(self, host, name, **arguments)

    monkeypatch.setattr(Chores, "_ask", busy_at_first)
    assert main(["doctor", "--load=1*popen", "--load=1*popen//python=/nowhere/python", "--json"]) == 1
    waits = [text for text in said if "another run's probe: waiting for its end" in text]
    assert len(waits) == 1
    found = json.loads(capsys.readouterr().out)
    here, nowhere = found["load table"]
    assert here["place"] == "1*popen"
    assert here["host"] == "this machine"
    assert here["workers"] == 1
    assert here["share_chunks_per_s"] > 0
    assert here["agents_max"] > 0
    assert {key for key, value in nowhere.items() if value is not None} == {"place"}
    checks = {check["name"]: check["status"] for check in found["load hosts"]}
    assert checks[nowhere["place"]] == "failed"
    assert checks["all together"] in ("ok", "warning")
