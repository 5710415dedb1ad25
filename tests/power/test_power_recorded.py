"""Every recorded sample: what it gives, or why it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.config.power import FilePower
from pytest_agentperf.core.prometheus_text import NotPrometheusText, parse
from pytest_agentperf.power.exporter_metrics import DCGM
from pytest_agentperf.power.file_records import NotARecord, detect
from pytest_agentperf.power.redfish_body import NotPower
from pytest_agentperf.power.redfish_body import parse as parse_redfish
from pytest_agentperf.power.smi_output import parse_nvidia_xml, parse_rocm

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.power.rows import Row

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "power"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded samples beside the checkout")

CONFIG = FilePower(source="file", path="x", scope="gpu+hbm", update_period_s=1)


def watts(rows: list[Row]) -> list[float | None]:
    return [row.power_w for row in rows]


def counters(text: str) -> str:
    with pytest.raises(NotARecord) as caught:
        detect(text, CONFIG)
    return str(caught.value)


def readme(text: str) -> str:
    with pytest.raises(NotPrometheusText) as caught:
        parse(text.encode())
    (blank,) = [s for s in parse(text.replace("...\n", "").encode()) if s.name == "DCGM_FI_DEV_MEMORY_TEMP"]
    assert blank.value >= 2**63 - 1024
    # As power, this sentinel is refused.
    as_power = text.replace("...\n", "").replace("MEMORY_TEMP", "POWER_USAGE")
    (row,) = DCGM.rows(parse(as_power.encode()))
    assert row.power_w is None
    assert row.refused[0].code == "sentinel"
    return str(caught.value)


def t4(text: str) -> tuple[list[float | None], float | None, str | None, str | None]:
    (row,) = DCGM.rows(parse(text.encode(), DCGM.names))
    return [row.power_w], row.energy_j, row.name, row.driver


def xml(text: str) -> tuple[list[float | None], float | None, int, list[str]]:
    snapshot = parse_nvidia_xml(text)
    (row,) = snapshot.rows
    return watts(snapshot.rows), row.power_cap_w, snapshot.declared, [r.text for r in row.refused]


def rocm(text: str) -> tuple[list[float | None], float | None]:
    rows = parse_rocm(json.loads(text)).rows
    return watts(rows), rows[0].power_cap_w


def dell(text: str) -> tuple[float | None, str | None, float | None]:
    row = parse_redfish(text.encode())
    return row.power_w, row.name, row.power_cap_w


def psu(text: str) -> str:
    with pytest.raises(NotPower) as caught:
        parse_redfish(text.encode())
    return str(caught.value)


NA = "nvidia-smi shows power_draw 'N/A'"
EXPECTED: dict[str, tuple[Callable[[str], object], object]] = {
    "amd_rocm_smi__mi100_rocm602.json": (rocm, ([36.0, 44.0, 43.0, 39.0], 290.0)),
    "amd_rocm_smi__vega-20-WKS-GL-XE.json": (rocm, ([26.0], 225.0)),
    "dcgm__default-counters.csv": (counters, "has no column 'time'; it has '# Format'"),
    "dcgm__readme-excerpt.prom": (readme, "line 7 is no Prometheus sample: '...'"),
    "dcgm__t4-transcribed-excerpt.prom": (t4, ([8.969], 128996.013, "Tesla T4", "460.106.00")),
    "nvidia_smi__a100-sxm4-v12.xml": (xml, ([67.03], 500.0, 4, [])),
    "nvidia_smi__gtx-1070-ti.xml": (xml, ([None], None, 1, [NA])),
    "nvidia_smi__rtx-3080-v13.xml": (xml, ([142.33], 320.0, 1, [])),
    "nvidia_smi__tesla-t4.xml": (xml, ([26.78], 70.0, 1, [])),
    "redfish__dell_power.json": (dell, (429.0, "System Power Control", 348.0)),
    "redfish__hp_power_subsys_psu_1.json": (
        psu,
        "has no reading of its own: read its Metrics at "
        "/redfish/v1/Chassis/1/PowerSubsystem/PowerSupplies/PowerSupply1/Metrics",
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_sample(name: str) -> None:
    outcome, expected = EXPECTED[name]
    assert outcome((DATA / name).read_text(encoding="utf-8")) == expected


def test_every_sample_is_listed() -> None:
    assert {path.name for path in DATA.iterdir()} == set(EXPECTED)
