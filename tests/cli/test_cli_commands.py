"""What each command prints, and its exit codes: 0 done, 1 invalid or failed, 2 bad input, 130 interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from pytest_agentperf import __version__
from pytest_agentperf.cli import main
from pytest_agentperf.config.bundled import SUITES, SYSTEMS
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.config.suite import load_suite
from pytest_agentperf.config.system import load_system
from pytest_agentperf.deploy.lock import SystemLock
from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS = ("dataset", "init", "replay", "sim", "suites", "systems")
ENGINE = EngineConfig(
    step_base_ms=2.0, step_per_sequence_ms=1.0, output_tokens_median=16, output_tokens_p95=16
)
RULES = ("min_window_s=0.3", "settle_s=0.02", "min_trajectories=1", "min_trajectories_per_agent=0",
         "warmup_agents=1", "warmup_max_s=0.3", "idle_pause_s=0", "max_tokens=16", "failure_wait_s=0.1",
         "client_lag_p99_max_s=30", "client_error_max=0.99", "calibration_s=0.3")  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def agentperf(*arguments: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from pytest_agentperf.cli import main; raise SystemExit(main())",
        *arguments,
    ]


def words(text: str) -> str:
    return " ".join(text.split())


def test_help_names_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = words(capsys.readouterr().out)
    for command in COMMANDS:
        assert f" {command} " in text
    for part in ("Exit codes: 0 done;", "1 invalid,", "2 bad input;", "130 interrupted"):
        assert part in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: agentperf {command} ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"agentperf {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("measure",), ("replay",), ("replay", "--agents", "x")])
def test_wrong_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    assert "usage: agentperf" in capsys.readouterr().err


def test_suites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suites"]) == 0
    text = capsys.readouterr().out
    assert "deepseek_v4_pro  DeepSeek V4 Pro" in text
    assert "  edition 2026-06 (default)\n    tier1: ≥ 20 tok/s at P25, TTFT ≤ 10 s at P95\n" in text
    assert "  edition pre-launch\n" in text


def test_systems(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["systems"]) == 0
    text = capsys.readouterr().out
    assert "sim  Simulated system (not a product)" in text
    assert "no endpoint configured: set AGENTPERF_H200_URL" in text
    monkeypatch.setenv("AGENTPERF_H200_URL", "http://127.0.0.1:9/v1")
    assert main(["systems"]) == 0
    text = capsys.readouterr().out.partition("\nh200  ")[2].partition("\nmi355x  ")[0]
    assert "no API key: set AGENTPERF_H200_API_KEY" in text
    monkeypatch.setenv("AGENTPERF_H200_API_KEY", "sk-very-secret")
    assert main(["systems"]) == 0
    text = capsys.readouterr().out
    assert "ready to run" in text.partition("\nh200  ")[2].partition("\nmi355x  ")[0]
    assert "sk-very-secret" not in text


def test_a_broken_system_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "mine.yaml").write_text(
        "schema: agentperf-system/1\nname: mine\n", encoding="utf-8"
    )
    (tmp_path / "systems" / "sim.yaml").write_text("[", encoding="utf-8")
    assert main(["systems"]) == 2
    text = capsys.readouterr().out
    assert f"mine  broken: {tmp_path}/systems/mine.yaml:1: `title` is missing" in text
    assert "sim  broken: " in text, "the user's own file comes first"
    assert "gb300  NVIDIA GB300 NVL72" in text


def test_a_reader_that_leaves_is_no_error() -> None:
    """`agentperf systems | head -1`, with a reader that is gone before the first line."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(agentperf("systems"), stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


def test_init_writes_what_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "acme", "--model", "acme/coder"]) == 0
    text = capsys.readouterr().out
    assert "pytest suites/acme --system=acme" in text
    assert load_suite(tmp_path / "suites/acme/suite.yaml").model == "acme/coder"
    assert load_system(tmp_path / "systems/acme.yaml").name == "acme"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["init", "acme", "--model", "other"]) == 2
    assert "already there: " in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_init_refuses_a_bad_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "a-b", "--model", "m"]) == 2
    assert "agentperf: agentperf init: 'a-b' cannot name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# replay


@pytest.fixture(scope="module")
def server() -> Iterator[SimServer]:
    with SimServer(ENGINE, model="tiny", api_key="sk-agentperf-replay") as running:
        yield running


def replay(url: str, *arguments: str) -> list[str]:
    rules = [f"--set={rule}" for rule in RULES]
    return ["replay", "--url", url, "--model", "tiny", *rules, *arguments]


def test_replay_writes_records_and_numbers(
    server: SimServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-agentperf-replay")
    arguments = replay(server.url, "--agents=2", "--api-key-env=SOME_KEY", "--output=out.parquet")
    assert main(arguments) == 0
    shown = capsys.readouterr()
    frame = pd.read_parquet("out.parquet")
    assert set(frame["agent"]) == {0, 1}
    assert frame["failure"].isna().all()
    assert int(frame["in_window"].sum()) > 0
    assert shown.out.startswith("fixed     2 agents: P25 ")
    assert f"requests {int(frame['in_window'].sum())} in a window of 0." in shown.out
    assert "deviation: min_window_s 2.0 → 0.3" in shown.out
    assert shown.out.endswith("records: out.parquet\n")
    assert shown.err == "warmup, 1 agent\nfixed, 2 agents\n"
    assert "sk-agentperf" not in shown.out + shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    # Again: refused at once, and the file is as it was.
    before = (tmp_path / "out.parquet").read_bytes()
    assert main(arguments) == 2
    assert "out.parquet: it exists already" in capsys.readouterr().err
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_replay_of_a_failing_endpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentperf.deploy.preflight._PAUSE_S", 0.01)
    with SimServer(ENGINE, model="tiny", faults=FaultRates(fail=1.0)) as failing:
        assert main(replay(failing.url, "--agents=1")) == 1
    assert "HTTP 503" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_replay_of_an_invalid_phase(
    server: SimServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-agentperf-replay")
    arguments = ("--agents=1", "--api-key-env=SOME_KEY", "--set=client_lag_p99_max_s=1e-9")
    assert main(replay(server.url, *arguments)) == 1
    text = capsys.readouterr().out
    assert "→ use more load workers" in text
    assert "INVALID" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--agents=0",), 2, "--agents: 0 agents"),
        (("--agents=1", "--workers=0"), 2, "--workers: 0 workers"),
        (("--agents=1", "--output=no/such/folder.parquet"), 2, "no/such: no such folder"),
        (("--agents=1", "--suite=nothing"), 2, "no such file"),
        (("--agents=1", "--ruleset=mine/1"), 2, "unknown ruleset 'mine/1'"),
        (("--agents=1", "--set=x=1"), 2, "unknown rule 'x'"),
        (("--agents=1", "--dataset=bundled:x"), 2, "unknown dataset 'bundled:x'"),
        (("--agents=1", "--dataset=nowhere"), 1, "nowhere"),
        (("--agents=1", "--api-key-env=NO_SUCH_KEY"), 2, "no API key: set NO_SUCH_KEY"),
        (("--agents=1", "--set=calibration_s=0.3"), 1, "no answer"),
    ],
)
def test_replay_refuses(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--url", "http://127.0.0.1:9/v1", *arguments]) == code
    text = capsys.readouterr().err
    assert text.startswith("agentperf: ")
    assert message in text
    assert list(tmp_path.iterdir()) == []


def test_replay_shows_how_far_the_dataset_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentperf.encoding._PROGRESS_EVERY_NS", 0)
    arguments = ["replay", "--url", "http://127.0.0.1:9/v1", "--agents=1", "--dataset=bundled:demo-v1"]
    arguments += ["--set=calibration_s=0.3"]
    assert main(arguments) == 1
    assert "preparing the dataset, 24 of 24 trajectories\nagentperf: " in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(arguments) == 1
    assert (
        "\r\033[Kpreparing the dataset, 24 of 24 trajectories\r\033[Kagentperf: " in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "url",
    ["hunter2:8000", "http://me:hunter2@host/v1", "http://host:hunter2/v1", "http://host?k=hunter2", ""],
)
def test_replay_refuses_a_bad_url_without_repeating_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--url", url, "--agents=1"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("agentperf: --url: ")
    assert "hunter2" not in text
    assert "pydantic" not in text


def test_replay_refuses_a_key_in_place_of_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(replay("http://127.0.0.1:9/v1", "--agents=1", "--api-key-env=sk-hunter2")) == 2
    text = capsys.readouterr().err
    assert text.startswith("agentperf: --api-key-env: not the name of an environment variable")
    assert "hunter2" not in text


def test_replay_leaves_a_system_alone_that_is_being_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("AGENTPERF_H200_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("AGENTPERF_H200_API_KEY", "sk-agentperf-replay")
    suite, path = SUITES / "deepseek_v4_pro", SYSTEMS / "h200.yaml"
    with SystemLock(resolve(suite, path, RunOptions(), start=tmp_path)):
        assert main(["replay", "--system", "h200", "--agents=1"]) == 1
    assert "another run is measuring the system h200" in capsys.readouterr().err
    assert main(["replay", "--system", "h200", "--agents=1", "--set=calibration_s=0.3"]) == 1
    assert "no answer" in capsys.readouterr().err


def test_replay_of_a_system_without_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--system", "h200", "--agents=1", "--ruleset=demo/1"]) == 2
    assert "set AGENTPERF_H200_URL" in capsys.readouterr().err
    assert main(["replay", "--system", "nobody", "--agents=1"]) == 2
    assert "unknown system 'nobody'" in capsys.readouterr().err


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_agentperf.cli.replay.CapacityRun.run_fixed", interrupted)
    assert main(["replay", "--system", "sim", "--agents=1"]) == 130
    assert capsys.readouterr().err == "agentperf: interrupted\n"


def test_the_installed_command_is_this_one() -> None:
    script = shutil.which("agentperf", path=os.path.dirname(sys.executable))  # noqa: PTH120
    if script is None:
        pytest.skip("the package is not installed")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"agentperf {__version__}\n")
