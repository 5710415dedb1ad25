"""The baseline among the examples: what the tool makes of the suite beside it, and what a gate compares with."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plugin_support import plain_environment, pytest_command

from pytest_agentperf.baselines import read_baseline_file
from pytest_agentperf.cli import main

if TYPE_CHECKING:
    from pytest_agentperf.core.baseline import TierBaseline

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REMAKE = "make the example's baseline again, as examples/README.md says"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the example: suite, systems, baseline."""
    return shutil.copytree(EXAMPLES / "own_suite", tmp_path / "own_suite")


def lines_of_readme() -> list[list[str]]:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    return [shlex.split(line) for line in re.findall(r"^    ((?:pytest|agentperf) .*)$", text, re.M)]


def ran(folder: Path, words: list[str]) -> str:
    done = subprocess.run(
        pytest_command(*words[1:]),
        cwd=folder,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n→ {REMAKE}"
    return done.stdout


def counted(tier: TierBaseline) -> dict[str, Any]:
    """Return all that does not hang on the date, or on how a processor rounds."""
    fields = tier.model_dump(exclude={"measured_utc"})
    return fields | {
        "breakdown": [
            {name: value for name, value in bucket.items() if not isinstance(value, float)}
            for bucket in fields["breakdown"]
        ]
    }


def test_it_is_what_a_rehearsal_of_its_suite_gives(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsal, accept, _ = lines_of_readme()
    shipped = read_baseline_file(own / "baseline.json")
    (own / "baseline.json").unlink()
    ran(own, rehearsal)
    monkeypatch.chdir(own)
    (board,) = own.glob(accept[-1].replace("RUN", "*"))
    assert main([*accept[1:-1], str(board)]) == 0
    made = read_baseline_file(own / "baseline.json")
    assert [counted(tier) for tier in made.tiers] == [counted(tier) for tier in shipped.tiers], REMAKE


def test_a_gate_compares_with_it(own: Path) -> None:
    *_, gate = lines_of_readme()
    assert "2 passed" in ran(own, gate)
