"""A model's true capacity by brute force: phases at every number of agents around it, each with many seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.pass_curve import PassCurve, pass_curve
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.opening import NotRunnable
from pytest_agentperf.rehearsal import rehearsed_run, tabulated_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun
    from pytest_agentperf.rehearsal import Tabulate

_BAND = 0.15
"""How far around a search's answer brute force begins, as a share of it."""


class Trial(NamedTuple):
    """One phase."""

    n_agents: int
    seed: int
    passed: bool | None


class Oracle:
    """Tries numbers of agents at one tier of one system's model."""

    def __init__(
        self,
        settings: RunSettings,
        tier: str,
        *,
        tabulate: Tabulate | None = None,
        on_trial: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        """Raise NotRunnable where the system has no deployment for the tier."""
        found = settings.deployment_for(tier)
        if found is None:
            raise NotRunnable(f"system {settings.system.name} has no deployment for {tier}")
        self.deployment = found[0]
        self._tier = tier
        self._settings = settings
        self._tabulate = tabulate or tabulated_once()
        self._on_trial = on_trial
        self._known: dict[tuple[int, int], bool | None] = {}

    def passes(self, n_agents: int, seed: int) -> bool | None:
        """Run one phase, as the first of a run of its own; None where it has no verdict."""
        key = (n_agents, seed)
        if key not in self._known:
            settings = replace(
                self._settings,
                nonce=f"oracle {seed}",
                ruleset=self._settings.ruleset.model_copy(update={"warmup_agents": 0}),
            )
            with rehearsed_run(settings, Unwatched(), tabulate=self._tabulate) as run:
                result = run.run_fixed(self.deployment, n_agents)
            verdict = next(v.verdict for v in result.verdicts if v.tier == self._tier)
            self._known[key] = {Verdict.PASS: True, Verdict.FAIL: False}.get(verdict)
            self._on_trial(Trial(n_agents, seed, self._known[key]))
        return self._known[key]

    def curve(self, numbers: Iterable[int], seeds: int) -> PassCurve:
        """Try each number of agents with each seed; raises ConfigError where one has no verdict at all."""
        try:
            return pass_curve({n: [self.passes(n, seed) for seed in range(seeds)] for n in numbers})
        except ValueError as error:
            raise ConfigError(
                str(error), where=self._tier, remedy="see `agentperf replay`, or a rehearsal, at that number"
            ) from None

    def search(self, seed: int = 0) -> int:
        """Return what the run's own search finds, at least 1: where brute force begins."""
        settings = replace(self._settings, nonce=f"oracle {seed}")
        with rehearsed_run(settings, Unwatched(), tabulate=self._tabulate) as run:
            result = run.measure(self._tier)
        return max(1, result.agents or result.passed_max)

    def bracket(self, about: int, seeds: int) -> tuple[int, int]:
        """Return two numbers between which the edge lies: every seed passes the first, or it is 1; none the second."""
        width = max(2, round(about * _BAND))
        low, high = max(1, about - width), about + width
        while low > 1 and not all(self.passes(low, seed) for seed in range(seeds)):
            low = max(1, low - width)
        while high < self._settings.max_agents and any(self.passes(high, seed) for seed in range(seeds)):
            high = min(self._settings.max_agents, high + width)
        return low, high


def grid(low: int, high: int, points: int) -> list[int]:
    """Return at most so many numbers from `low` to `high`, evenly spaced, both ends among them."""
    steps = min(points - 1, high - low)
    return sorted({low + round((high - low) * i / steps) for i in range(steps + 1)}) if steps > 0 else [low]


class Unwatched:
    """An `Observer` of a run that nobody watches."""

    def dataset_progress(self, done: int, total: int) -> None:
        """Show nothing."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Show nothing."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Show nothing."""

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        """Keep nothing but the result."""
        return run.result
