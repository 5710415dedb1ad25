"""What a run knows: the sum of its events, the same whether they just happened or are read from a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.checks import failures
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.journal import (
    DeploymentOpened,
    PhaseBrokenOff,
    PhaseFinished,
    PhaseStarted,
    RunBegun,
    RunEnded,
    ServerRevived,
    TierFinished,
)
from pytest_agentperf.core.search import Probe
from pytest_agentperf.core.verdict import LOAD_GENERATOR_CODES, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.checks import Check
    from pytest_agentperf.core.journal import Event
    from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
    from pytest_agentperf.core.search import Strategy

_PROBES = frozenset({"ramp", "bisect", "confirm", "gate", "model"})


class RunState:
    """Changed by `apply` alone."""

    def __init__(self, new_search: Callable[[str], Strategy]) -> None:
        """`new_search(deployment)` returns a search for all its tiers."""
        self.begun: RunBegun | None = None
        self.phases: list[PhaseResult] = []
        """In the order in which they ended."""
        self.opened: dict[str, DeploymentOpened] = {}
        self.checks: dict[str, tuple[Check, ...]] = {}
        """Of each deployment when it was opened last, and all that ever failed: phases may rest on it."""
        self.tiers: dict[str, TierResult] = {}
        """Of searches that have ended."""
        self.searched: dict[str, str] = {}
        """Tiers for which a probe was begun, and their deployments."""
        self.crashes: set[tuple[str, int]] = set()
        """Deployments and numbers of agents at which the server crashed."""
        self.tokens = 0
        self.elapsed_s = 0.0
        self._new_search = new_search
        self._searches: dict[str, Strategy] = {}
        self._next_phase = 0
        self._warmups: dict[str, tuple[int, int]] = {}

    def search(self, deployment: str) -> Strategy:
        """Return the deployment's search, as far as it got."""
        if deployment not in self._searches:
            self._searches[deployment] = self._new_search(deployment)
        return self._searches[deployment]

    def number_for(self, deployment: str, *, warmup: bool) -> tuple[int, int | None]:
        """Return a phase's number, and for a warm-up its attempt: no two phases of a run have both the same.

        Isolation prefixes are made from both. All warm-ups of a deployment are attempts of one phase, so that the
        number of a probe does not depend on how often the server or the run had to be started again.
        """
        if warmup and deployment in self._warmups:
            return self._warmups[deployment]
        return self._next_phase, 0 if warmup else None

    def apply(self, event: Event) -> None:
        """Take an event into account; raises ConfigError for a probe that the search would not have asked for."""
        match event:
            case RunBegun():
                self.begun = event
            case DeploymentOpened():
                self.opened[event.deployment] = event
                self._checked(event)
            case PhaseStarted():
                self._started(event)
            case PhaseFinished():
                self.tokens += event.tokens
                self._finished(event)
            case PhaseBrokenOff():
                self.tokens += event.tokens
            case TierFinished():
                self.tiers[event.result.tier.name] = event.result
        if isinstance(event, PhaseStarted | PhaseFinished | PhaseBrokenOff | ServerRevived | RunEnded):
            self.elapsed_s = event.elapsed_s

    def _checked(self, event: DeploymentOpened) -> None:
        before = failures(self.checks.get(event.deployment, ()))
        failing = {check.name for check in failures(event.preflight)}
        kept = (check for check in before if check.name not in failing)
        self.checks[event.deployment] = (*event.preflight, *kept)

    def _started(self, event: PhaseStarted) -> None:
        self._next_phase = max(self._next_phase, event.phase + 1)
        if event.kind == "warmup":
            self._warmups[event.deployment] = (event.phase, event.attempt + 1)
        if event.tier is not None:
            self.searched[event.tier] = event.deployment

    def _finished(self, event: PhaseFinished) -> None:
        result, tier = event.result, event.tier
        if tier is not None and result.kind in _PROBES:
            self._record(result, tier)
        self.phases.append(result)
        if result.kind != "warmup" and any(reason.code == "server_crashed" for reason in result.invalid):
            self.crashes.add((result.deployment, result.n_agents))

    def _record(self, result: PhaseResult, tier: str) -> None:
        """Tell the search what a phase says about every tier."""
        search = self.search(result.deployment)
        probe = search.next_probe(tier)
        if probe is None or probe != (result.n_agents, result.kind, result.attempt):
            wanted = "nothing more" if probe is None else f"{probe.kind} at {probe.n_agents} agents"
            raise ConfigError(
                f"phase {result.phase} is {result.kind} at {result.n_agents} agents, "
                f"where the search of {tier} wants {wanted}",
                remedy="measure anew: these phases belong to another search",
            )
        search.record(
            Probe(*probe),
            # It ended when it was certain for this tier: that it was not for another one yet says nothing of that.
            {
                verdict.tier: verdict
                for verdict in result.verdicts
                if verdict.tier == tier or verdict.verdict is not Verdict.INCONCLUSIVE
            },
            reason=next((verdict.reason for verdict in result.verdicts if verdict.tier == tier), None),
            load_generator=bool(result.invalid)
            and all(reason.code in LOAD_GENERATOR_CODES for reason in result.invalid),
        )
