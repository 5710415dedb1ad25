"""What is built for these tests ends: a step that hangs, and a wait for another run, with what to do."""

from __future__ import annotations

import time
from pathlib import Path

import filelock
import pytest
import recipes


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Wait until a process is no more, or is a zombie that nobody has asked for."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_step_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    log, pid = tmp_path / "log", tmp_path / "pid"
    script = f"echo fetching; sleep 600 & echo $! > {pid}; wait"
    with pytest.raises(RuntimeError) as caught:
        recipes.run("sh", "-c", script, log=log, limit_s=1.5)
    said = str(caught.value)
    assert said.startswith("ended, as it took more than 0.025 minutes: sh -c ")
    assert "fetching" in said
    assert f"→ correct what {log} says" in said
    assert gone(int(pid.read_text()))


def test_a_step_that_fails_says_what_it_said(tmp_path: Path) -> None:
    recipes.run("true", log=tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"exit code 3: sh -c .*\nno such wheel\n"):
        recipes.run("sh", "-c", "echo no such wheel; exit 3", log=tmp_path / "log")


def test_another_run_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    made: list[Path] = []
    with filelock.FileLock(tmp_path / "engine.lock"), pytest.raises(RuntimeError) as caught:
        recipes.cached(folder, made.append, wait_max_s=0.06)
    assert f"{folder}.lock: after 0.001 minutes another run still holds it" in str(caught.value)
    assert "AGENTPERF_ENGINES_CACHE" in str(caught.value)
    for _ in range(2):
        assert recipes.cached(folder, made.append) == folder
    assert made == [folder]
