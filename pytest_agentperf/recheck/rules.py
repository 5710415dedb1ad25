"""The rules that the course of a phase is held against, in nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.recheck.numbers import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rules(NamedTuple):
    """What the course of one phase is held against."""

    stagger_ns: int
    settle_ns: int
    min_window_ns: int
    trajectories: int
    each: int
    limit_ns: int
    failure_wait_ns: int
    delay_max_ns: int
    begins_inside: bool
    """Whether agents begin in the midst of a trajectory, before the assigned ones."""
    until_certain: bool
    """Whether the window closes once verdicts are certain at an error rate."""
    drain_max_ns: int | None
    """How long answers of a closed window are waited for; None: until all have ended."""


def rules_of(ruleset: Mapping[str, Any], kind: str, n_agents: int) -> Rules:
    """Return the rules of a phase; of a warm-up every agent completes one trajectory, or its time is up."""
    warmup = kind == "warmup"
    return Rules(
        stagger_ns=ns(min(ruleset["stagger_max_s"], ruleset["stagger_total_s"] / max(1, n_agents))),
        settle_ns=0 if warmup else ns(ruleset["settle_s"]),
        min_window_ns=1 if warmup else ns(ruleset["min_window_s"]),
        trajectories=1 if warmup else ruleset["min_trajectories"],
        each=1 if warmup else ruleset["min_trajectories_per_agent"],
        limit_ns=ns(ruleset["warmup_max_s" if warmup else "phase_max_s"]),
        failure_wait_ns=ns(ruleset["failure_wait_s"]),
        delay_max_ns=ns(ruleset["tool_delay_max_s"]),
        begins_inside=ruleset.get("agents_begin") == "steady_state" and not warmup,
        until_certain=ruleset.get("error_rate") is not None and not warmup,
        drain_max_ns=None if ruleset.get("drain_max_s") is None or warmup else ns(ruleset["drain_max_s"]),
    )


def ns(seconds: float) -> int:
    """Return nanoseconds."""
    return round(seconds * NS_PER_S)
