"""The sampler in real processes: phases, problems, every way to die. No test asserts how long anything took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power_series import PowerSeriesBuilder
from pytest_agentperf.power.child_process import Collected
from pytest_agentperf.power.frames import FrameBuffer, FrameWriter, Kind
from pytest_agentperf.power.process import ProcessSampler, ReaderSpec
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_agentperf.core.power_series import PowerSeries


@pytest.fixture
def samplers() -> Iterator[list[ProcessSampler]]:
    made: list[ProcessSampler] = []
    yield made
    for sampler in made:
        sampler.close()


@pytest.fixture
def sampler_of(samplers: list[ProcessSampler]) -> Any:
    def make(reader: str, *, interval_s: float = 0.01, **options: Any) -> ProcessSampler:
        limits = {k: options.pop(k) for k in ("open_timeout_s", "stop_timeout_s") if k in options}
        spec = ReaderSpec("fake", f"fake_readers:{reader}", options)
        samplers.append(ProcessSampler(spec, interval_s=interval_s, **limits))
        return samplers[-1]

    return make


def phase(sampler: ProcessSampler, seconds: float = 0.2) -> PowerSeries:
    sampler.start()
    time.sleep(seconds)
    return sampler.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_phase_after_phase_in_one_process(sampler_of: Any) -> None:
    sampler = sampler_of("Steady", devices=3)
    source = sampler.open()
    assert [device.id for device in source.devices] == ["here/0", "here/1", "here/2"]
    pid = sampler.pid
    assert pid != os.getpid()
    last_ns = monotonic_ns()
    for number in range(3):
        series = phase(sampler)
        assert series.devices == ("here/0", "here/1", "here/2")
        assert series.problems == ()
        # Stamps are of this machine's monotonic clock: nothing of one phase is left for the next.
        assert last_ns < series.t_ns[0] <= series.t_ns[-1] < (last_ns := monotonic_ns())
        assert (series.power_w == 100).all()
        for device in range(3):
            counter = series.energy_j[series.device == device]
            assert len(counter) >= 2
            assert (np.diff(counter) > 0).all()
        assert {state.clock_mhz for state in series.before} == {number * 2 + 1}
        assert {state.throttle_reasons for state in series.after} == {("power cap",)}
    assert sampler.pid == pid
    assert sampler.open() == source, "opening again changes nothing"
    sampler.close()
    assert pid is not None
    assert gone(pid)


def test_a_phase_has_a_first_and_a_last_reading_however_short(sampler_of: Any) -> None:
    sampler = sampler_of("Steady", devices=1, interval_s=60)
    sampler.open()
    sampler.start()
    assert len(sampler.stop().t_ns) == 2


def test_never_read_faster_than_the_source_updates(sampler_of: Any) -> None:
    sampler = sampler_of("Steady", devices=1, interval_s=0.01, update_period_s=60)
    assert len(phase(sampler, 0.3).t_ns) == 2


def test_stop_without_start(sampler_of: Any) -> None:
    sampler = sampler_of("Steady")
    assert sampler.stop().problems[0].code == "no_readings"
    sampler.open()
    assert sampler.stop().problems[0].code == "no_readings"
    sampler.close()
    sampler.close()


def test_a_problem_is_told_once_and_what_a_library_prints_does_no_harm(sampler_of: Any) -> None:
    sampler = sampler_of("Troubled")
    for _ in range(2):
        series = phase(sampler)
        assert set(series.devices) <= {"here/0", "here/1"}
        assert [problem.text for problem in series.problems] == ["device here/1 is lost: see to it"]
        assert series.problems[0].device == "here/1"


def test_missed_readings_are_skipped(sampler_of: Any) -> None:
    sampler = sampler_of("Slow", devices=1, interval_s=0.02)
    series = phase(sampler, 0.6)
    # However loaded the machine is: never more readings than moments, first and last beside them.
    moments = (series.t_ns[-1] - series.t_ns[0]) / 0.02e9
    assert len(series.t_ns) <= moments + 2
    gaps_s = np.diff(series.t_ns)[:-1] / 1e9
    assert (gaps_s > 0).all()


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("Refusing", "here: there is no device\n  → plug one in"),
        ("Broken", "ended with code 1: ZeroDivisionError: a bug in the reader"),
        ("Crashing", "was ended by SIGSEGV"),
        ("Missing", "module 'fake_readers' has no attribute 'Missing'"),
    ],
)
def test_a_source_that_does_not_open_says_why(sampler_of: Any, reader: str, message: str) -> None:
    sampler = sampler_of(reader)
    with pytest.raises(PowerError) as refused:
        sampler.open()
    assert message in str(refused.value)
    assert refused.value.remedy
    assert sampler.pid is None


def test_a_source_that_hangs_when_opened_is_ended(sampler_of: Any) -> None:
    sampler = sampler_of("HangingAtOpen", open_timeout_s=1.5)
    with pytest.raises(PowerError, match=r"power source fake: it did not open within 1\.5 s"):
        sampler.open()
    assert sampler.pid is None


def test_death_in_a_phase_is_a_problem_and_the_next_start_starts_anew(
    sampler_of: Any, tmp_path: Path
) -> None:
    sampler = sampler_of("DyingOnce", mark=str(tmp_path / "died"))
    sampler.open()
    first_pid = sampler.pid
    sampler.start()
    wait_until(lambda: not sampler._child.alive)
    series = sampler.stop()
    (problem,) = series.problems
    assert problem.code == "sampler_died"
    assert "ended with code 1: RuntimeError: the driver has gone" in problem.text
    assert "the next phase starts it anew" in problem.text
    assert len(series.t_ns) == 2 * 2, "what was read before stands"
    assert series.before
    assert series.after == ()
    series = phase(sampler)
    assert series.problems == ()
    assert len(series.t_ns) > 4
    assert sampler.pid not in (None, first_pid)


@pytest.mark.parametrize("while_sampling", [True, False])
def test_a_killed_process_is_replaced(sampler_of: Any, while_sampling: bool) -> None:
    sampler = sampler_of("Steady")
    sampler.open()
    assert sampler.pid is not None
    if while_sampling:
        sampler.start()
        os.kill(sampler.pid, signal.SIGKILL)
        (problem,) = sampler.stop().problems
        assert "was ended by SIGKILL" in problem.text
    else:
        os.kill(sampler.pid, signal.SIGKILL)
        sampler._child._process.wait()
    assert phase(sampler).problems == ()


def test_a_source_that_does_not_come_back_is_a_problem_of_every_phase(
    sampler_of: Any, tmp_path: Path
) -> None:
    sampler = sampler_of("Gone", mark=str(tmp_path / "opened"))
    sampler.open()
    assert sampler.pid is not None
    os.kill(sampler.pid, signal.SIGKILL)
    sampler._child._process.wait()
    for _ in range(2):
        series = phase(sampler, 0)
        assert series.t_ns.size == 0
        (problem,) = series.problems
        assert problem.code == "sampler_died"
        assert "could not be started again: here: there is no device any more" in problem.text
        assert "reboot" in problem.text


def test_a_reading_that_hangs_is_given_up(sampler_of: Any) -> None:
    sampler = sampler_of("Hanging", stop_timeout_s=0.5)
    sampler.start()
    wait_until(lambda: len(sampler._child.collected.builder._t_ns) == 2 * 2)
    series = sampler.stop()
    (problem,) = series.problems
    assert (problem.code, "did not answer for 0.5 s" in problem.text) == ("sampler_died", True)
    assert len(series.t_ns) == 2 * 2
    assert sampler.pid is None


def test_close_ends_a_process_that_hangs(sampler_of: Any) -> None:
    sampler = sampler_of("Hanging")
    sampler.start()
    time.sleep(0.2)
    pid = sampler.pid
    sampler.close()
    assert pid is not None
    assert gone(pid)


def test_ctrl_c_is_the_parents_alone(sampler_of: Any) -> None:
    sampler = sampler_of("Steady")
    sampler.open()
    assert sampler.pid is not None
    assert os.getpgid(sampler.pid) != os.getpgid(0), "the terminal signals its foreground group"
    os.kill(sampler.pid, signal.SIGINT)
    assert phase(sampler).problems == ()


@pytest.mark.parametrize("reader", ["Steady", "Hanging", "HangingAtOpen"])
def test_the_process_ends_with_its_parent(reader: str) -> None:
    program = f"""
import sys, time
from pytest_agentperf.power.process import ProcessSampler, ReaderSpec
sampler = ProcessSampler(ReaderSpec("fake", "fake_readers:{reader}", {{}}), interval_s=0.01)
from pytest_agentperf.power import child_process
make = child_process.SamplerChild.__init__
def told(self, spec):
    make(self, spec)
    print(self.pid, flush=True)
child_process.SamplerChild.__init__ = told
sampler.start()
print("sampling", flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    if reader != "HangingAtOpen":
        parent.stdout.readline()
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: ended(pid))


def ended(pid: int) -> bool:
    """Whether it ended; where nobody reaps orphans, it stays behind as a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parents[1].is_dir():
        try:
            return stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True
    return gone(pid)


def test_it_yields_to_the_load(sampler_of: Any) -> None:
    sampler = sampler_of("Steady")
    sampler.open()
    assert sampler.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, sampler.pid) > os.getpriority(os.PRIO_PROCESS, 0)


Value = st.none() | st.floats(0, 1e6)


@given(
    st.lists(
        st.lists(
            st.builds(Reading, st.integers(0, 2**62), st.sampled_from(["a/0", "ä/1", "c"]), Value, Value),
            max_size=20,
        ),
        max_size=5,
    ),
    st.integers(1, 4_000),
)
def test_frames_carry_readings_unchanged(rounds: list[list[Reading]], cut: int) -> None:
    reading_end, writing_end = os.pipe()
    writer = FrameWriter(writing_end)
    wire = bytearray()

    def drain() -> None:
        while data := os.read(reading_end, 65_536):
            wire.extend(data)

    thread = threading.Thread(target=drain)
    thread.start()
    for readings in rounds:
        writer.readings(readings)
    os.close(writing_end)
    thread.join()
    os.close(reading_end)
    expected, collected, buffer = PowerSeriesBuilder(), Collected(PowerSeriesBuilder()), FrameBuffer()
    for readings in rounds:
        for reading in readings:
            expected.add(reading.t_ns, reading.device, power_w=reading.power_w, energy_j=reading.energy_j)
    for start in range(0, len(wire), cut):
        for kind, payload in buffer.feed(bytes(wire[start : start + cut])):
            assert kind in (Kind.DEVICES, Kind.READINGS)
            collected.take(kind, payload)
    wanted, found = expected.build(), collected.builder.build()
    assert found.devices == wanted.devices
    for column in ("t_ns", "device", "power_w", "energy_j"):
        np.testing.assert_array_equal(getattr(found, column), getattr(wanted, column))
