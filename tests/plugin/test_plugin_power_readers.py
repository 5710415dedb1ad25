"""A site's own meter: named in a system file, offered by a hook, read in the sampler's process."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from plugin_support import plain_environment, pytest_command

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.plugin.power_readers import named_readers

if TYPE_CHECKING:
    from plugin_support import Workplace

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_meter"


def use(place: Workplace, reader: str, **options: object) -> None:
    path = place.folder / "systems" / "box.yaml"
    system = yaml.safe_load(path.read_text(encoding="utf-8"))
    power = {"source": "plugin", "reader": reader, "options": options, "interval_s": 0.1}
    system["deployments"]["main"]["power"] = power
    path.write_text(yaml.safe_dump(system, sort_keys=False), encoding="utf-8")


def run(place: Workplace) -> str:
    return subprocess.run(
        pytest_command("suites/tiny", "--system=box", "--agentperf-max-agents=1", "--agentperf-tier=tier1"),
        cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip


def test_the_example_is_read_in_a_run(place: Workplace, tmp_path: Path) -> None:
    # Beside the suite, where pytest finds it only when it collects.
    for name in ("conftest.py", "acme_pdu.py"):
        shutil.copy(EXAMPLE / name, place.folder / "suites" / "tiny" / name)
    for outlet in (0, 1):
        (tmp_path / f"outlet{outlet}").write_text("350\n", encoding="utf-8")
    use(place, "acme-pdu", path=str(tmp_path / "outlet"), outlets=2)
    said = run(place)
    assert "1 passed" in said, said
    (entry,) = place.leaderboard("box").entries
    assert any("acme-pdu" in source.source for source in entry.power_source.values())
    confirmed = entry.phases[-1]
    energy = confirmed.energy
    # Whether so short a window can be valid is another matter.
    assert (energy.devices, energy.invalid_code) in ((2, None), (2, "window_too_short")), energy


def test_a_reader_that_nobody_offers(place: Workplace) -> None:
    place.write("conftest.py", 'def pytest_agentperf_power_readers():\n    return {"other": "mod:make"}\n')
    use(place, "acme-pdu")
    said = run(place)
    assert "no plugin offers a power reader 'acme-pdu'; offered: other" in said


def config(*offered: object) -> pytest.Config:
    hook = SimpleNamespace(pytest_agentperf_power_readers=lambda config: list(offered))
    return cast("pytest.Config", SimpleNamespace(hook=hook))


def test_several_plugins_offer_readers() -> None:
    found = named_readers(config({"a": "pkg.mod:Make"}, {}, {"b": "mod:make", "a": "pkg.mod:Make"}))
    assert found == {"a": "pkg.mod:Make", "b": "mod:make"}


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        (("mod:make",), "returned str"),
        (({"a": "mod"},), "'a' is 'mod'"),
        (({"a": object},), "'a' is <class 'object'>"),
        (({"a": "mod:one"}, {"a": "mod:two"}), "offered twice"),
    ],
)
def test_what_cannot_be_a_reader_is_refused(offered: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        named_readers(config(*offered))
