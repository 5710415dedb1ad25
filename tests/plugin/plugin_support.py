"""A suite whose capacity is decided by arithmetic, and systems that are measured in seconds.

The simulated engine of `box` makes a token in 0.5 ms + 5 ms per agent, so N agents get 1000 / (0.5 + 5 N) tokens a
second: 181.8, 95.2, 64.5, 48.8. Tier 1 asks for 78, so two agents pass; tier 2 asks for 130, so one does.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import textwrap
import threading
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpcore  # noqa: F401
import junitparser
import pandas as pd
import yaml

# Loaded here, since pytester forgets what an inner session imports, and numpy cannot be imported twice.
import pytest_agentperf.plugin.measuring
import pytest_agentperf.plugin.resuming
import pytest_agentperf.plugin.session
import pytest_agentperf.plugin.xdist  # noqa: F401
from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.dataset import DatasetMetadata, write_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

# The same goes for what pandas imports when it first meets a Parquet file.
pd.DataFrame({"a": [1]}).to_parquet(io.BytesIO())

MODEL = "org/tiny"
OVERRIDES: dict[str, object] = {
    "min_window_s": 0.4,
    "settle_s": 0.02,
    "stagger_max_s": 0.005,
    "warmup_agents": 1,
    "warmup_max_s": 0.3,
    "min_trajectories": 1,
    "min_trajectories_per_agent": 0,
    "idle_pause_s": 0.0,
    "calibration_s": 0.5,
    "idle_max_s": 1.0,
    "failure_wait_s": 0.1,
    "max_tokens": 16,
    # A busy machine must not turn a test's verdict into INVALID.
    "client_lag_p99_max_s": 30.0,
    "client_error_max": 0.99,
}
ENGINE: dict[str, object] = {
    "step_base_ms": 0.5,
    "step_per_sequence_ms": 5.0,
    "step_per_context_ktoken_ms": 0.0,
    "prefill_tokens_per_s": 1e9,
    "max_prefill_tokens_per_step": 1_000_000,
    "output_tokens_median": 16,
    "output_tokens_p95": 16,
}
# Never fails: 1 ms a token, whatever the number of agents. Faster ones keep a core busy, for nothing.
SWIFT = {"step_base_ms": 1.0, "step_per_sequence_ms": 0.0}
TEST_CAPACITY = """
def test_capacity(capacity_run, slo_tier):
    assert capacity_run.agents >= slo_tier.expected_agents, capacity_run.report()
"""
# Calibration loads this machine, and what other tests do to it would be taken for the load generator's error.
CONFTEST = """
import pytest

replaced = pytest.MonkeyPatch()

def exact(trajectories, hold_s, pool, n_agents, chunks_per_s):
    from pytest_agentperf.core.client_error import Calibration

    return Calibration(
        n_agents=n_agents, chunks_per_s=chunks_per_s, chunks_per_s_reached=chunks_per_s, requests=1000,
        ttft_error_p50_s=0.0, ttft_error_p99_s=0.0, speed_error_p99=0.0, cpu_share_max=0.1, workers=1,
    )

def pytest_configure():
    replaced.setattr("pytest_agentperf.opening._calibrate", exact)

def pytest_unconfigure():
    replaced.undo()
"""
INI = """
[pytest]
addopts = -p no:asyncio -p no:anyio -p no:cov -p no:hypothesispytest
"""


def write_tiny_dataset(directory: Path) -> Path:
    """Write four trajectories of two turns without tool delays."""
    turns = (Turn(((0, 2),), 0, output_tokens=16), Turn(((0, 4),), 0, output_tokens=16))
    messages: tuple[dict[str, Any], ...] = (
        {"role": "system", "content": "You write code."},
        {"role": "user", "content": "Write a line."},
        {"role": "assistant", "content": "Here it is."},
        {"role": "user", "content": "And another."},
    )
    metadata = DatasetMetadata(name="four", version="1", licence="Apache-2.0", provenance="made by a test")
    write_dataset(directory, [Trajectory(f"t{k}", messages, turns) for k in range(4)], metadata)
    return directory


def suite_yaml(dataset: Path | str, **changes: object) -> str:
    tiers = {
        "tier1": {"output_speed_p25_tok_s": 78, "ttft_p95_s": 5},
        "tier2": {"output_speed_p25_tok_s": 130, "ttft_p95_s": 5},
    }
    suite = {
        "schema": "agentperf-suite/1",
        "name": "tiny",
        "title": "Tiny",
        "model": MODEL,
        "max_context_tokens": 32_768,
        "max_tokens": 64,
        "history_reasoning": "none",
        "edition": "first",
        "editions": {"first": {"source": "a test", "tiers": tiers}},
        "sampling": {
            "parameters": {"temperature": 1.0},
            "source": "a test",
            "max_effort": {"default": {"parameters": {}, "source": "a test"}},
        },
        "dataset": str(dataset),
        "ruleset": "demo/1",
    }
    return yaml.safe_dump(suite | changes, sort_keys=False)


def system_yaml(
    name: str,
    *,
    endpoint: dict[str, object] | None = None,
    expected: dict[str, int] | None = None,
    engine: dict[str, object] | None = None,
    overrides: dict[str, object] | None = None,
) -> str:
    """Return a system; simulated if no endpoint is given, expecting one agent where `expected` says nothing."""
    deployment: dict[str, object] = {
        "suite": "tiny",
        "tiers": {
            tier: {"expected_agents": expected[tier]} if expected and tier in expected else {}
            for tier in ("tier1", "tier2")
        },
        "endpoint": endpoint or {"builtin": "sim"},
        "allocated_accelerators": 2,
        "serving": {"framework": "sim"},
    }
    if endpoint is None:
        deployment["simulate"] = ENGINE | (engine or {})
        deployment["power"] = {"source": "sim", "interval_s": 0.05}
    system = {
        "schema": "agentperf-system/1",
        "name": name,
        "title": name.capitalize(),
        "accelerator": {"name": "none", "vendor": "none", "per_system": 8},
        "submitter": {"name": "a test"},
        "overrides": OVERRIDES | (overrides or {}),
        "deployments": {"main": deployment},
    }
    return yaml.safe_dump(system, sort_keys=False)


class Workplace:
    """A folder like a user's: `suites/tiny`, `systems/`, a pytest.ini."""

    def __init__(self, folder: Path, dataset: Path, *, calibrates: bool = False) -> None:
        """`calibrates`: whether runs calibrate the load generator, as a user's do."""
        self.folder = folder
        self.dataset = dataset
        if not calibrates:
            self.write("suites/conftest.py", CONFTEST)
        self.suite(suite_yaml(dataset))
        self.test(TEST_CAPACITY)
        self.write("pytest.ini", INI)

    @property
    def results(self) -> Path:
        return self.folder / "agentperf-results"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def suite(self, text: str) -> None:
        self.write("suites/tiny/suite.yaml", text)

    def test(self, text: str) -> None:
        self.write("suites/tiny/test_capacity.py", text)

    def system(self, name: str, **options: Any) -> None:
        self.write(f"systems/{name}.yaml", system_yaml(name, **options))

    def files(self) -> list[str]:
        """Return every file, without Python's and pytest's caches."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and not {"__pycache__", ".pytest_cache"} & set(path.parts)
        )

    def leaderboard(self, system: str, number: int = -1) -> Leaderboard:
        """Return a system's leaderboard, of several the last one; that of a rehearsal, too."""
        paths = sorted(self.results.glob(f"tiny-{system}-*/leaderboard*.json"))
        return Leaderboard.model_validate_json(paths[number].read_text(encoding="utf-8"))

    def run_folder(self, system: str) -> Path:
        (found,) = self.results.glob(f"tiny-{system}-*")
        return found


def pytest_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *arguments]


@cache
def _without_pandas() -> str:
    """Return a folder that hides pandas: pyarrow imports it where it is, for a fifth of what a short session takes."""
    folder = Path(tempfile.mkdtemp(prefix="without-pandas-"))
    (folder / "pandas.py").write_text("raise ImportError('hidden from what tests start')\n", encoding="utf-8")
    return str(folder)


def plain_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what an outer pytest or a user's settings put there.

    And without pandas, which the package does not need.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        # Under CI pytest writes whole messages into its short summary.
        if not name.startswith(("AGENTPERF_", "PYTEST_", "COV_")) and name not in ("CI", "BUILD_NUMBER")
    }
    path = os.pathsep.join(filter(None, (_without_pandas(), kept.get("PYTHONPATH"))))
    return kept | {"COLUMNS": "160", "PYTHONPATH": path} | changes


def load_json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def properties_of(case: Any) -> dict[str, str]:
    """Return the properties of a test case as junitparser reads them; none may stand twice."""
    found = [(p.name, p.value) for p in case.child(junitparser.Properties)]
    assert len(found) == len(dict(found))
    return dict(found)


def noted(place: Workplace, pattern: str) -> bool:
    """Return whether a journal says that a phase has finished whose file has such a name."""
    return any(
        fnmatch(name, pattern)
        for journal in place.results.rglob("journal.jsonl")
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n")
        if '"event":"phase_finished"' in line
        for name in re.findall(r"[\w./-]+\.parquet", line)
    )


def wait_for(condition: Callable[[], object]) -> None:
    """Wait for what another process does; a minute is forever."""
    patience = threading.Event()
    for _ in range(600):
        if condition():
            return
        patience.wait(0.1)
    raise AssertionError("it did not happen within a minute")


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
