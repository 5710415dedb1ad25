"""The lock of a load host, between processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.load import host_lock as module
from pytest_agentperf.load.host_lock import HostLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from pytest_agentperf.load import host_lock
host_lock._FOLDER = Path(sys.argv[1])
lock = host_lock.HostLock()
print(lock.acquire(sys.argv[2]), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    return tmp_path


@contextmanager
def holder(folder: Path, run: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_one_run_at_a_time_and_a_crash_lets_go(folder: Path) -> None:
    lock = HostLock()
    with holder(folder, "other") as process:
        assert not lock.acquire("ours")
        assert process.poll() is None
        process.kill()
        process.wait()
        assert lock.acquire("ours")
    assert lock.acquire("ours")
    lock.release()
    assert HostLock().acquire("another")


def test_a_worker_of_the_same_run_that_hangs_is_ended(folder: Path) -> None:
    with holder(folder, "ours") as process:
        process.send_signal(signal.SIGSTOP)
        assert HostLock().acquire("ours")
        assert process.wait(10) == -signal.SIGKILL


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    HostLock.path().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        HostLock().acquire("ours")
