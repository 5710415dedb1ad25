"""Synthesising a small dataset from a seed: agents that find and fix one bug in a made-up repository.

Nothing is copied from a recording; the text comes from the templates in `dataset.demo`. Equal seeds give
equal trajectories on every Python version.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.trajectory import ToolCall, Trajectory
from pytest_agentperf.dataset.demo.draw import Draw
from pytest_agentperf.dataset.demo.go_rust import GO, RUST
from pytest_agentperf.dataset.demo.harness import SYSTEM_PROMPT, TOOLS
from pytest_agentperf.dataset.demo.java_cpp import CPP, JAVA
from pytest_agentperf.dataset.demo.project import Project
from pytest_agentperf.dataset.demo.python_typescript import PYTHON, TYPESCRIPT
from pytest_agentperf.dataset.documents import DatasetMetadata
from pytest_agentperf.dataset.estimate import prompt_bytes
from pytest_agentperf.dataset.histories import RecordedRequest, TrajectoryBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentperf.dataset.demo.languages import Language

DEMO_SEED = 1
DEMO_METADATA = DatasetMetadata(
    name="demo",
    version="1",
    licence="Apache-2.0",
    provenance=(
        "Synthesised from seed 1 by fixtures/datasets/generate_demo.py; no recording, no model and "
        "no foreign code is "
        "behind it. For demos and CI only: tool delays (20 to 400 ms) are deliberately faster than "
        "real tools, and "
        "output_tokens (8 to 48) are drawn, short so that short windows see complete answers. "
        "Results on it say "
        "nothing about a system's capacity for real agents."
    ),
    estimated="utf8 bytes / 4",
)

# One entry per trajectory: Python most, then TypeScript and Go, as in the workload the benchmark describes.
_LANGUAGES: tuple[Language, ...] = (PYTHON,) * 9 + (TYPESCRIPT,) * 5 + (GO,) * 4 + (RUST, JAVA, CPP) * 2
_CLEARED = "[Old tool result content cleared]"
# Milliseconds; the square of a uniform draw between them gives the long tail that tools have.
_DELAYS_MS: Mapping[str, tuple[int, int]] = {
    "bash": (80, 400),
    "edit": (20, 60),
    "glob": (20, 90),
    "grep": (30, 120),
    "list": (20, 80),
    "read": (20, 90),
    "todowrite": (20, 40),
}
_MAX_DELAY_NS = 400_000_000


class _Call(NamedTuple):
    tool: str
    arguments: dict[str, Any]
    result: str


class _Step(NamedTuple):
    reasoning: str
    content: str
    calls: tuple[_Call, ...]


def synthesize_demo(seed: int = DEMO_SEED) -> Iterator[Trajectory]:
    """Yield the demo's trajectories in order of their ids."""
    for number, language in enumerate(_LANGUAGES, 1):
        draw = Draw("agentperf-demo", seed, number)
        yield _trajectory(f"demo-{number:02}", Project(language, draw), draw)


def _trajectory(trajectory_id: str, project: Project, draw: Draw) -> Trajectory:
    builder = TrajectoryBuilder(trajectory_id, language=project.language.name)
    history: list[dict[str, Any]] = [
        {"role": "system", "content": project.text(SYSTEM_PROMPT)},
        {"role": "user", "content": _task(project, draw)},
    ]
    steps = _steps(project, draw)
    # Some agents forget old tool results to save context; the history is then not append-only.
    clears = len(steps) == 5 and draw.chance(40)
    for position, step in enumerate(steps):
        if clears and position == 4:
            history = _without_oldest_results(history)
        calls = [(f"call_{draw.hex(12)}", call) for call in step.calls]
        tool_calls = tuple(
            ToolCall(call_id, call.tool, _delay_ns(call.tool, draw)) for call_id, call in calls
        )
        builder.add(
            RecordedRequest(
                messages=list(history),
                tools=TOOLS,
                tool_delay_ns=min(sum(call.duration_ns or 0 for call in tool_calls), _MAX_DELAY_NS),
                output_tokens=min(draw.between(8, 48), draw.between(8, 48)),
                tool_calls=tool_calls,
            )
        )
        history.append(_assistant(step, calls))
        history += (
            {"role": "tool", "tool_call_id": call_id, "content": call.result} for call_id, call in calls
        )
    return _with_estimates(builder.build())


def _with_estimates(trajectory: Trajectory) -> Trajectory:
    turns = zip(trajectory.turns, prompt_bytes(trajectory), strict=True)
    return replace(trajectory, turns=tuple(replace(turn, prompt_tokens=size // 4) for turn, size in turns))


def _delay_ns(tool: str, draw: Draw) -> int:
    low_ms, high_ms = _DELAYS_MS[tool]
    part = draw.below(1000)
    return low_ms * 1_000_000 + (high_ms - low_ms) * part * part


def _without_oldest_results(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = next(i for i, message in enumerate(history) if message["role"] == "tool")
    return [*history[:first], {**history[first], "content": _CLEARED}, *history[first + 1 :]]


def _assistant(step: _Step, calls: list[tuple[str, _Call]]) -> dict[str, Any]:
    return {
        "role": "assistant",
        "reasoning_content": step.reasoning,
        "content": step.content,
        "tool_calls": [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(call.arguments)},
            }
            for call_id, call in calls
        ],
    }


def _task(project: Project, draw: Draw) -> str:
    symptom = project.bug.symptom
    opening = draw.pick(
        (
            "Users report a problem with @noun@s: {symptom}. Please find the cause and fix it.",
            "Fix this in @project@: {symptom}. Keep the public functions as they are.",
            "Since last week {symptom}. Find out why, repair it, and make sure that a test covers it.",
        )
    )
    task = project.text(opening.format(symptom=symptom))
    if draw.chance(45):
        task += f"\n\nThis is what the log shows:\n\n```\n{project.text(project.language.trace)}```"
    return task


def _steps(project: Project, draw: Draw) -> list[_Step]:
    """Return the three to five steps of one agent; the recording ends with the last one's tool calls."""
    plan = draw.pick(
        (
            (_locate, _read, _edit),
            (_run_failing, _read, _edit),
            (_locate, _read, _edit, _run_passing),
            (_run_failing, _locate, _read, _edit),
            (_look_around, _read, _edit, _run_passing),
            (_locate, _read, _run_failing, _edit, _run_passing),
            (_look_around, _locate, _read, _edit, _run_passing),
        )
    )
    return [step(project, draw) for step in plan]


def _look_around(project: Project, draw: Draw) -> _Step:
    tree = _Call("list", {"path": project.root}, project.tree())
    log = _Call(
        "bash", {"command": "git log --oneline -n 6", "description": "Show recent commits"}, project.log()
    )
    return _Step(
        project.text(
            "I do not know this repository yet. The layout and the recent commits will tell me where "
            "@noun@s live."
        ),
        draw.pick(("", "I'll look at the project first.")),
        (tree, log) if draw.chance(60) else (tree,),
    )


def _locate(project: Project, draw: Draw) -> _Step:
    word = project.text(draw.pick(("@field@", "@Noun@", "limit")))
    grep = _Call("grep", {"pattern": word, "path": project.root}, project.grep(word))
    glob = _Call("glob", {"pattern": "**/*", "path": project.root}, project.glob())
    return _Step(
        project.text(
            f"The report is about the limit on @field@. Searching for `{word}` should lead me to the code."
        ),
        draw.pick(("", project.text("Let me find where @noun@s are handled."))),
        draw.pick(((grep,), (grep, glob), (glob, grep))),
    )


def _read(project: Project, draw: Draw) -> _Step:
    paths = [project.source_path, project.test_path] if draw.chance(70) else [project.source_path]
    return _Step(
        f"{project.source_path} is the place. I need the whole file, because the limit may be used "
        f"elsewhere, "
        "and the tests show what behaviour is expected.",
        draw.pick(("", "I'll read the code and its tests.")),
        tuple(_Call("read", {"filePath": f"{project.root}/{path}"}, project.read(path)) for path in paths),
    )


def _edit(project: Project, draw: Draw) -> _Step:
    path = f"{project.root}/{project.source_path}"
    arguments = {"filePath": path, "oldString": project.bug.wrong, "newString": project.bug.right}
    edit = _Call("edit", arguments, f"Edited {path}: 1 replacement\n\n{project.diff()}")
    todos = [
        {"content": "Fix the comparison", "status": "completed", "priority": "high"},
        {"content": f"Run {project.text('@noun@')} tests", "status": "in_progress", "priority": "high"},
    ]
    todo = _Call("todowrite", {"todos": json.dumps(todos)}, "1 step left")
    return _Step(
        f"Line {project.bug_line} is wrong: `{project.bug.wrong.strip()}` explains that "
        f"{project.bug.symptom}. "
        f"It has to be `{project.bug.right.strip()}`.",
        draw.pick(("", f"The cause is `{project.source_path}:{project.bug_line}`.")),
        (edit, todo) if draw.chance(30) else (edit,),
    )


def _run_failing(project: Project, draw: Draw) -> _Step:
    return _run(project, draw, project.language.failure, "Before I change anything I want to see it fail.")


def _run_passing(project: Project, draw: Draw) -> _Step:
    return _run(
        project, draw, project.language.passed, "The change is in. Now the tests have to show that it works."
    )


def _run(project: Project, draw: Draw, output: str, reasoning: str) -> _Step:
    command = project.text(project.language.test_command)
    arguments = {"command": command, "description": project.text("Run the tests of @noun@s")}
    return _Step(
        reasoning, draw.pick(("", "Running the tests.")), (_Call("bash", arguments, project.text(output)),)
    )
