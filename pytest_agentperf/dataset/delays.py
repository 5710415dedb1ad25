"""How long an agent's tools take: measured where the recording says so, else drawn once from the tool's distribution.

The quantiles are those of real recordings (docs/datasets.md has the table). All arithmetic is on integers, so that a
seed gives the same delays on every machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import ToolCall

_NS_PER_MS = 1_000_000

_QUANTILES_PERMILLE = (0, 100, 250, 500, 750, 900, 1000)
# Milliseconds at those quantiles.
_DISTRIBUTIONS_MS: dict[str, tuple[int, ...]] = {
    "shell": (20, 170, 420, 1_310, 3_000, 9_200, 60_000),
    "read": (5, 12, 20, 36, 80, 210, 2_200),
    "edit": (4, 8, 12, 19, 28, 40, 700),
    "search": (8, 18, 28, 46, 75, 130, 1_500),
    "web": (200, 450, 700, 1_200, 2_400, 4_800, 20_000),
    "other": (10, 26, 40, 88, 1_120, 4_300, 39_000),
}
# The published workload says: <0.1 s to 5 s, median ~1 s. Its tools ran in containers, slower.
_PUBLISHED_MS: dict[str, tuple[int, ...]] = {
    "shell": (60, 450, 850, 1_600, 2_700, 4_100, 5_000),
    "read": (30, 130, 300, 620, 1_150, 2_000, 4_000),
    "edit": (30, 140, 320, 680, 1_200, 2_000, 4_000),
    "search": (40, 180, 420, 850, 1_500, 2_600, 5_000),
    "web": (250, 600, 1_100, 1_900, 3_000, 4_300, 5_000),
    "other": (40, 150, 350, 750, 1_400, 2_600, 5_000),
}
# By the names that agents give them, in lower case.
_KINDS: dict[str, tuple[str, ...]] = {
    "shell": (
        *(
            "bash",
            "shell",
            "local_shell",
            "shell_command",
            "exec_command",
            "execute_command",
            "run_command",
            "cmd",
        ),
        *(
            "execute_bash",
            "terminal",
            "run_in_terminal",
            "container.exec",
            "powershell",
            "bashoutput",
            "python",
        ),
        "execute_ipython_cell",
    ),
    "read": ("read", "view", "cat", "open", "ls", "list", "list_dir", "list_files", "read_file", "view_file"),
    "edit": (
        *(
            "edit",
            "write",
            "multiedit",
            "apply_patch",
            "patch",
            "str_replace_editor",
            "str_replace_based_edit_tool",
        ),
        *(
            "file_editor",
            "create",
            "write_file",
            "edit_file",
            "replace",
            "insert",
            "notebookedit",
            "todowrite",
        ),
        *("todoread", "task_tracker", "update_plan"),
    ),
    "search": (
        "grep",
        "glob",
        "find",
        "search",
        "search_dir",
        "search_file",
        "find_file",
        "codesearch",
        "ripgrep",
    ),
    "web": ("webfetch", "websearch", "web_search", "web_fetch", "fetch", "browser"),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
_NO_TOOL_TIME = frozenset(
    (
        # A human answers.
        *(
            "question",
            "askuserquestion",
            "ask_user",
            "ask_followup_question",
            "request_user_input",
            "exitplanmode",
        ),
        # Another agent runs, for minutes.
        *("task", "agent", "spawn_agent", "delegate", "subagent", "dispatch_agent"),
    )
)


def is_tool_time(tool: str) -> bool:
    """Return whether a call's duration is a tool's: not a human's answer, not a whole run of another agent."""
    return tool.lower() not in _NO_TOOL_TIME


@dataclass(frozen=True, slots=True)
class DelayRules:
    """How the delays of a dataset are drawn where they were not measured."""

    seed: int = 1

    def call_delay_ns(self, call: ToolCall, *, trajectory: str, turn: int, position: int) -> int:
        """Return the delay of one call: measured, or drawn; 0 for what is no tool time."""
        if not is_tool_time(call.name):
            return 0
        if call.duration_ns is not None:
            return call.duration_ns
        return draw_delay_ns(call.name, self.seed, trajectory, turn, position)

    def turn_delay_ns(self, calls: Sequence[ToolCall], *, trajectory: str, turn: int) -> int:
        """Return the delay after a turn whose tools ran one after another."""
        return sum(
            self.call_delay_ns(call, trajectory=trajectory, turn=turn, position=i)
            for i, call in enumerate(calls)
        )


def draw_delay_ns(tool: str, *key: object, published: bool = False) -> int:
    """Draw a delay from the distribution of `tool`, in whole milliseconds; equal keys give equal delays.

    `published` takes the distributions of the published workload instead of the measured ones.
    """
    text = "\0".join(map(str, ("delay", tool, *key)))
    permyriad = (
        int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") % 10_000
    )
    values_ms = (_PUBLISHED_MS if published else _DISTRIBUTIONS_MS)[_KIND_OF.get(tool.lower(), "other")]
    points = zip(_QUANTILES_PERMILLE, _QUANTILES_PERMILLE[1:], values_ms, values_ms[1:], strict=False)
    for low, high, low_ms, high_ms in points:
        if permyriad < high * 10:
            part = permyriad - low * 10
            # The square keeps the tail thin: between two quantiles, long times are rarer than short ones.
            span = (high - low) * 10
            return (low_ms + (high_ms - low_ms) * part * part // (span * span)) * _NS_PER_MS
    return values_ms[-1] * _NS_PER_MS
