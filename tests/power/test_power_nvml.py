"""NVML through the real nvidia-ml-py, against a stub of NVIDIA's library, in virtual time."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from stub_readers import HOST, Found, Scenario

from pytest_agentperf.config.power import NvmlPower
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.power.nvml import NvmlReader

if TYPE_CHECKING:
    from pathlib import Path


def test_the_source_says_what_it_measures(tmp_path: Path) -> None:
    (found,) = Scenario("nvml", "constant:300,update=0.02,cap=600", clock=tmp_path / "clock").found()
    source = found.source
    assert (source.source, source.scope, source.measured) == ("nvml", "gpu+hbm", True)
    assert source.update_period_s == pytest.approx(0.02, rel=0.1)
    assert source.notes == ("energy counter changes every 0.02 s, as measured",)
    (device,) = source.devices
    assert device.model_dump() == {
        "id": f"{HOST}/0",
        "host": HOST,
        "name": "NVIDIA Stub H200",
        "uuid": "GPU-00000000-0000-0000-0000-000000000000",
        "driver": "580.95.05",
        "firmware": "VBIOS 96.00.A5.00.01, GSP 580.95.05",
        "power_cap_w": 600.0,
        "rated_power_w": 700.0,
    }


def test_what_a_device_lacks_is_replaced_and_said(tmp_path: Path) -> None:
    devices = (
        "constant:300,update=0.02",
        "square:200,210,0.08,nocounter=1",
        "constant:300,nocounter=1",
        "constant:300,nocounter=1,average=1",
        "constant:300,nocounter=1,nofields=1",
        "constant:300,nocounter=1,nofields=1,capability=80",
        "constant:300,stuck=0",
        "constant:300,nopower=1,update=0.02",
        "constant:300,nopower=1,nocounter=1",
    )
    (found,) = Scenario("nvml", *devices, seconds=1, clock=tmp_path / "clock").found()
    notes = "\n".join(found.source.notes)
    for number, remark in (
        (1, "no usable energy counter: instant power is integrated"),
        (1, "instant power changes every 0.04 s, as measured"),
        (
            2,
            "instant power changed too seldom while it was watched for 1.2 s: an update period of 0.1 s is assumed",
        ),
        (3, "no usable energy counter: power averaged over 1 s is integrated"),
        (4, "no usable energy counter: power averaged over 1 s is integrated"),
        (5, "no usable energy counter: instant power is integrated"),
        (6, "energy counter (field 83) stood still for 1.2 s: not used"),
        (7, "energy counter changes every 0.02 s, as measured"),
        (8, "tells no power, and is left out"),
    ):
        assert any(
            f"{HOST}/{number}" in line.partition(": ")[0].split(", ") and line.endswith(remark)
            for line in found.source.notes
        ), f"{number}: {remark}\n{notes}"
    # The slowest of all: a mean over one second says nothing finer, however often it changes.
    assert found.source.update_period_s == 1.0
    assert [device.id for device in found.source.devices] == [f"{HOST}/{number}" for number in range(8)]
    read = {(device, power_w is None, energy_j is None) for _, device, power_w, energy_j in found.rows}
    assert read == {
        (f"{HOST}/{number}", number == 7, number not in (0, 7)) for number in range(8)
    }  # never a zero for what is missing
    assert found.problems == []


def test_a_driver_without_field_values_is_read_by_calls(tmp_path: Path) -> None:
    devices = ("constant:300,update=0.02,reasons=4", "constant:300,nocounter=1")
    (found,) = Scenario("old nvml", *devices, seconds=1, clock=tmp_path / "clock").found()
    assert found.source.update_period_s == 1.0
    by_device = {device: (power_w, energy_j) for _, device, power_w, energy_j in found.rows}
    assert by_device[f"{HOST}/0"][0] == 300
    assert by_device[f"{HOST}/0"][1] is not None
    assert by_device[f"{HOST}/1"] == (300, None)
    assert found.states("before")[0].throttle_reasons == ("sw_power_cap",)


def test_a_superchips_counter_must_match_the_gpu(tmp_path: Path) -> None:
    devices = (
        "constant:300,update=0.02,module=2,counts_module=1",
        "constant:300,update=0.02,module=2",
        "constant:300,update=0.02,module=2,counts_module=1,scoped_counter=1",
    )
    (found,) = Scenario("nvml", *devices, seconds=1, clock=tmp_path / "clock").found()
    series = found.series()
    per_device = {
        device: series.energy_j[series.device == number] for number, device in enumerate(series.devices)
    }
    assert all(value != value for value in per_device[f"{HOST}/0"])
    for number in (1, 2):
        counter = per_device[f"{HOST}/{number}"]
        assert (counter[-1] - counter[0]) / (series.t_ns[-1] - series.t_ns[0]) * 1e9 == pytest.approx(
            300, rel=0.03
        )
    assert any("it counts more than the GPU" in note and f"{HOST}/0" in note for note in found.source.notes)


def test_devices_are_chosen_by_index_uuid_and_bus(tmp_path: Path) -> None:
    uuid = "GPU-00000001-0000-0000-0000-000000000000"
    choices = ((), ("2", uuid), ("00000000:1a:00.0",), ("1C:00.0",), ("7",), ("0", "0000:1A:00.0"))
    found = Scenario("nvml", *("constant:300",) * 3, clock=tmp_path / "clock", choices=choices).found()
    chosen = [[device.id.split("/")[-1] for device in one.source.devices] for one in found[:4]]
    assert chosen == [["0", "1", "2"], ["2", "1"], ["0"], ["2"]]
    assert found[4].error is not None
    assert found[4].error.startswith("there is no device '7'; there are 0 (GPU-00000000-")
    assert found[5].error == "device 0 is named twice, the second time as '0000:1A:00.0'"


def test_a_slice_of_a_shared_gpu_has_no_power(tmp_path: Path) -> None:
    choices = (("MIG-00000000-1",), ("MIG-00000001-0",), ("MIG-00000002-0",), ("0",))
    shared, alone, unknown, whole = Scenario(
        "nvml",
        "constant:300,mig=3",
        "constant:300,mig=1",
        "constant:300",
        clock=tmp_path / "clock",
        choices=choices,
    ).found()
    assert shared.error is not None
    assert "one of 3 MIG devices of GPU-00000000" in shared.error
    assert "power is measured per GPU, not per slice" in shared.error
    assert shared.remedy is not None
    assert "turn MIG off" in shared.remedy
    assert [device.id for device in alone.source.devices] == [f"{HOST}/1"]
    assert unknown.error == "MIG device 'MIG-00000002-0': Not Found"
    assert f"{HOST}/0: is split into 3 MIG devices; its power is that of all together" in whole.source.notes


def test_a_gpu_that_may_not_be_opened_is_named(tmp_path: Path) -> None:
    found = Scenario(
        "nvml",
        "constant:300",
        "constant:300,closed=1",
        clock=tmp_path / "clock",
        choices=((), ("1",)),
    ).found()
    assert [device.id for device in found[0].source.devices] == [f"{HOST}/0"]
    assert f"{HOST}/1: cannot be opened: Insufficient Permissions" in found[0].source.notes
    assert found[1].error is not None
    assert found[1].error.startswith("there is no device '1'")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Devices that go wrong after 5 s, and some that come back after 8 s."""
    devices = [
        "constant:300",
        *(f"constant:300,{fault}=5,back=8" for fault in ("lost", "unknown", "not_found", "forbidden")),
        *(
            f"constant:300,{fault}=5,back=8"
            for fault in ("sentinel", "zero", "watts", "no_power", "no_count")
        ),
        "constant:300,backwards=5,back=8",
        "constant:300,lost=5",
    ]
    clock = tmp_path_factory.mktemp("faulty") / "clock"
    (found,) = Scenario("nvml", *devices, seconds=10, clock=clock).found()
    return found


@pytest.mark.parametrize(
    ("number", "code", "kept"),
    [
        (1, "device_lost", ()),
        (2, "device_lost", ()),
        (3, "device_lost", ()),
        (4, "unreachable", ()),
        (5, "sentinel", ("energy_j",)),
        (6, "sentinel", ("energy_j",)),
        (7, "units", ("energy_j",)),
        (8, "no_readings", ("energy_j",)),
        (9, "sentinel", ("power_w",)),
        (10, "counter_backwards", ("power_w", "energy_j")),
    ],
)
def test_a_fault_is_a_problem_and_never_a_zero(
    faulty: Found, number: int, code: str, kept: tuple[str, ...]
) -> None:
    device = f"{HOST}/{number}"
    assert faulty.codes(device) == {code}
    (text,) = [text for _, of, text in faulty.problems if of == device]
    assert HOST in text
    assert ": check " in text  # what to do
    during = [row for row in faulty.rows if row[1] == device and 5.1 < (row[0] - faulty.t0_ns) / 1e9 < 7.9]
    for _, _, power_w, energy_j in during:
        assert (power_w is not None, energy_j is not None) == ("power_w" in kept, "energy_j" in kept)
    assert bool(during) == bool(kept)
    after = [row for row in faulty.rows if row[1] == device and (row[0] - faulty.t0_ns) / 1e9 > 8.6]
    assert after
    assert all(row[2] == 300 and row[3] is not None for row in after)


def test_problems_are_told_once(faulty: Found) -> None:
    assert len({(code, device) for code, device, _ in faulty.problems}) == len(faulty.problems)
    assert faulty.problems_again == []
    assert faulty.codes(f"{HOST}/0") == set()


def test_a_lost_device_does_not_keep_others_from_being_read(faulty: Found) -> None:
    assert max(faulty.times_s(f"{HOST}/11")) < 5.1
    gaps_s = [b - a for a, b in pairwise(faulty.times_s(f"{HOST}/0"))]
    assert len(gaps_s) > 90
    assert max(gaps_s) < 0.16
    # What a lost device cannot tell of its state is not made up.
    state = faulty.states("after")[-1]
    assert (state.device, state.clock_mhz, state.temperature_c) == (f"{HOST}/11", None, None)


def test_nvml_is_started_again_after_a_reset(tmp_path: Path) -> None:
    (found,) = Scenario("nvml", "constant:300,uninitialised=5", seconds=10, clock=tmp_path / "clock").found()
    assert found.codes(f"{HOST}/0") == {"unreachable"}
    assert max(found.times_s(f"{HOST}/0")) > 10
    gaps_s = [b - a for a, b in pairwise(found.times_s(f"{HOST}/0"))]
    # One reading was missed.
    assert sum(gap > 0.16 for gap in gaps_s) <= 1
    assert max(gaps_s) < 0.31


def test_states_tell_what_slowed_the_gpu_down(tmp_path: Path) -> None:
    devices = ("constant:300,reasons=1", "constant:300,reasons=3,capped=5", "constant:300,reasons=104")
    (found,) = Scenario("nvml", *devices, seconds=10, clock=tmp_path / "clock").found()
    reasons = [state.throttle_reasons for state in found.states("before")]
    assert reasons == [(), (), ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown")]
    # Power capping in between is seen although it is over.
    assert [state.throttle_reasons for state in found.states("after")][:2] == [(), ("sw_power_cap",)]
    state = found.states("after")[0]
    assert (state.clock_mhz, state.memory_clock_mhz, state.temperature_c, state.power_cap_w) == (
        1980,
        3201,
        55,
        700,
    )


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (12, "install the NVIDIA driver"),
        (9, "modprobe nvidia"),
        (4, "access to /dev/nvidiactl"),
        (18, "reboot"),
        (999, "nvidia-smi works"),
    ],
)
def test_nvml_that_does_not_start_says_what_to_do(tmp_path: Path, code: int, remedy: str) -> None:
    (found,) = Scenario("nvml", clock=tmp_path / "clock", init_code=code).found()
    assert found.error is not None
    assert found.error.startswith("NVML does not start: ")
    assert found.remedy is not None
    assert remedy in found.remedy


def test_no_devices_is_an_error(tmp_path: Path) -> None:
    (found,) = Scenario("nvml", clock=tmp_path / "clock").found()
    assert found.error == "NVML finds no GPU that can be opened: there is none"
    (found,) = Scenario("nvml", "constant:1,nopower=1,nocounter=1", clock=tmp_path / "clock").found()
    assert found.error == f"NVML tells no power of {HOST}/0"


def test_whatever_nvml_does_when_opened_is_one_error(tmp_path: Path) -> None:
    (found,) = Scenario("nvml", "constant:1,no_count_of_devices=1", clock=tmp_path / "clock").found()
    assert found.error == "NVML fails: Unknown Error"


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(PowerError, match=r"nvidia-ml-py is not installed\n.*pytest-agentperf\[nvml\]"):
        NvmlReader(NvmlPower(source="nvml")).open()


def test_another_package_of_that_name_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", type(sys)("pynvml"))
    with pytest.raises(PowerError, match="is not nvidia-ml-py"):
        NvmlReader(NvmlPower(source="nvml")).open()
