from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.config.power import FilePower, RatedPower
from pytest_agentperf.core.energy import integrate
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power_series import PowerSeriesBuilder
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.power.file import FileReader
from pytest_agentperf.power.file_records import NotARecord, detect
from pytest_agentperf.power.rated import RatedReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def config(path: Path | str, **more: Any) -> FilePower:
    return FilePower(
        **{"source": "file", "path": str(path), "scope": "gpu+hbm", "update_period_s": 1, **more}
    )


_opened: list[FileReader] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def opened(path: Path, text: str, **more: Any) -> FileReader:
    path.write_text(text, encoding="utf-8")
    reader = FileReader(config(path, **more))
    reader.open()
    _opened.append(reader)
    return reader


def test_a_csv_is_followed_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    now_s = time.time()
    path.write_text(f"time,device,power_w\n{now_s - 2},n1/0,500\n{now_s - 2},n1/1,400\n", encoding="utf-8")
    reader = FileReader(config(path))
    source = reader.open()
    before_ns = time.monotonic_ns()
    first = list(reader.read())
    with path.open("a", encoding="utf-8") as file:
        iso = datetime.fromtimestamp(now_s - 1, UTC).isoformat()
        file.write(f'{iso},n1/0,501\n{now_s - 1},n1/1,"N/A"\n{now_s},n1/')
        file.flush()
        second = list(reader.read())
        file.write("0,502\n")
        file.flush()
        third = list(reader.read())
    problems = reader.take_problems()
    reader.close()
    assert [device.id for device in source.devices] == ["n1/0", "n1/1"]
    assert (source.scope, source.update_period_s, source.measured) == ("gpu+hbm", 1, True)
    assert "µs" in source.notes[0]
    assert [(r.device, r.power_w) for r in (*first, *second, *third)] == [
        ("n1/0", 500),
        ("n1/1", 400),
        ("n1/0", 501),
        ("n1/0", 502),
    ]
    assert first[0].t_ns == pytest.approx(before_ns - 2e9, abs=1e9)
    assert third[0].t_ns - second[0].t_ns == pytest.approx(1e9, abs=2_000)
    (problem,) = problems
    assert (problem.code, problem.device) == ("sentinel", "n1/1")
    assert "power_w is 'N/A'" in problem.text


def test_a_counter_in_jsonl_integrates(tmp_path: Path) -> None:
    start_s = time.time() - 60
    text = "".join(
        json.dumps({"when": start_s + k, "meter": "pdu", "joules": 1e6 + 700 * k, "other": None}) + "\n"
        for k in range(60)
    )
    reader = opened(
        tmp_path / "power.jsonl",
        text,
        time_column="when",
        device_column="meter",
        power_w_column=None,
        energy_j_column="joules",
    )
    builder = PowerSeriesBuilder()
    readings = list(reader.read())
    for r in readings:
        builder.add(r.t_ns, r.device, power_w=r.power_w, energy_j=r.energy_j)
    found = integrate(
        builder.build(),
        open_ns=readings[5].t_ns,
        close_ns=readings[50].t_ns,
        devices_expected=1,
        update_period_s=1,
        rules=DEMO_1,
    )
    assert found.energy_j == pytest.approx(45 * 700)
    assert found.invalid_code is None


def test_one_meter_needs_no_device_column(tmp_path: Path) -> None:
    reader = opened(tmp_path / "pdu.csv", f"time,power_w\n{time.time()},5\n")
    assert [r.device for r in reader.read()] == ["pdu.csv"]


@pytest.mark.parametrize("unit", [" W", ""])
def test_nvidia_smi_csv(tmp_path: Path, unit: str) -> None:
    stamp = datetime.now().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
    text = f"timestamp, index, power.draw [W]\n{stamp}, 0, 67.03{unit}\n{stamp}, 1, [N/A]\n"
    reader = opened(tmp_path / "smi.csv", text)
    (found,) = reader.read()
    (problem,) = reader.take_problems()
    assert (found.device, found.power_w) == ("0", 67.03)
    assert found.t_ns == pytest.approx(time.monotonic_ns(), abs=60e9)
    assert (problem.code, problem.device) == ("sentinel", "1")


def smi_xml(stamp: datetime, watts: str, attached: int = 1) -> str:
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
        f"<timestamp>{stamp:%a %b %d %H:%M:%S %Y}</timestamp><attached_gpus>{attached}</attached_gpus>"
        f'<gpu id="0"><uuid>GPU-1</uuid><gpu_power_readings><power_draw>{watts}</power_draw>'
        "</gpu_power_readings></gpu>\n</nvidia_smi_log>\n"
    )


def test_nvidia_smi_xml_again_and_again(tmp_path: Path) -> None:
    now = datetime.now()
    reader = opened(tmp_path / "smi.xml", smi_xml(now, "67.03 W") + smi_xml(now, "68.00 W", 4))
    assert [(r.device, r.power_w) for r in reader.read()] == [("GPU-1", 67.03), ("GPU-1", 68.0)]
    assert [p.code for p in reader.take_problems()] == ["too_few_devices"]


def test_rocm_smi_with_a_time_of_its_own(tmp_path: Path) -> None:
    record = {
        "time": time.time(),
        "card0": {"Average Graphics Package Power (W)": "36.0"},
        "card1": {"Average Graphics Package Power (W)": "N/A"},
    }
    reader = opened(tmp_path / "rocm.jsonl", json.dumps(record) + "\n")
    assert [(r.device, r.power_w) for r in reader.read()] == [("0", 36.0)]
    assert [(p.code, p.device) for p in reader.take_problems()] == [("sentinel", "1")]
    del record["time"]
    with pytest.raises(PowerError, match="rocm-smi, which writes no time"):
        opened(tmp_path / "rocm2.jsonl", json.dumps(record) + "\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no whole line yet"),
        ("time,power_w", "has no whole line yet"),
        ("time,power_w\n", "has no record yet"),
        ("when,power_w\n1,2\n", "has no column 'time'"),
        ("time,watts\n1,2\n", "has no column 'power_w'"),
        ("timestamp, index, power.draw [kW]\n1,2,3\n", "in 'kW'"),
        ("timestamp, index\n1,2\n", "has no column power.draw"),
        ("time,power_w\n2026-01-01T00:00:00,2\n", "without an offset"),
        ("time,power_w\nyesterday,2\n", "has the time 'yesterday'"),
        ("time,power_w\n1712000000000,2\n", "not milliseconds"),
        ("time,power_w\n1712000000,2,3\n", "has 3 columns, the header 2"),
        ('{"time": 1712000000}\n', "has neither"),
        ('{"time": 1712000000, "power_w": 3\n', "is no JSON"),
        ("{}\n[1]\n", "has no 'time'"),
        ('{"time": true, "power_w": 1}\n', "has the time 'True'"),
        ('{"time": 1712000000, "device": [1], "power_w": 1}\n', "has the device"),
        ("<html></html></nvidia_smi_log>", "is no XML"),
        ("<other></other>", "has no record yet"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a></nvidia_smi_log>', "XML entities"),
    ],
)
def test_a_file_of_no_use_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PowerError) as caught:
        opened(tmp_path / "file", text)
    assert said in caught.value.what
    assert caught.value.where == str(tmp_path / "file")


def test_bytes_that_are_no_text_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PowerError, match="no UTF-8"):
        FileReader(config(tmp_path / "binary")).open()
    with pytest.raises(PowerError, match="No such file"):
        FileReader(config(tmp_path / "none")).open()
    with pytest.raises(PowerError, match="directory"):
        FileReader(config(tmp_path)).open()


def test_what_goes_wrong_later_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    now_s = time.time()
    reader = opened(path, f"time,power_w\n{now_s},5\n")
    assert len(list(reader.read())) == 1
    with path.open("ab") as file:
        file.write(f"garbage\n{now_s + 3600},6\n{now_s},-1\n".encode() + b"\xff\n")
    assert list(reader.read()) == []
    texts = {problem.code: problem.text for problem in reader.take_problems()}
    assert "record 3 has 1 columns" in texts["no_readings"]
    assert "in the future" in texts["units"] or "no meter" in texts["units"]
    path.write_text(f"time,power_w\n{now_s},7\n", encoding="utf-8")
    assert [r.power_w for r in reader.read()] == [7]
    assert "replaced or cut" in reader.take_problems()[0].text
    path.unlink()
    assert list(reader.read()) == []
    assert reader.take_problems()[0].code == "unreachable"
    reader.close()


def test_a_file_that_no_longer_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = opened(tmp_path / "power.csv", f"time,power_w\n{time.time()},5\n")
    list(reader.read())
    later_ns = time.monotonic_ns() + 60 * 10**9
    monkeypatch.setattr("pytest_agentperf.power.file.monotonic_ns", lambda: later_ns)
    assert list(reader.read()) == []
    (problem,) = reader.take_problems()
    assert problem.code == "no_readings"
    assert "has not grown for" in problem.text


@given(st.text(), st.text())
def test_any_text_parses_or_is_refused(head: str, record: str) -> None:
    try:
        found, _ = detect(head, config("x"))
        found.parse(record)
    except NotARecord:
        return


@given(
    st.dictionaries(
        st.sampled_from(["time", "device", "power_w", "card0"]), st.from_type(object) | st.floats()
    )
)
def test_wrong_types_anywhere_are_refused(record: dict[str, Any]) -> None:
    text = json.dumps(record, default=lambda _: {"Average Graphics Package Power (W)": 3})
    found, _ = detect("{}\n", config("x"))
    try:
        parsed = found.parse(text)
    except NotARecord:
        return
    assert all(row.power_w is None or row.power_w >= 0 for row in parsed.rows)


def test_rated_power_is_labelled_as_not_measured() -> None:
    reader = RatedReader(RatedPower(source="rated", watts_each=700), 4)
    source = reader.open()
    first, second = list(reader.read()), list(reader.read())
    assert source.measured is False
    assert "not measured" in source.notes[0]
    assert len(source.devices) == len(first) == 4
    for a, b in zip(first, second, strict=True):
        assert a.power_w is None
        assert a.energy_j is not None
        assert b.energy_j is not None
        assert b.energy_j - a.energy_j == pytest.approx(700 * (b.t_ns - a.t_ns) / 1e9)
