"""The compiled modules compute what their source computes, to the bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pytest_agentperf
from pytest_agentperf.software import BUILD, compiled, software_versions

OUTCOMES = Path(__file__).with_name("outcomes.py")


def outcomes(package: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run([sys.executable, OUTCOMES], env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["engine"].startswith(f"{package}{os.sep}")
    return found


@pytest.mark.skipif(not compiled(), reason="not compiled; `tox -e compiled` tests a package that is")
def test_compiled_and_interpreted_rehearsals_are_equal_to_the_bit(tmp_path: Path) -> None:
    package = Path(pytest_agentperf.__file__).parent
    source = tmp_path / package.name
    shutil.copytree(package, source, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    by_machine, by_python = outcomes(package), outcomes(source)
    assert Path(by_machine["engine"]).suffix != ".py"
    assert Path(by_python["engine"]).suffix == ".py"
    assert by_machine["build"] == "compiled"
    assert by_python["build"] is None
    assert by_machine["outcomes"] == by_python["outcomes"]
    assert len(set(by_machine["outcomes"])) == len(by_machine["outcomes"])


def test_software_says_whether_it_is_compiled() -> None:
    from pytest_agentperf.sim.engine import replica

    interpreted = Path(replica.__file__).suffix == ".py"
    assert (BUILD not in software_versions()) == interpreted
