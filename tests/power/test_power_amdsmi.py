"""AMD devices through the real amdsmi, against a stub of ROCm's library, in virtual time."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from stub_libraries import build_amdsmi, missing
from stub_readers import HOST, Found, Scenario

from pytest_agentperf.config.power import AmdsmiPower
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.power.amdsmi import AmdsmiReader
from pytest_agentperf.power.amdsmi_devices import number


def test_the_source_says_what_it_measures(tmp_path: Path) -> None:
    (found,) = Scenario("amdsmi", "constant:300,update=0.02,cap=600", clock=tmp_path / "clock").found()
    source = found.source
    assert (source.source, source.scope, source.measured) == ("amdsmi", "gpu+hbm", True)
    assert source.update_period_s == pytest.approx(0.02, rel=0.1)
    assert source.notes == ("energy accumulator changes every 0.02 s, as measured",)
    (device,) = source.devices
    assert device.model_dump() == {
        "id": f"{HOST}/0",
        "host": HOST,
        "name": "AMD Instinct MI300X",
        "uuid": "0bff74a5-0000-1000-80ea-000000000000",
        "driver": "6.12.12",
        "firmware": "VBIOS 022.040.003.043.000001",
        "power_cap_w": 600.0,
        "rated_power_w": 750.0,
    }


def test_what_a_device_lacks_is_replaced_and_said(tmp_path: Path) -> None:
    devices = (
        "constant:300,update=0.02",
        "square:200,210,0.08,nocounter=1",
        "constant:300,nocounter=1,average=1",
        "constant:300,update=0.02,stuck=0",
        "constant:300,nopower=1,update=0.8",
        "constant:300,nopower=1,nocounter=1",
    )
    (found,) = Scenario("amdsmi", *devices, seconds=1, clock=tmp_path / "clock").found()
    notes = "\n".join(found.source.notes)
    for index, remark in (
        (0, "energy accumulator changes every 0.02 s, as measured"),
        (1, "no usable energy accumulator: current socket power is integrated"),
        (1, "current socket power changes every 0.04 s, as measured"),
        (2, "no usable energy accumulator: average socket power is integrated"),
        (3, "energy accumulator stood still for 1.2 s: not used"),
        (4, "energy accumulator changed once in 1.2 s, which is taken as its update period"),
        (5, "tells no power, and is left out"),
    ):
        assert any(
            f"{HOST}/{index}" in line.partition(": ")[0].split(", ") and line.endswith(remark)
            for line in found.source.notes
        ), f"{index}: {remark}\n{notes}"
    assert found.source.update_period_s == 1.2
    read = {(device, power_w, energy_j is None) for _, device, power_w, energy_j in found.rows}
    assert {device for device, _, _ in read} == {f"{HOST}/{index}" for index in range(5)}
    assert (f"{HOST}/4", None, False) in read  # never a zero for what is missing
    assert found.problems == []


@pytest.mark.parametrize(("name", "scope"), [(0, "gpu+hbm"), (1, "module"), (2, "gpu")])
def test_the_scope_depends_on_the_kind_of_device(tmp_path: Path, name: int, scope: str) -> None:
    (found,) = Scenario("amdsmi", f"constant:300,name={name}", clock=tmp_path / "clock").found()
    assert found.source.scope == scope


def test_devices_of_different_scopes_are_refused(tmp_path: Path) -> None:
    (found,) = Scenario("amdsmi", "constant:300", "constant:300,name=1", clock=tmp_path / "clock").found()
    assert found.error == "the devices' power includes different things: gpu+hbm, module"


def test_devices_are_chosen_by_index_uuid_and_bus(tmp_path: Path) -> None:
    uuid = "0bff74a5-0000-1000-80ea-000000000001"
    choices = ((), ("2", uuid), ("0000:0c:00.0",), ("7",))
    found = Scenario("amdsmi", *("constant:300",) * 3, clock=tmp_path / "clock", choices=choices).found()
    chosen = [[device.id.split("/")[-1] for device in one.source.devices] for one in found[:3]]
    assert chosen == [["0", "1", "2"], ["2", "1"], ["0"]]
    assert found[3].error is not None
    assert found[3].error.startswith("there is no device '7'")


@pytest.mark.parametrize("kfd", ["", ",no_kfd=1"])
def test_of_a_partitioned_socket_the_first_partition_is_read(tmp_path: Path, kfd: str) -> None:
    devices = (
        f"constant:300{kfd}",
        f"constant:300,of=0,nopower=1,nocounter=1{kfd}",
        f"constant:300,of=0,nopower=1,nocounter=1{kfd}",
        f"constant:400{kfd}",
    )
    choices = ((), ("1",), ("0",))
    all_, part, first = Scenario("amdsmi", *devices, clock=tmp_path / "clock", choices=choices).found()
    assert [device.id for device in all_.source.devices] == [f"{HOST}/0", f"{HOST}/3"]
    assert f"{HOST}/0: is split into 3 partitions; its power is that of the whole socket" in all_.source.notes
    assert part.error == "GPU 1 is one of 3 partitions of a socket: power is measured per socket"
    assert part.remedy is not None
    assert "first partition, 0" in part.remedy
    assert [device.id for device in first.source.devices] == [f"{HOST}/0"]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Devices that go wrong after 5 s, and come back after 8 s."""
    faults = (
        "lost",
        "forbidden",
        "no_data",
        "sentinel",
        "wide_sentinel",
        "zero",
        "watts",
        "no_count",
        "backwards",
    )
    devices = ["constant:300", *(f"constant:300,{fault}=5,back=8" for fault in faults)]
    clock = tmp_path_factory.mktemp("faulty") / "clock"
    (found,) = Scenario("amdsmi", *devices, seconds=10, clock=clock).found()
    return found


@pytest.mark.parametrize(
    ("index", "code", "kept"),
    [
        (1, "device_lost", ()),
        (2, "unreachable", ()),
        (3, "no_readings", ()),
        (4, "sentinel", ("energy_j",)),
        (5, "sentinel", ("energy_j",)),
        (6, "sentinel", ("energy_j",)),
        (7, "units", ("energy_j",)),
        (8, "sentinel", ("power_w",)),
        (9, "counter_backwards", ("power_w", "energy_j")),
    ],
)
def test_a_fault_is_a_problem_and_never_a_zero(
    faulty: Found, index: int, code: str, kept: tuple[str, ...]
) -> None:
    device = f"{HOST}/{index}"
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


def test_problems_are_told_once_and_others_are_read_on(faulty: Found) -> None:
    assert len({(code, device) for code, device, _ in faulty.problems}) == len(faulty.problems)
    assert faulty.problems_again == []
    assert faulty.codes(f"{HOST}/0") == set()
    gaps_s = [b - a for a, b in pairwise(faulty.times_s(f"{HOST}/0"))]
    assert len(gaps_s) > 90
    assert max(gaps_s) < 0.16


def test_amdsmi_is_started_again_after_a_reset(tmp_path: Path) -> None:
    (found,) = Scenario(
        "amdsmi", "constant:300,uninitialised=5", seconds=10, clock=tmp_path / "clock"
    ).found()
    assert found.codes(f"{HOST}/0") == {"unreachable"}
    gaps_s = [b - a for a, b in pairwise(found.times_s(f"{HOST}/0"))]
    # One reading was missed.
    assert sum(gap > 0.16 for gap in gaps_s) <= 1
    assert max(gaps_s) < 0.31


def test_states_tell_what_slowed_the_device_down(tmp_path: Path) -> None:
    devices = ("constant:300", "constant:300,capped=5")
    (found,) = Scenario("amdsmi", *devices, seconds=10, clock=tmp_path / "clock").found()
    assert [state.throttle_reasons for state in found.states("before")] == [(), ()]
    assert [state.throttle_reasons for state in found.states("after")] == [(), ("power_cap",)]
    state = found.states("after")[0]
    assert (state.clock_mhz, state.memory_clock_mhz, state.temperature_c, state.power_cap_w) == (
        2100,
        1300,
        61,
        750,
    )


def test_amdsmi_that_does_not_start_says_what_to_do(tmp_path: Path) -> None:
    (found,) = Scenario("amdsmi", clock=tmp_path / "clock", init_code=34).found()
    assert found.error == "amdsmi does not start: AMDSMI_STATUS_DRIVER_NOT_LOADED - Driver not loaded"
    assert found.remedy is not None
    assert "/dev/kfd" in found.remedy


def test_no_devices_is_an_error(tmp_path: Path) -> None:
    (found,) = Scenario("amdsmi", clock=tmp_path / "clock").found()
    assert found.error == "amdsmi finds no GPU"


@pytest.mark.skipif(Path("/opt/rocm").exists(), reason="ROCm is installed")
def test_without_rocm_each_import_fails_alike_and_leaves_nothing(tmp_path: Path) -> None:
    if reason := missing("amdsmi"):
        pytest.skip(reason)
    found = Scenario("amdsmi", library=tmp_path / "none", clock=tmp_path / "clock", choices=((), ())).found()
    for one in found:
        assert one.error is not None
        assert one.error.startswith("amdsmi cannot be imported: ")
        assert "libamd_smi.so: cannot open shared object file" in one.error
        assert one.remedy is not None
        assert "ROCM_PATH" in one.remedy
        assert one.modules_left == []


def test_a_package_of_another_version_than_rocm_is_told(tmp_path: Path) -> None:
    if reason := missing("amdsmi"):
        pytest.skip(reason)
    rocm = build_amdsmi(tmp_path / "rocm", leave_out="amdsmi_get_gpu_kfd_info")
    (found,) = Scenario("amdsmi", library=rocm, clock=tmp_path / "clock").found()
    assert found.error is not None
    assert found.error.startswith("the package amdsmi does not fit the ROCm of this host")
    assert "amdsmi_get_gpu_kfd_info" in found.error
    assert found.modules_left == []


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(PowerError, match=r"amdsmi is not installed\n.*pytest-agentperf\[amdsmi\]"):
        AmdsmiReader(AmdsmiPower(source="amdsmi")).open()


@pytest.mark.parametrize("statement", ["import sys; sys.exit(3)", "raise OSError('no library')", "1 / 0"])
def test_whatever_the_import_does_is_one_error(tmp_path: Path, statement: str) -> None:
    package = tmp_path / "amdsmi"
    package.mkdir()
    (package / "__init__.py").write_text("from . import part\n", encoding="utf-8")
    (package / "part.py").write_text(f"print('noise')\n{statement}\n", encoding="utf-8")
    script = (
        "import sys\n"
        "from pytest_agentperf.core.errors import PowerError\n"
        "from pytest_agentperf.power.amdsmi_devices import load_amdsmi\n"
        "try:\n    load_amdsmi('here')\n"
        "except PowerError as error:\n    print(error.what)\n"
        "print([name for name in sys.modules if name.startswith('amdsmi')])\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout == "amdsmi cannot be imported: noise\n[]\n"


def test_what_stands_for_no_value_is_no_number() -> None:
    assert [number(value) for value in ("N/A", None, True, 0xFFFF, 0xFFFFFFFF, 2**64 - 1)] == [None] * 6
    assert [number(value) for value in (0, 1, 65534, 1.5)] == [0, 1, 65534, 1.5]
