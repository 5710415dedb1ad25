"""One phase: ramp-in, settling, steady-state window, drain. Sans-I/O: told events and the time, it answers.

    RAMP ──all active──► SETTLE ──30 s──► WINDOW ──stop rule──► DRAIN ──its requests ended──► DONE

Both ends of the window are times of events, not of polls, so that a late caller changes nothing; unless someone else
concludes it, as verdicts at an error rate do.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_agentperf.core.kept import NOTHING_KEPT, KeepRule
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.ruleset import Ruleset


PhaseKind = Literal["warmup", "ramp", "bisect", "confirm", "gate", "model", "fixed", "accuracy"]

Absence = Literal["gone", "refusing"]
"""A server that is dead or out of reach; one whose front lives and does nothing but refuse."""


class Stage(StrEnum):
    """Where a phase stands."""

    RAMP = "ramp-in"
    SETTLE = "settling"
    WINDOW = "window"
    DRAIN = "drain"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class StopRule:
    """When all of it holds, the window closes."""

    settle_ns: int
    min_window_ns: int
    min_trajectories: int
    min_trajectories_per_agent: int
    phase_max_ns: int
    drain_max_ns: int | None = None
    until_concluded: bool = False
    """The window ends with `conclude` alone, or with the phase's time."""

    @classmethod
    def from_ruleset(cls, ruleset: Ruleset) -> StopRule:
        """Return the rule for a measured phase; with an error rate, `conclude` ends it."""
        return cls(
            settle_ns=_ns(ruleset.settle_s),
            min_window_ns=_ns(ruleset.min_window_s),
            until_concluded=ruleset.error_rate is not None,
            min_trajectories=ruleset.min_trajectories,
            min_trajectories_per_agent=ruleset.min_trajectories_per_agent,
            phase_max_ns=_ns(ruleset.phase_max_s),
            drain_max_ns=None if ruleset.drain_max_s is None else _ns(ruleset.drain_max_s),
        )

    @classmethod
    def for_warmup(cls, ruleset: Ruleset) -> StopRule:
        """Return the rule for the discarded warm-up: every agent completes one trajectory, or time is up."""
        return cls(
            settle_ns=0,
            min_window_ns=1,
            min_trajectories=1,
            min_trajectories_per_agent=1,
            phase_max_ns=_ns(ruleset.warmup_max_s),
        )


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """Everything a worker needs to run its share of a phase; plain values, so that it travels anywhere."""

    phase: int
    attempt: int
    kind: PhaseKind
    n_agents: int
    stagger_ns: int
    seed: int
    nonce: str
    trajectories: tuple[str, ...]
    failure_wait_ns: int
    tool_delay_cap_ns: int | None = None
    """The longest tool delay: longer ones are cut to it."""
    begin_at: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Where each agent's first trajectory begins: it and a turn of it. Empty: each at its own beginning."""
    keep: KeepRule = NOTHING_KEPT
    """Which answers are kept for a look at their text after the phase."""

    def start_offset_ns(self, agent: int) -> int:
        """Return when the agent sends its first request, after the start of the phase."""
        return agent * self.stagger_ns


class Completion(NamedTuple):
    """An agent finished a trajectory."""

    agent: int
    t_ns: int


class PhaseEvents(NamedTuple):
    """What happened in the workers since the last poll."""

    activations: Sequence[Completion] = ()
    """First sends, or first tokens of agents that begin in mid-trajectory: (agent, time)."""
    completions: Sequence[Completion] = ()
    ttft_s: Sequence[float] = ()
    """Of answers since the last poll, for live display only: the verdict comes from the records."""
    speed_tok_s: Sequence[float] = ()
    failures: int = 0
    tokens: int = 0
    """Prompt and output tokens of those answers: what a budget counts."""
    in_flight: int = 0
    drained: bool = False
    """Whether every request sent before the window closed has ended."""


class PhaseStatus(NamedTuple):
    """Where a running phase stands, for display."""

    kind: PhaseKind
    n_agents: int
    stage: Stage
    elapsed_s: float
    window_s: float
    window_min_s: float
    trajectories: int
    trajectories_min: int
    agents_short: int
    in_flight: int
    failures: int
    ttft_p95_s: float | None
    output_speed_p25_tok_s: float | None
    running: float | None = None
    """Requests that the server itself says it runs, and lets wait."""
    waiting: float | None = None


class Phase:
    """Follows one phase at `n_agents` from its start to its drained end."""

    def __init__(self, n_agents: int, rule: StopRule, start_ns: int) -> None:
        self.n_agents = n_agents
        self.rule = rule
        self.start_ns = start_ns
        self.stage = Stage.RAMP
        self.open_ns: int | None = None
        self.close_ns: int | None = None
        self.end_ns: int | None = None
        self.timed_out = False
        self.broken_off: Absence | None = None
        self._active: dict[int, int] = {}
        self._completion_times: list[int] = []
        self._completions = 0
        self._completed = [0] * n_agents
        # Kept up to date rather than looked for: of 100,000 agents that would take a share of a core.
        self._first_completions: list[int] = []
        """Those that the rule asks for, negated: a heap whose top is the last of them."""
        self._agents_at_quota = self._quota_ns = 0

    @property
    def completions(self) -> int:
        """Return how many trajectories have completed since the start of the phase, up to the window's end."""
        return self._completions

    @property
    def completions_in_window(self) -> int:
        """Return how many trajectories completed inside the window so far."""
        if self.open_ns is None:
            return 0
        return self.completions - sum(t_ns < self.open_ns for t_ns in self._completion_times)

    @property
    def agents_short_of_quota(self) -> int:
        """Return how many agents have not completed as many trajectories as each must."""
        if self.rule.min_trajectories_per_agent == 0:
            return 0
        return self.n_agents - self._agents_at_quota

    def agent_active(self, agent: int, t_ns: int) -> None:
        """An agent sent its first request."""
        self._active.setdefault(agent, t_ns)

    def trajectory_completed(self, agent: int, t_ns: int) -> None:
        """An agent finished a trajectory."""
        self._completion_times.append(t_ns)
        if self.close_ns is None or t_ns <= self.close_ns:
            self._completions += 1
        if len(self._first_completions) < self.rule.min_trajectories:
            heapq.heappush(self._first_completions, -t_ns)
        elif self._first_completions:
            heapq.heappushpop(self._first_completions, -t_ns)
        self._completed[agent] += 1
        if self._completed[agent] == self.rule.min_trajectories_per_agent:
            self._agents_at_quota += 1
            self._quota_ns = max(self._quota_ns, t_ns)

    def update(self, events: PhaseEvents, now_ns: int) -> Stage:
        """Take what happened until `now_ns` and return the stage the phase is in."""
        for agent, t_ns in events.activations:
            self.agent_active(agent, t_ns)
        for agent, t_ns in events.completions:
            self.trajectory_completed(agent, t_ns)
        if self.stage is Stage.RAMP and len(self._active) == self.n_agents:
            self.open_ns = max(self._active.values()) + self.rule.settle_ns
            self.stage = Stage.SETTLE
        if self.stage is Stage.SETTLE and self.open_ns is not None and now_ns >= self.open_ns:
            self.stage = Stage.WINDOW
        deadline_ns = self.start_ns + self.rule.phase_max_ns
        if self.stage is Stage.WINDOW:
            met_ns = self._conditions_met_ns()
            if met_ns is not None and met_ns <= min(now_ns, deadline_ns):
                self._close(met_ns)
        if self.stage in (Stage.RAMP, Stage.SETTLE, Stage.WINDOW):
            if now_ns >= deadline_ns:
                self.timed_out = True
                self._close(deadline_ns)
        elif self.stage is Stage.DRAIN:
            assert self.close_ns is not None
            drain_max_ns = self.rule.drain_max_ns
            if events.drained or (drain_max_ns is not None and now_ns >= self.close_ns + drain_max_ns):
                self.stage = Stage.DONE
                self.end_ns = now_ns
        return self.stage

    def conclude(self, now_ns: int) -> None:
        """Close the window now: what it says is certain."""
        self._close(now_ns)

    def break_off(self, now_ns: int, why: Absence) -> None:
        """End it now, as it can no longer count; what was recorded so far is kept."""
        if self.close_ns is None:
            self._close(now_ns)
        self.stage = Stage.DONE
        self.end_ns = now_ns
        self.broken_off = why

    def _close(self, close_ns: int) -> None:
        if self.open_ns is None or self.open_ns >= close_ns:
            # Timed out before a steady state stood: an empty window, which can carry no verdict but INVALID.
            self.open_ns = close_ns
        self.close_ns = close_ns
        self._completions = sum(t_ns <= close_ns for t_ns in self._completion_times)
        self.stage = Stage.DRAIN

    def _conditions_met_ns(self) -> int | None:
        """Return the moment when all end conditions held, None as long as one does not."""
        if self.open_ns is None or self.rule.until_concluded:
            return None
        if self.completions < self.rule.min_trajectories or self.agents_short_of_quota:
            return None
        enough_ns = -self._first_completions[0] if self._first_completions else 0
        return max(self.open_ns + self.rule.min_window_ns, enough_ns, self._quota_ns)


def stagger_ns(n_agents: int, ruleset: Ruleset) -> int:
    """Return the pause between the starts of two agents: min(0.1 s, 60 s ÷ N) in the official ruleset."""
    return _ns(min(ruleset.stagger_max_s, ruleset.stagger_total_s / n_agents))


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
