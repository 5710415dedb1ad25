"""One run at a time on a system, whichever copy of its file a run reads."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.config.bundled import SUITES, SYSTEMS
from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.core.errors import ConfigError, LoadError
from pytest_agentperf.deploy.lock import SystemLock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for name in ("H200", "GB300_TIER1", "GB300_TIER2", "GB300_TIER3"):
        monkeypatch.delenv(f"AGENTPERF_{name}_URL", raising=False)
    for name in ("H200", "GB300"):
        monkeypatch.setenv(f"AGENTPERF_{name}_API_KEY", "sk-agentperf-lock")
    return folder


def settings(checkout: Path, system: str = "h200") -> RunSettings:
    """Return the settings of a bundled system, out of a copy of its file."""
    checkout.mkdir(exist_ok=True)
    copy = checkout / f"{system}.yaml"
    copy.write_bytes((SYSTEMS / f"{system}.yaml").read_bytes())
    return resolve(SUITES / "deepseek_v4_pro", copy, RunOptions(), start=checkout)


def test_two_copies_of_a_system_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = SystemLock(settings(tmp_path / "one")), SystemLock(settings(tmp_path / "other"))
    monkeypatch.setenv("AGENTPERF_H200_URL", "http://host:8000/v1")
    with one:
        one.acquire()
        monkeypatch.setenv("AGENTPERF_H200_URL", "http://HOST:8000/v1/")
        with pytest.raises(LoadError, match="another run is measuring the system h200") as caught:
            other.acquire()
        assert caught.value.remedy is not None
        assert caught.value.remedy.startswith("wait for it to end")
        # The same file of another machine's server: another system.
        monkeypatch.setenv("AGENTPERF_H200_URL", "http://elsewhere:8000/v1")
        with other:
            pass
    monkeypatch.setenv("AGENTPERF_H200_URL", "http://host:8000/v1")
    with other:
        pass


def test_one_shared_endpoint_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a lock that could not be had whole is let go whole."""
    one, other = (SystemLock(settings(tmp_path / name, "gb300")) for name in ("one", "other"))
    third = SystemLock(settings(tmp_path / "third", "gb300"))
    monkeypatch.setenv("AGENTPERF_GB300_TIER1_URL", "http://one:8000/v1")
    with one:
        for tier, host in ((2, "two"), (3, "three")):
            monkeypatch.setenv(f"AGENTPERF_GB300_TIER{tier}_URL", f"http://{host}:8000/v1")
        with pytest.raises(LoadError, match="another run"):
            other.acquire()
        monkeypatch.delenv("AGENTPERF_GB300_TIER1_URL")
        with third:
            pass


def test_nothing_is_locked_where_nothing_is_shared(tmp_path: Path, locks: Path) -> None:
    for system in ("sim", "h200"):
        with SystemLock(settings(tmp_path / "one", system)), SystemLock(settings(tmp_path / "two", system)):
            assert list(locks.iterdir()) == []


def test_a_lock_file_that_cannot_be_used(
    tmp_path: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's, above all; root may open that, so its place is taken by a folder too."""
    monkeypatch.setenv("AGENTPERF_H200_URL", "http://host:8000/v1")
    with SystemLock(settings(tmp_path / "one")):
        (path,) = locks.iterdir()
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(LoadError, match="cannot be used: Is a directory") as caught:
        SystemLock(settings(tmp_path / "one")).acquire()
    assert caught.value.where == str(path)
    assert "another user" in (caught.value.remedy or "")
    path.rmdir()
    if os.geteuid() != 0:
        path.touch(0o000)
        with pytest.raises(LoadError, match="cannot be used: Permission denied"):
            SystemLock(settings(tmp_path / "one")).acquire()


def test_a_bad_url_is_a_bad_url_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTPERF_H200_URL", "http://host:hunter2/v1")
    with pytest.raises(ConfigError, match="malformed") as caught:
        SystemLock(settings(tmp_path / "one")).acquire()
    assert "hunter2" not in str(caught.value)
