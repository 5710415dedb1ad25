"""Runs that were killed, and what becomes of them: read by `agentperf recover`, continued by --agentperf-resume."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from plugin_support import (
    SWIFT,
    Workplace,
    group_lives,
    noted,
    plain_environment,
    pytest_command,
    suite_yaml,
    wait_for,
)

from pytest_agentperf.cli import main
from pytest_agentperf.core.journal import PhaseFinished, PhaseStarted, RunResumed
from pytest_agentperf.results.journal import JOURNAL, JournalContent, read_journal

if TYPE_CHECKING:
    from pathlib import Path

TIER1 = ("suites/tiny", "--agentperf-tier=tier1")


def journal_of(place: Workplace, system: str) -> JournalContent:
    return read_journal(place.run_folder(system) / JOURNAL)


def kill_after(place: Workplace, done: str, *arguments: str, number: signal.Signals = signal.SIGKILL) -> int:
    """Start a session, and send it a signal when the journal knows the phase of such a file; returns its exit code."""
    process = subprocess.Popen(
        pytest_command(*arguments),
        cwd=place.folder, env=plain_environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: noted(place, done) or process.poll() is not None)
        process.send_signal(number)
        code = process.wait(timeout=60)
        # Workers and the simulated server see that their parent is gone.
        wait_for(lambda: not group_lives(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return code


def test_sigterm_keeps_what_was_measured(place: Workplace) -> None:
    """As a batch system sends it at the end of the time it gave."""
    place.system("swift", engine=SWIFT)
    code = kill_after(
        place, "requests/*-ramp-1.parquet", "suites/tiny", "--system=swift", number=signal.SIGTERM
    )
    assert code == pytest.ExitCode.INTERRUPTED
    (entry,) = place.leaderboard("swift").entries
    assert [phase.kind for phase in entry.phases][:2] == ["warmup", "ramp"]
    assert not entry.complete.value


def test_a_killed_run_is_read_and_resumed(
    pytester: pytest.Pytester, place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    place.system("swift", engine=SWIFT)
    kill_after(
        place, "requests/*-ramp-2.parquet", "suites/tiny", "--system=swift", "--agentperf-max-agents=4"
    )
    folder = place.run_folder("swift")
    assert not (folder / "leaderboard.json").exists()
    finished = [
        event.result for event in journal_of(place, "swift").events if isinstance(event, PhaseFinished)
    ]
    assert [(phase.kind, phase.n_agents) for phase in finished][:2] == [("warmup", 1), ("ramp", 1)]

    assert main(["recover", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "swift: incomplete: tier1: the search was broken off; tier2: not run" in shown
    (entry,) = place.leaderboard("swift").entries
    assert entry.phases == tuple(finished)

    arguments = ("suites/tiny", "--system=swift", "--agentperf-max-agents=4", f"--agentperf-resume={folder}")
    result = pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(passed=2)
    assert [path.name for path in place.results.iterdir()] == [folder.name]
    (entry,) = place.leaderboard("swift").entries
    assert entry.complete.value
    assert [tier.agents for tier in entry.tiers] == [4, 4]
    assert entry.phases[: len(finished)] == tuple(finished)
    begun = [e for e in journal_of(place, "swift").events if isinstance(e, PhaseStarted)]
    keys = [(event.phase, event.attempt) for event in begun]
    assert len(keys) == len(set(keys))
    # What was finished is not measured again, and every file is in its place.
    done = [(phase.n_agents, phase.attempt) for phase in entry.phases if phase.kind != "warmup"]
    assert len(done) == len(set(done))
    assert all((folder / name).is_file() for phase in entry.phases for name in phase.digests)

    # And once more: all is known, nothing is started.
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    result = pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(passed=2)
    assert before == {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    assert len([e for e in journal_of(place, "swift").events if isinstance(e, RunResumed)]) == 1


@pytest.fixture(scope="module")
def measured_once(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    place = Workplace(tmp_path_factory.mktemp("begun"), tiny_dataset)
    place.system("box")
    subprocess.run(
        pytest_command(*TIER1, "--system=box", "--agentperf-max-agents=1"),
        cwd=place.folder, env=plain_environment(), check=True, timeout=120,
    )  # fmt: skip
    return place.run_folder("box")


@pytest.fixture
def begun(place: Workplace, measured_once: Path) -> Path:
    """A run that one tier of was measured."""
    return shutil.copytree(measured_once, place.results / measured_once.name)


def test_a_run_that_would_be_another_one_is_refused(
    pytester: pytest.Pytester, place: Workplace, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: str, system: str = "box") -> str:
        result = pytester.runpytest_inprocess(
            "suites/tiny", f"--system={system}", f"--agentperf-resume={begun}", *arguments
        )
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        return result.stderr.str()

    same = "--agentperf-max-agents=1"
    assert "max_agents was 1, is 2" in refused("--agentperf-max-agents=2")
    assert "ruleset.settle_s was 0.02, is 1.0" in refused(same, "--agentperf-set=settle_s=1")
    assert "seed was 0, is 3" in refused(same, "--agentperf-seed=3")
    place.system("box", engine={"step_base_ms": 0.75})
    assert "system.deployments.main.simulate.step_base_ms was 0.5, is 0.75" in refused(same)
    place.system("box")
    place.suite(suite_yaml(place.dataset, title="Small"))
    assert 'suite.title was "Tiny", is "Small"' in refused(same)
    place.suite(suite_yaml(place.dataset))
    other = place.folder / "other"
    shutil.copytree(place.dataset, other)
    text = (other / "dataset.yaml").read_text(encoding="utf-8")
    digest = journal_of(place, "box").begun.dataset.digest
    (other / "dataset.yaml").write_text(text.replace(digest[:4], "0000"), encoding="utf-8")
    assert f'dataset digest was "{digest}", is "0000' in refused(same, f"--agentperf-dataset={other}")
    place.system("else")
    assert "a run of the system box, which this session does not measure" in refused(same, system="else")
    with monkeypatch.context() as patched:
        patched.setattr(
            "pytest_agentperf.plugin.resuming.software_versions", lambda: {"pytest-agentperf": "9"}
        )
        assert "software.pytest-agentperf was " in refused(same)
    assert "no journal can be read there" in refused(same, "--agentperf-resume=nowhere")
    # Nothing of it touched the run: it goes on with the command line that began it.
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=box", same, f"--agentperf-resume={begun}", "-n0"
    )
    result.assert_outcomes(passed=2)


def test_files_that_are_not_what_was_measured_are_named(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (begun / "requests" / "001-ramp-1.parquet").write_bytes(b"other")
    (begun / "requests" / "000-warmup-1.parquet").unlink()
    assert main(["recover", str(begun)]) == 1
    errors = capsys.readouterr().err
    assert "001-ramp-1.parquet: it is not the file that was measured" in errors
    assert "000-warmup-1.parquet: No such file" in errors


def test_a_killed_xdist_worker_is_followed_by_one_that_goes_on(place: Workplace) -> None:
    """The new worker, which xdist gives the same tests, finds the run of its session and what was finished."""
    place.system("swift", engine=SWIFT)
    place.write(
        "conftest.py",
        """
        import os, signal
        from pytest_agentperf.plugin.measuring import Measuring

        real = Measuring.phase_finished

        def phase_finished(self, run):
            if run.result.kind == "ramp" and run.result.n_agents == 2 and not os.path.exists("killed"):
                open("killed", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, run)

        Measuring.phase_finished = phase_finished
        """,
    )
    command = pytest_command("suites/tiny", "--system=swift", "--agentperf-max-agents=2", "-n1")
    done = subprocess.run(
        command, cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    (entry,) = place.leaderboard("swift").entries
    assert [(tier.tier.name, tier.agents) for tier in entry.tiers] == [("tier1", 2), ("tier2", 2)]
    kinds = [(phase.kind, phase.n_agents, phase.attempt) for phase in entry.phases]
    assert kinds == [("warmup", 1, 0), ("ramp", 1, 0), ("warmup", 1, 1), ("ramp", 2, 0), ("confirm", 2, 1)]


def _full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "what", ["results.records_file.pq.write_table", "results.journal.FileJournal._write"]
)
def test_a_disk_that_fills_up_ends_the_run_and_costs_one_phase(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """At any write: the message says what to do, and doing it goes on from there."""
    arguments = (*TIER1, "--system=box", "--agentperf-max-agents=2")
    place.system("box")
    with monkeypatch.context() as patched:
        module, _, name = what.rpartition(".")
        target = __import__("pkgutil").resolve_name(f"pytest_agentperf.{module}")
        real, left = getattr(target, name), [4 if "records" in what else 6]

        def write(*given: Any, **options: Any) -> Any:
            left[0] -= 1
            return (real if left[0] >= 0 else _full)(*given, **options)

        patched.setattr(target, name, write)
        result = pytester.runpytest_inprocess(*arguments)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            ["*cannot be written: No space left on device", "*→ make room*--agentperf-resume*"]
        )
        assert "Traceback" not in result.stdout.str()
    folder = place.run_folder("box")
    kept = [e for e in journal_of(place, "box").events if isinstance(e, PhaseFinished)]
    assert kept
    (folder / "leaderboard.json").unlink(missing_ok=True)
    assert main(["recover", str(folder)]) in (0, 2)
    pytester.runpytest_inprocess(*arguments, f"--agentperf-resume={folder}").assert_outcomes(passed=1)
    (entry,) = place.leaderboard("box").entries
    assert entry.tiers[0].agents == 2
    assert entry.phases[: len(kept)] == tuple(event.result for event in kept)


def test_it_needs_its_system(pytester: pytest.Pytester, begun: Path) -> None:
    result = pytester.runpytest_inprocess("suites/tiny", f"--agentperf-resume={begun}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--system=box" in result.stderr.str()
