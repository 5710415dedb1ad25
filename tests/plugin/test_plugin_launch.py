"""Sessions that start their server: measured, crashed, restarted, ended with everything that they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from plugin_support import ENGINE, MODEL, Workplace, plain_environment, pytest_command, system_yaml, wait_for

from pytest_agentperf.cli import main
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:{port}/v1"
# Serves until so many requests run at once, then dies with all of them, as often as it is told.
FRAGILE = """
import os, re, sys, threading, time, urllib.request
from pathlib import Path

def watch(port, most, times):
    while True:
        time.sleep(0.01)
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        except OSError:
            continue
        running = sum(float(n) for n in re.findall(r"(?m)^vllm:num_requests_running\\S* (\\S+)", text))
        crashes = Path("crashes")
        if running >= most and len(crashes.read_text() if crashes.exists() else "") < times:
            with crashes.open("a") as file:
                file.write("x")
            print("out of memory at", running, os.environ["SIM_KEY"], flush=True)
            os._exit(9)

port, most, times, *arguments = sys.argv[1:]
threading.Thread(target=watch, args=(port, int(most), int(times)), daemon=True).start()
from pytest_agentperf.sim.__main__ import main
sys.argv[1:] = ["--port", port, *arguments]
sys.exit(main())
"""


def launching_system(place: Workplace, *, crash_at: int, crashes: int, **launch: Any) -> None:
    """Write a system whose server is the simulated one, and dies at so many requests, so many times."""
    place.write("fragile.py", textwrap.dedent(FRAGILE))
    place.write("systems/engine.json", json.dumps(ENGINE))
    system = yaml.safe_load(system_yaml("box", endpoint={"url": URL, "model": MODEL}))
    command = [sys.executable, "../fragile.py", "{port}", str(crash_at), str(crashes)]
    system["deployments"]["main"]["launch"] = {
        "command": [*command, "--model", MODEL, "--config", "engine.json"],
        "environment": {"SIM_KEY": "${PLANTED}"},
        "ready_deadline_s": 60,
        "stop_grace_s": 5,
        **launch,
    }
    place.write("systems/box.yaml", yaml.safe_dump(system, sort_keys=False))


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PLANTED", "sk-planted-0123")
    return "sk-planted-0123"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest("suites/tiny", "--system=box", "--agentperf-tier=tier1", *arguments)


def test_a_server_is_launched_measured_and_ended(
    pytester: pytest.Pytester, place: Workplace, planted: str
) -> None:
    launching_system(place, crash_at=99, crashes=0)
    run(pytester).assert_outcomes(passed=1)
    (tier,) = place.leaderboard("box").entries[0].tiers
    assert (tier.agents, tier.confirmed) == (2, True)
    assert [path.name for path in (place.run_folder("box") / "logs").iterdir()] == ["main-server-1.log"]
    kept = place.leaderboard("box").model_dump_json()
    assert "${PLANTED}" in kept
    assert planted not in kept


def test_a_server_that_crashes_once_is_restarted_and_the_probe_repeated(
    pytester: pytest.Pytester, place: Workplace, planted: str
) -> None:
    launching_system(place, crash_at=3, crashes=1, restart=True)
    result = run(pytester)
    result.assert_outcomes(passed=1)
    (entry,) = place.leaderboard("box").entries
    assert entry.tiers[0].agents == 2
    crashed, repeated = [phase for phase in entry.phases if phase.n_agents == 4]
    (reason,) = crashed.invalid
    assert reason.code == "server_crashed"
    assert reason.log_tail[-1] == "out of memory at 3.0 ***" or reason.log_tail[-1].startswith(
        "out of memory at"
    )
    assert "the last it said: out of memory at" in reason.what
    assert (repeated.attempt, repeated.invalid) == (1, ())
    logs = sorted((place.run_folder("box") / "logs").iterdir())
    assert [path.name for path in logs] == ["main-server-1.log", "main-server-2.log"]
    assert "out of memory" in logs[0].read_text()
    everything = b"".join(path.read_bytes() for path in place.results.rglob("*") if path.is_file())
    assert planted.encode() not in everything
    assert planted not in result.stdout.str()


def test_a_second_crash_at_the_same_number_is_fail(
    pytester: pytest.Pytester, place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launching_system(place, crash_at=3, crashes=9, restart=True)
    run(pytester, "--agentperf-set=confirm=false").assert_outcomes(passed=1)
    (entry,) = place.leaderboard("box").entries
    assert entry.tiers[0].agents == 2
    verdicts = [(p.n_agents, p.attempt, p.verdicts[0].verdict) for p in entry.phases if p.n_agents in (3, 4)]
    assert verdicts == [
        (4, 0, Verdict.INVALID),
        (4, 1, Verdict.FAIL),
        (3, 0, Verdict.INVALID),
        (3, 1, Verdict.FAIL),
    ]
    # What was under way when the server died has left no record, and is no forgery for that.
    path = tmp_path / "crashed.tar.gz"
    assert main(["bundle", str(place.run_folder("box")), "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["verify", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("stated reasons: server_crashed rests on what the run saw of the server") == 4


def test_without_restart_the_run_ends_with_what_it_knows(pytester: pytest.Pytester, place: Workplace) -> None:
    launching_system(place, crash_at=3, crashes=9)
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*the launched server crashed (server: it ended with code 9)*", "*out of memory at*"]
    )
    (tier,) = place.leaderboard("box").entries[0].tiers
    assert (tier.complete, tier.passed_max) == (False, 2)


def test_a_variable_that_is_not_set_skips(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    launching_system(place, crash_at=99, crashes=0)
    monkeypatch.delenv("PLANTED")
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs PLANTED to be set*"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_no_server_outlives_a_session(place: Workplace, number: signal.Signals) -> None:
    launching_system(place, crash_at=99, crashes=0)
    # The folder's name tells this server from those of other tests.
    mark = f"../../{place.folder.name}/fragile.py"
    path = place.folder / "systems" / "box.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("../fragile.py", mark), encoding="utf-8")
    session = subprocess.Popen(
        pytest_command("suites/tiny", "--system=box"),
        cwd=place.folder,
        env=plain_environment(PLANTED="sk-planted-0123"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def running() -> bool:
        shown = subprocess.run(
            ["ps", "-ww", "-eo", "args"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        return mark in shown

    def measuring() -> list[Path]:
        return [path for path in place.results.rglob("*.parquet") if path.is_file()]

    with session:
        try:
            wait_for(measuring)
            assert running()
        finally:
            os.killpg(session.pid, number)
    wait_for(lambda: not running())
