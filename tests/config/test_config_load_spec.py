from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from config_support import SUITE, SYSTEM

from pytest_agentperf.config.load_spec import LoadSpec, parse_load_spec
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("popen", LoadSpec("popen", 1, "popen", "")),
        ("4*popen", LoadSpec("4*popen", 4, "popen", "")),
        (
            " 2*ssh=user@host//python=python3.11//env:A=b ",
            LoadSpec(
                "2*ssh=user@host//python=python3.11//env:A=b",
                2,
                "ssh",
                "user@host",
                (("python", "python3.11"),),
                (("A", "b"),),
            ),
        ),
        (
            "ssh=-p 2222 root@10.0.0.2",
            LoadSpec("ssh=-p 2222 root@10.0.0.2", 1, "ssh", "-p 2222 root@10.0.0.2"),
        ),
        (
            "8*ray://head:10001//resources=load:1",
            LoadSpec(
                "8*ray://head:10001//resources=load:1",
                8,
                "ray",
                "ray://head:10001",
                (("resources", "load:1"),),
            ),
        ),
        ("ray=auto", LoadSpec("ray=auto", 1, "ray", "auto")),
        ("ray=127.0.0.1:6379", LoadSpec("ray=127.0.0.1:6379", 1, "ray", "127.0.0.1:6379")),
    ],
)
def test_the_syntax_is_that_of_xdist(text: str, expected: LoadSpec) -> None:
    assert parse_load_spec(text, where="here") == expected


def test_values_with_names() -> None:
    spec = parse_load_spec("ray=auto//resources=load:0.5,fast//labels=role:load,zone:b", where="here")
    assert spec.numbers("resources") == {"load": 0.5, "fast": 1.0}
    assert spec.names("labels") == {"role": "load", "zone": "b"}
    assert spec.numbers("labels_") == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "names no place"),
        ("0*popen", "0 workers"),
        ("5000*popen", "5000 workers"),
        ("socket=host:8888", "no kind of place is called 'socket'"),
        ("ssh", "names no host"),
        ("popen=here", "need no target"),
        ("popen//cache=/x", "'cache=/x' is no option of popen"),
        ("popen//via=x", "'via=x' is no option of popen"),
        ("ssh=a//python", "'python' is no option of ssh"),
        ("ray=auto//python=x", "is no option of ray"),
        ("ray=auto//resources=load:many", "resources are numbers"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        parse_load_spec(text, where="--agentperf-load")
    assert caught.value.where == "--agentperf-load"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("popen//nice=5", "1*popen"),
        ("2*ssh=user@host//python=x", "2*ssh=user@host"),
        ("8*ray://head:1//resources=a", "8*ray://head:1"),
        ("ray=auto", "1*ray=auto"),
    ],
)
def test_short_names_leave_out_the_options(text: str, short: str) -> None:
    assert parse_load_spec(text, where="here").short == short


def test_what_the_command_says_replaces_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    system = tmp_path / "box.yaml"
    system.write_text(SYSTEM + "load: [2*ssh=a]\n", encoding="utf-8")

    def places(**said: Any) -> list[str]:
        return [spec.short for spec in resolve(tmp_path, system, RunOptions(**said), start=tmp_path).load]

    assert places() == ["2*ssh=a"]
    assert places(load=("popen",)) == ["1*popen"]
    assert places(workers=3) == []
    with pytest.raises(
        ConfigError, match=r"3 workers of this machine are asked for, and .* too: ssh=b"
    ) as it:
        places(workers=3, load=("ssh=b",))
    assert "in the environment or in the ini file" in (it.value.where or "")
