"""The `power:` and `facility:` blocks: what the bundled files propose, and what each mistake says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from config_support import SYSTEM, error_of
from pydantic import TypeAdapter

from pytest_agentperf.config.bundled import SYSTEMS
from pytest_agentperf.config.power import AcceleratorPower, FacilityPower
from pytest_agentperf.config.system import load_system

if TYPE_CHECKING:
    from pathlib import Path

PROPOSED = re.compile(r"^ {4}# ((?:power|facility):.*\n(?: {4}#  .*\n)*)", re.MULTILINE)
MODELS: dict[str, TypeAdapter[Any]] = {
    "power": TypeAdapter(AcceleratorPower),
    "facility": TypeAdapter(tuple[FacilityPower, ...]),
}
TEMPLATE = SYSTEMS.parents[1] / "pytest_agentperf" / "cli" / "templates" / "system.yaml.in"


@pytest.mark.parametrize(
    ("path", "sources"),
    [
        (SYSTEMS / "h200.yaml", ["nvml", "dcgm", "redfish"]),
        (SYSTEMS / "b300.yaml", ["nvml", "dcgm", "redfish"]),
        (SYSTEMS / "gb300.yaml", ["dcgm", "redfish"]),
        (SYSTEMS / "mi355x.yaml", ["amdsmi", "amd-exporter", "redfish"]),
        (TEMPLATE, ["nvml", "amdsmi", "dcgm", "amd-exporter"]),
    ],
    ids=lambda value: value.stem if hasattr(value, "stem") else "",
)
def test_what_a_file_proposes_is_valid(path: Path, sources: list[str]) -> None:
    found = []
    for block in PROPOSED.findall(path.read_text(encoding="utf-8")):
        ((key, value),) = yaml.safe_load(block.replace("\n    # ", "\n")).items()
        model = MODELS[key].validate_python(value)
        found += [one.source for one in (model if key == "facility" else (model,))]
    assert found == sources


MISTAKES = {
    "{source: nvm}": ("`deployments.main.power.source`: there is no 'nvm' here", "did you mean `nvml`?"),
    "{source: 7}": ("there is no '7' here", "one of: none, sim, nvml, amdsmi, dcgm"),
    "{devices: ['0']}": ("`deployments.main.power.source` is missing", "add `source:`"),
    "{source: nvml, devics: ['0']}": (
        "unknown key `deployments.main.power.devics`", "did you mean `devices`?"
    ),
    "{source: nvml, interval_s: 99}": ("`deployments.main.power.interval_s`: ", "(it is 99)"),
    "{source: dcgm}": ("`deployments.main.power.urls` is missing", "add `urls:`"),
    "{source: dcgm, urls: ['http://me:hunter2@host']}": (
        "`deployments.main.power.urls.0`: not an http(s) URL without credentials", "correct it there"
    ),
    "{source: dcgm, urls: ['http://a', 'http://[fd00::1:9400/metrics']}": (
        "`deployments.main.power.urls.1`: its host or port is malformed", "correct it there"
    ),
    "{source: prometheus, urls: ['http://a'], scope: rack, update_period_s: 1, power: {name: x}}": (
        "`deployments.main.power.power.unit` is missing", "add `unit:`"
    ),
    "nvml": ("`deployments.main.power` must be a mapping", "write `key: value` lines"),
}  # fmt: skip


@pytest.mark.parametrize("block", MISTAKES)
def test_mistakes_in_power(tmp_path: Path, block: str) -> None:
    error = error_of(load_system, tmp_path / "box.yaml", f"{SYSTEM}    power: {block}\n")
    what, remedy = MISTAKES[block]
    assert what in error.what
    assert remedy in (error.remedy or "")
    assert "hunter2" not in str(error)
    assert (error.where or "").endswith(f":{SYSTEM.count(chr(10)) + 1}")


@pytest.mark.parametrize(
    ("block", "what", "remedy"),
    [
        (
            "[{source: nvml}]",
            "facility.0.source`: there is no 'nvml' here",
            "redfish, prometheus, file, plugin",
        ),
        ("{source: redfish}", "`deployments.main.facility` must be a list", ""),
        ("[{source: redfish, urls: ['https://a']}]", "facility.0.scope` is missing", "add `scope:`"),
        ("[{source: redfish, urls: ['https://a'], scop: wall}]", "facility.0.scop`", "did you mean `scope`?"),
    ],
)
def test_mistakes_in_facility(tmp_path: Path, block: str, what: str, remedy: str) -> None:
    error = error_of(load_system, tmp_path / "box.yaml", f"{SYSTEM}    facility: {block}\n")
    assert what in error.what
    assert remedy in (error.remedy or "")
