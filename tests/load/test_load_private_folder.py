"""The folder that a run's large and confidential files lie in: closed to others, and gone with the run."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_agentperf.load.private_folder import PrivateFolder

HOUR_S = 3600


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    """Let a folder be an hour old."""
    then = folder.stat().st_mtime - HOUR_S
    os.utime(folder, (then, then))


def test_it_is_open_to_its_owner_alone_and_gone_when_closed(place: Path) -> None:
    folder = PrivateFolder()
    assert folder.path.parent == place
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (folder.path / "prompts").write_text("secret")
    folder.close()
    folder.close()
    assert list(place.iterdir()) == []


def test_it_goes_with_whoever_forgot_it(place: Path) -> None:
    PrivateFolder()
    assert list(place.iterdir()) == []


RUN = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from pytest_agentperf.load.private_folder import PrivateFolder
folder = PrivateFolder()
(folder.path / "prompts").write_text("secret")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_killed_run_left_goes_when_the_next_one_makes_its_own(place: Path, killed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        left = Path(run.stdout.readline().strip())
        age(left)
        # While it lives its folder is its own, however old.
        PrivateFolder().close()
        assert (left / "prompts").exists()
        if killed:
            run.send_signal(signal.SIGKILL)
        run.communicate()
    assert left.exists() == killed
    PrivateFolder().close()
    assert not left.exists()


def test_what_is_young_or_of_another_kind_stays(place: Path) -> None:
    young, other, file = place / "agentperf-run-young", place / "other", place / "agentperf-run-file"
    young.mkdir()
    other.mkdir()
    file.write_text("x")
    link = place / "agentperf-run-link"
    link.symlink_to(other)
    age(other)
    age(file)
    os.utime(link, (0, 0), follow_symlinks=False)
    PrivateFolder().close()
    assert {path.name for path in place.iterdir()} == {young.name, other.name, file.name, link.name}


def test_what_belongs_to_another_user_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = place / "agentperf-run-theirs"
    theirs.mkdir()
    age(theirs)
    user = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: user + 1)
    PrivateFolder().close()
    assert theirs.exists()
