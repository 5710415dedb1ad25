from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from http_support import FakeHost, hosts
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.config.power import RedfishPower
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.power.redfish import RedfishReader
from pytest_agentperf.power.redfish_body import NotPower, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POWER = {"PowerControl": [{"Name": "System", "PowerConsumedWatts": 429}, {"PowerConsumedWatts": 90}]}
SECRET = "correct horse"


def parsed(resource: Any) -> tuple[float | None, float | None]:
    row = parse(json.dumps(resource).encode())
    return row.power_w, row.energy_j


@pytest.mark.parametrize(
    ("resource", "power_w", "energy_j"),
    [
        (POWER, 429, None),
        ({"PowerWatts": {"Reading": 6311.5}, "EnergykWh": {"Reading": 2}}, 6311.5, 7.2e6),
        (
            {"PowerWatts": {"Reading": 374}, "EnergyJoules": {"Reading": 5}, "EnergykWh": {"Reading": 9}},
            374,
            5,
        ),
        ({"InputPowerWatts": {"Reading": 937.4}, "OutputPowerWatts": {"Reading": 900}}, 937.4, None),
        ({"EnergykWh": {"Reading": 0.5}}, None, 1.8e6),
        ({"ReadingType": "Power", "ReadingUnits": "kW", "Reading": 3.2}, 3200, None),
        ({"ReadingType": "EnergykWh", "ReadingUnits": "kW.h", "Reading": 1}, None, 3.6e6),
        ({"PowerWatts": {"Reading": 0}, "Status": {"State": "Enabled"}}, 0, None),
    ],
)
def test_power_and_energy(resource: Any, power_w: float | None, energy_j: float | None) -> None:
    assert parsed(resource) == (power_w, energy_j)


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ([], "no Redfish resource"),
        ({"error": {"code": "Base.1.0.GeneralError"}}, "Redfish error"),
        ({"Status": {"State": "Absent"}, "PowerWatts": {"Reading": 5}}, "is Absent"),
        ({"PowerControl": []}, "empty PowerControl"),
        ({"PowerControl": "x"}, "empty PowerControl"),
        ({"PowerControl": [{"PowerConsumedWatts": None}, {"PowerConsumedWatts": 90}]}, "does not measure"),
        ({"PowerControl": [{"PowerConsumedWatts": 0}]}, "does not measure"),
        ({"PowerControl": [{"PowerConsumedWatts": "429"}]}, "shows '429' as"),
        ({"PowerControl": [{"PowerConsumedWatts": True}]}, "shows 'True' as"),
        ({"PowerControl": [{"PowerConsumedWatts": -3}]}, "no meter can show"),
        ({"PowerControl": [{"PowerConsumedWatts": 1e9}]}, "no meter can show"),
        ({"PowerWatts": {}}, "shows no PowerWatts.Reading"),
        ({"ReadingType": "Temperature", "ReadingUnits": "Cel", "Reading": 30}, "'Cel'"),
        ({"Metrics": {"@odata.id": "/redfish/v1/M"}}, "read its Metrics at /redfish/v1/M"),
        ({"EnvironmentMetrics": {"@odata.id": "/redfish/v1/E"}}, "EnvironmentMetrics at /redfish/v1/E"),
        ({"@odata.type": "#Thermal.v1_0_0.Thermal"}, "is a #Thermal.v1_0_0.Thermal"),
        ({}, "shows no power"),
    ],
)
def test_what_says_nothing_is_refused_with_the_reason(resource: Any, said: str) -> None:
    with pytest.raises(NotPower) as caught:
        parsed(resource)
    assert said in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"PowerControl":', b"\xff", b"[" * 100_000, b'{"a":NaN}'])
def test_no_json(body: bytes) -> None:
    with pytest.raises(NotPower):
        parse(body)


WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 7.5, 1e400, 2**80, "429", [], {}, [{}], {"Reading": "x"}]
)
NAMES = ["PowerControl", "PowerWatts", "EnergykWh", "ReadingUnits", "Reading", "Status", "Metrics", "Name"]
PART = st.dictionaries(st.sampled_from(["Reading", "State", "PowerConsumedWatts", "PowerLimit"]), WRONG)


@given(st.dictionaries(st.sampled_from(NAMES), WRONG | PART | PART.map(lambda part: [part])))
def test_wrong_types_anywhere_are_refused(resource: Any) -> None:
    try:
        row = parse(json.dumps(resource).encode())
    except NotPower:
        return
    assert (row.power_w or 0) >= 0
    assert (row.energy_j or 0) >= 0


def config(*found: FakeHost, **more: Any) -> RedfishPower:
    urls = tuple(f"{host.scheme}://{host.name}/redfish/v1/Chassis/1/Power" for host in found)
    return RedfishPower(
        **{"source": "redfish", "urls": urls, "scope": "chassis", "update_period_s": 1, **more}
    )


def test_a_chassis_is_a_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMC_USER", "root")
    monkeypatch.setenv("BMC_PASSWORD", SECRET)
    with hosts(lambda: json.dumps(POWER)) as (bmc,):
        reader = RedfishReader(config(bmc, user_env="BMC_USER", password_env="BMC_PASSWORD"))
        source = reader.open()
        (reading,) = reader.read()
        bmc.body = lambda: json.dumps({"PowerControl": [{"PowerConsumedWatts": None}]})
        assert list(reader.read()) == []
        (problem,) = reader.take_problems()
        reader.close()
    assert (source.source, source.scope, source.measured) == (f"redfish ({bmc.name})", "chassis", True)
    assert (reading.device, reading.power_w) == (f"{bmc.name}/redfish/v1/Chassis/1/Power", 429)
    assert source.devices[0].name == "System"
    assert bmc.name in problem.text
    assert "PowerConsumedWatts" in problem.text
    assert bmc.seen[0]["Authorization"] == "Basic " + b64encode(f"root:{SECRET}".encode()).decode()


def test_a_refused_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BMC_USER", "root")
    monkeypatch.setenv("BMC_PASSWORD", SECRET)
    caplog.set_level(0)
    with hosts(lambda: json.dumps(POWER)) as (bmc,):
        bmc.status = 401
        reader = RedfishReader(config(bmc, user_env="BMC_USER", password_env="BMC_PASSWORD"))
        with pytest.raises(PowerError, match="check the user and password") as caught:
            reader.open()
        reader.close()
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    assert b64encode(f"root:{SECRET}".encode()).decode() not in caplog.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"user_env": "BMC_USER", "password_env": "BMC_NONE"}, "BMC_NONE is empty"),
        ({"user_env": "BMC_USER"}, "power.password_env is not set"),
        (
            {
                "user_env": "BMC_USER",
                "password_env": "BMC_PASSWORD",
                "urls": ("http://bmc/redfish/v1/Power",),
            },
            "a password is not sent over http",
        ),
    ],
)
def test_credentials(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], said: str) -> None:
    monkeypatch.setenv("BMC_USER", "root")
    monkeypatch.setenv("BMC_PASSWORD", SECRET)
    with pytest.raises(PowerError) as caught:
        RedfishReader(config(**{"urls": ("https://bmc/redfish/v1/Power",), **more})).open()
    assert said in caught.value.what
    assert SECRET not in str(caught.value)


def test_a_resource_stands_there_once() -> None:
    with pytest.raises(PowerError, match="twice"):
        RedfishReader(config(urls=("https://bmc/a", "https://bmc/a")))


@pytest.fixture
def https(tmp_path: Path) -> Iterator[FakeHost]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    host = FakeHost(lambda: json.dumps(POWER), context=context)
    yield host
    host.die()


def test_a_certificate_of_ones_own_is_refused_unless_told(
    https: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = RedfishReader(config(https))
    with pytest.raises(PowerError, match=r"cannot be reached .*certificate"):
        refused.open()
    refused.close()
    unverified = RedfishReader(config(https, verify_tls=False))
    assert "verify_tls is off" in unverified.open().notes[0]
    assert [reading.power_w for reading in unverified.read()] == [429]
    unverified.close()
    named = RedfishReader(config(https, ca_file=str(tmp_path / "certificate.pem")))
    assert named.open().notes == ()
    named.close()
    lost = RedfishReader(config(https, ca_file=str(tmp_path / "none.pem")))
    with pytest.raises(PowerError, match=r"ca_file .*none\.pem.*\n?.*no certificates can be read"):
        lost.open()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    trusted = RedfishReader(config(https))
    assert trusted.open().notes == ()
    trusted.close()
