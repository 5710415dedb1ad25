"""A suite and a system whose server is a real engine, launched; and a session that measures it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recipes
import yaml

from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.dataset import DatasetMetadata, write_dataset

if TYPE_CHECKING:
    from pytest_agentperf.core.leaderboard import Entry

ANSWER_TOKENS = 192
SESSION_MAX_S = 900
LONG_PROMPT_WORDS = 2_500
"""More than the pool of any engine here holds."""
RULES = {
    "max_tokens": ANSWER_TOKENS,
    "min_window_s": 8.0,
    "min_trajectories": 4,
    "min_trajectories_per_agent": 1,
    "resolution": 0.0,
    "warmup_agents": 1,
    "warmup_max_s": 5.0,
    "idle_max_s": 30.0,
    # Server and load share this machine, and where the knee is does not hang on milliseconds.
    "client_lag_p99_max_s": 30.0,
    "client_error_max": 0.99,
    "calibration_s": 2.0,
}


def write_prompts(folder: Path, *, long_last: bool) -> Path:
    """Write a dataset of short prompts, the last one of each trajectory over-long if that is wanted."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You write code."}]
    turns = []
    for number in range(3):
        filler = " and return it" * LONG_PROMPT_WORDS if long_last and number == 2 else ""
        messages.append({"role": "user", "content": f"Write function number {number}{filler}."})
        turns.append(Turn(((0, len(messages)),), 0, output_tokens=ANSWER_TOKENS))
        messages.append({"role": "assistant", "content": "def f(x):\n    return x"})
    metadata = DatasetMetadata(name="short", version="1", licence="Apache-2.0", provenance="made by a test")
    write_dataset(folder, [Trajectory(f"t{n}", tuple(messages), tuple(turns)) for n in range(8)], metadata)
    return folder


def write_workplace(
    folder: Path, engine: recipes.Engine, *, long_last: bool = False, restart: bool = False, **rules: object
) -> None:
    """Write a suite of one tier, a system that launches the engine, and the test."""
    suite = {
        "schema": "agentperf-suite/1",
        "name": "slots",
        "title": "Slots",
        "model": engine.model,
        # As long as the model's: what does not fit into an engine's pool is sent to it all the same.
        "max_context_tokens": 16_384 if long_last else 4_096,
        "max_tokens": ANSWER_TOKENS,
        "history_reasoning": "none",
        "edition": "1",
        "editions": {
            "1": {
                "source": "between as many agents as slots and one more",
                "tiers": {"tier1": {"output_speed_p25_tok_s": 1, "ttft_p95_s": engine.ttft_p95_s}},
            }
        },
        "sampling": {
            "parameters": {"temperature": 1.0},
            "source": "tests",
            "max_effort": {"default": {"parameters": {}, "source": "tests"}},
        },
        "dataset": str(write_prompts(folder / "short", long_last=long_last)),
        "ruleset": "demo/1",
        "overrides": RULES | {"output_length": engine.output_length} | rules,
    }
    system = {
        "schema": "agentperf-system/1",
        "name": "engine",
        "title": engine.name,
        "accelerator": {"name": "none", "vendor": "none"},
        "submitter": {"name": "tests"},
        "deployments": {
            "main": {
                "endpoint": {"url": recipes.URL, "model": engine.model},
                "allocated_accelerators": 1,
                "search_start": 1 if long_last else 2,
                "launch": {**engine.launch, "ready_deadline_s": 180, "stop_grace_s": 10, "restart": restart},
                "serving": {"framework": engine.framework},
            }
        },
    }
    for name, content in (("suites/slots/suite.yaml", suite), ("systems/engine.yaml", system)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    test = "def test_capacity(capacity_run, slo_tier):\n    assert capacity_run.agents\n"
    (folder / "suites" / "slots" / "test_capacity.py").write_text(test, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")


def measure(folder: Path, engine: recipes.Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the suite in a session of its own."""
    command = [sys.executable, "-m", "pytest", "suites/slots", "--system=engine", "-p", "no:cacheprovider"]
    return _run(folder, engine, [*command, *arguments])


def examine(folder: Path, engine: recipes.Engine) -> subprocess.CompletedProcess[str]:
    """Make the checks alone."""
    agentperf = str(Path(sys.executable).with_name("agentperf"))
    return _run(folder, engine, [agentperf, "doctor", "--system=engine", "--suite=suites/slots", "--json"])


def _run(folder: Path, engine: recipes.Engine, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*engine.prefix, *command], cwd=folder, capture_output=True, text=True, timeout=SESSION_MAX_S
    )


def entry_of(folder: Path) -> Entry:
    """Return the one entry that a session left behind."""
    (path,) = folder.glob("agentperf-results/*/leaderboard.json")
    (entry,) = Leaderboard.model_validate_json(path.read_text(encoding="utf-8")).entries
    return entry


def left_running(folder: Path) -> list[str]:
    """Return the processes that still know of a folder."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    # What was launched is told by the model's folder in its command line.
    return [line for line in listed.split("\n") if "tiny_model" not in line and str(folder) in line]
