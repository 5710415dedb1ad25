"""`agentperf power check` and `watch`, on a site's own reader in its own process."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_agentperf.cli import main

READERS = Path(__file__).parents[1] / "power"
SYSTEM = """schema: agentperf-system/1
name: box
title: Box
accelerator: {{name: A, vendor: B}}
submitter: {{name: tests}}
deployments:
  main:
    endpoint: {{url: "http://127.0.0.1:9/v1"}}
    allocated_accelerators: {accelerators}
    power: {{source: plugin, reader: "fake_readers:{reader}", options: {options}}}
    facility: {facility}
    serving: {{framework: vllm}}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What these readers tell is exact, however short they are listened to.
    monkeypatch.setattr("pytest_agentperf.power.check._SECONDS_MIN", 0.5)
    monkeypatch.syspath_prepend(READERS)


def system(reader: str = "Steady", *, accelerators: int = 2, facility: str = "[]", **options: Any) -> str:
    text = SYSTEM.format(
        reader=reader, accelerators=accelerators, facility=facility, options=json.dumps(options)
    )
    Path("box.yaml").write_text(text, encoding="utf-8")
    return "--system=box.yaml"


def check(*arguments: str) -> int:
    return main(["power", "check", *arguments])


def test_a_good_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(system()) == 0
    out = capsys.readouterr().out
    assert "power of box, main: plugin" in out
    assert "✓ 2 devices found, as many as the deployment's accelerators" in out
    assert "✓ every device has an energy counter" in out
    assert "✓ sampled power agrees with the counters" in out
    assert "· slowed down now: device here/0: power cap" in out
    assert "✗" not in out
    assert out.endswith("A result per MW measured here can be valid.\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(system(), "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["valid"] is True
    assert found["source"]["devices"][1]["id"] == "here/1"
    assert found["energy"]["mean_power_w"] == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(
    ("reader", "options", "accelerators", "told", "remedy"),
    [
        ("Refusing", {}, 2, "✗ here: there is no device", "plug one in"),
        ("Steady", {}, 3, "✗ 2 devices found, but 3 accelerators are allocated", "`power.devices`"),
        ("Dying", {}, 2, "ended with code 1: RuntimeError: the driver has gone", ""),
        ("Troubled", {}, 2, "✗ device here/1 is lost: see to it", ""),
        ("Steady", {"power_w": 0.1}, 2, "the unit is wrong, or it is off", "→ give the metric's unit"),
        ("Steady", {"power_w": 300}, 2, "draws 300 W, its cap is 200 W", "→ give the metric's unit"),
        ("Steady", {"update_period_s": 30}, 2, "values change every 30 s: windows of 3,000 s", "more often"),
        ("Nowhere", {}, 2, "the reader 'fake_readers:Nowhere' cannot be made", "`package.module:Class`"),
    ],
)
def test_what_is_to_be_fixed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    reader: str,
    options: dict[str, Any],
    accelerators: int,
    told: str,
    remedy: str,
) -> None:
    monkeypatch.setattr("pytest_agentperf.power.check._SECONDS_MAX", 0.5)
    assert check(system(reader, accelerators=accelerators, **options)) == 1
    out = capsys.readouterr().out
    assert told in out
    assert remedy in out
    assert "to fix (✗)" in out


def test_a_meter_beside_is_checked_too(capsys: pytest.CaptureFixture[str]) -> None:
    facility = "[{source: plugin, reader: 'fake_readers:Steady', options: {devices: 1}}]"
    assert check(system(facility=facility)) == 0
    out = capsys.readouterr().out
    assert "power of box, main: facility 0, plugin" in out
    assert "shown beside the accelerators' power" in out


@pytest.mark.parametrize("name", ["h200", "sim"])
def test_without_a_source_there_is_no_valid_result(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert check(f"--system={name}") == 1
    out = capsys.readouterr().out
    assert "no power source is configured" in out or "never a valid one" in out
    assert "→" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--source=dcgm",), "--url: "),
        (("--source=nvml", "--url=http://a/metrics"), "--url: "),
        (("--source=dcgm", "--url=http://me:secret@host/"), "--url: not an http(s) URL"),
        (("--url=http://a/metrics",), "--url: it goes with --source"),
        (("--device=0",), "--device: it goes with --source"),
        (("--system=h200", "--deployment=x"), "no deployment 'x'"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    assert check(*arguments) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "secret" not in err


def test_an_exporter_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--source=dcgm", "--url=http://127.0.0.1:9/metrics") == 1
    assert "127.0.0.1:9" in capsys.readouterr().out


def test_watch_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "watch", system(), "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "box, main: plugin (gpu+hbm, every 0.5 s): 200.0 W"
    assert lines[1].split() == ["here/0", "100.0", "W", "of", "200", "W", "slowed", "by", "power", "cap"]
    assert len(lines) == 3
    assert main(["power", "watch", system(), "--once", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [device["power_w"] for device in found["devices"]] == [100.0, 100.0]


def test_watch_of_a_lost_device_shows_no_zero(capsys: pytest.CaptureFixture[str]) -> None:
    # A device that is lost after its first reading keeps that one for a moment, and shows a dash then.
    assert main(["power", "watch", system("Refusing"), "--once"]) == 1
    assert "there is no device" in capsys.readouterr().err


def test_watch_without_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "watch", "--system=h200"]) == 1
    assert "set `power.source`" in capsys.readouterr().err


def test_watch_on_a_terminal_until_ctrl_c() -> None:
    controller, terminal = pty.openpty()
    program = "from pytest_agentperf.cli import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "power", "watch", system()],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    while shown.count(b"\033[H") < 3:
        shown += os.read(controller, 65_536)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 0
    os.close(controller)
    text = shown.decode()
    assert f"here/0  {'█' * 15}{'·' * 15}" in text, "100 of 200 W"
    assert "Traceback" not in text
