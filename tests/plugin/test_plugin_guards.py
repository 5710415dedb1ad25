"""Bugs, kills and full disks: what was measured is kept, and whose it is stays clear."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from plugin_support import (
    Workplace,
    plain_environment,
    pytest_command,
)

from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.plugin.measuring import Measuring
from pytest_agentperf.plugin.terminal import LogProgress

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.deployed import PhaseRun

STAMP = "20260612T000000Z"


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_after_a_bug_in_one_tier_the_next_is_measured_and_written(place: Workplace, workers: str) -> None:
    """A worker that took the bug for an interrupt wrote the file itself, and tier 2 was missing in it."""
    place.write(
        "conftest.py",
        """
        from pytest_agentperf.capacity import CapacityRun

        real = CapacityRun.measure

        def measure(self, tier):
            found = real(self, tier)
            if tier == "tier1":
                raise RuntimeError("a bug")
            return found

        CapacityRun.measure = measure
        """,
    )
    done = subprocess.run(
        pytest_command("suites/tiny", "--system=box", "--agentperf-rehearse", workers),
        cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 passed, 1 error" in done.stdout, done.stdout
    assert "RuntimeError: a bug" in done.stdout
    (entry,) = place.leaderboard("box").entries
    assert [tier.tier.name for tier in entry.tiers] == ["tier1", "tier2"]
    assert f"results: {place.run_folder('box')}/leaderboard-rehearsal.json" in done.stdout


@pytest.mark.parametrize("elsewhere", ["ssh=elsewhere", "popen//via=elsewhere"])
def test_xdist_workers_on_other_hosts_are_refused(
    pytester: pytest.Pytester, place: Workplace, elsewhere: str
) -> None:
    """What they measured would be written there, and nobody would find it here."""
    done = pytester.runpytest_inprocess("suites/tiny", "--system=box", f"--tx={elsewhere}", "--dist=load")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    told = done.stderr.str()
    assert f"--tx {elsewhere}: tests that measure run on this machine" in told
    assert f"--agentperf-load={elsewhere}" in told


def test_xdist_workers_of_this_machine_are_let_be(pytester: pytest.Pytester, place: Workplace) -> None:
    done = pytester.runpytest_inprocess(
        "suites/tiny", "--system=box", "--tx=1*popen", "--dist=load", "--collect-only"
    )
    assert done.ret == 0


def test_pytest_exit_is_an_interrupt(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Measuring.phase_finished

    def phase_finished(self: Measuring, run: PhaseRun) -> PhaseResult:
        if run.result.kind == "confirm":
            pytest.exit("enough")
        return real(self, run)

    monkeypatch.setattr(Measuring, "phase_finished", phase_finished)
    done = pytester.runpytest_inprocess(
        "suites/tiny", "--system=box", "--agentperf-rehearse", "--agentperf-max-agents=1"
    )
    assert done.ret == pytest.ExitCode.INTERRUPTED
    (entry,) = place.leaderboard("box").entries
    assert [phase.kind for phase in entry.phases] == ["warmup", "ramp"]
    done.stdout.fnmatch_lines(["*box: incomplete: tier1: the search was broken off*"])


def test_a_run_of_another_session_is_left_out(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that began in the same second measured another system, and the journal of a third one is damaged."""
    monkeypatch.setattr("pytest_agentperf.plugin.session.new_stamp", lambda results, rehearsal: STAMP)
    arguments = ("suites/tiny", "--agentperf-max-agents=1", "-k", "tier1")
    place.system("theirs")
    pytester.runpytest_inprocess(*arguments, "--system=theirs").assert_outcomes(passed=1, deselected=1)
    broken = place.write(
        f"agentperf-results/tiny-broken-{STAMP}/journal.jsonl", '{"schema": 1}\n{"schema": 2}\n'
    )
    result = pytester.runpytest_inprocess(*arguments, "--system=box")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"agentperf: a run is left out here: {broken}*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*theirs*")
    assert f"results: {place.results}/tiny-box-{STAMP}/leaderboard.json" in result.outlines


def test_nonces_differ_between_runs_and_not_between_workers(
    pytester: pytest.Pytester, place: Workplace
) -> None:
    place.system("other")
    place.test("def test_nonce(agentperf_case):\n    print('nonce', agentperf_case.settings.nonce)\n")
    arguments = ("suites/tiny", "--system=box", "--system=other", "-rP")
    done = subprocess.run(
        pytest_command(*arguments, "-n2"),
        cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    printed = done.stdout + "\n" + pytester.runpytest_inprocess(*arguments).stdout.str()
    found = re.findall(r"^nonce ([0-9a-f]{32})$", printed, re.M)
    assert len(set(found)) == len(found) == 4


def test_a_display_that_cannot_write_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = LogProgress(tmp_path)
    monkeypatch.setattr(
        "pytest_agentperf.plugin.terminal.result_text", lambda result: "half \udc80 a character"
    )
    result = cast("PhaseResult", SimpleNamespace())
    progress.phase_finished(result)
    (path,) = tmp_path.iterdir()
    assert path.read_text(encoding="utf-8").endswith(" half \\udc80 a character\n")
    path.unlink()
    path.mkdir()
    progress.phase_finished(result)

    def full(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", full)
    progress.phase_finished(result)


def test_no_error_of_ours_carries_a_key(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load worker's traceback may quote what a server wrote, and a server what it was sent."""

    def failing(*_: object) -> None:
        raise LoadError("load worker 0 failed:\nit said: Bearer sk-agentperf-guards?", remedy="look")

    monkeypatch.setenv("AGENTPERF_TEST_KEY", "sk-agentperf-guards")
    monkeypatch.setattr("pytest_agentperf.capacity.CapacityRun.measure", failing)
    place.system("keyed", endpoint={"url": "http://127.0.0.1:9/v1", "api_key_env": "AGENTPERF_TEST_KEY"})
    result = pytester.runpytest_inprocess("suites/tiny", "--system=keyed", "-l", "--junitxml=j.xml")
    result.assert_outcomes(errors=2)
    junit = (place.folder / "j.xml").read_text(encoding="utf-8")
    assert "sk-agentperf-guards" not in result.stdout.str() + junit
    assert 'name="agentperf.reason" value="load worker 0 failed: it said: Bearer ***?"' in junit


def test_a_crash_shows_no_key(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error, whose message and locals quote what a server said; also what was printed and logged."""
    key = "sk-agentperf-crash-0123456789"
    monkeypatch.setenv("AGENTPERF_TEST_KEY", key)
    place.system("keyed", endpoint={"url": "http://127.0.0.1:9/v1", "api_key_env": "AGENTPERF_TEST_KEY"})

    def crash(*_: object, **__: object) -> None:
        said = f"Bearer {key}"
        sys.stdout.write(said)
        logging.getLogger("x").warning(said)
        raise RuntimeError(f"unexpected: {said}")

    monkeypatch.setattr("pytest_agentperf.plugin.measuring.CapacityRun.measure", crash)
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=keyed", "--agentperf-tier=tier1", "-vv", "-l", "-rA", "--junitxml=j.xml",
        "-o", "junit_logging=all",
    )  # fmt: skip
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: unexpected: Bearer [*][*][*]*"])
    assert key not in result.stdout.str() + result.stderr.str()
    written = (place.folder / "j.xml").read_text(encoding="utf-8")
    assert "unexpected: Bearer ***" in written
    assert key not in written
