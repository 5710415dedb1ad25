"""The search for each tier's capacity, as a pure object: asked for the next probe, told its verdicts.

    ramp (double until FAIL) ──► bisect (until resolution) ──► confirm (repeat the answer once) ──► done

All tiers of one deployment share their probes: a verdict recorded for one tier's sake counts for the others too.
The same object runs on real HTTP, in virtual time and replayed from a journal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_agentperf.core.gate import GateResult
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.verdict import TierVerdict


ProbeKind = Literal["ramp", "bisect", "confirm", "gate", "model"]


class Probe(NamedTuple):
    """Measure one phase at this number of agents."""

    n_agents: int
    kind: ProbeKind
    attempt: int
    """How many probes at this N came before."""


class Status(StrEnum):
    """How far a tier's search got."""

    SEARCHING = "searching"
    DONE = "done"
    INVALID = "invalid"
    """It ended without an answer: the reason says why."""


class CapacityInterval(BaseModel):
    """Between which numbers of agents a capacity lies; None where nothing bounds it on that side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | None
    high: int | None
    level: float
    """`model`: the confidence that the capacity lies inside. `probes`: that of each probe's own intervals."""
    method: Literal["model", "probes"] = "model"
    """`model`: where the modelled margins cross zero. `probes`: from the largest number of agents that passed for sure
    to the smallest that failed for sure, by the confidence intervals inside these probes."""


@dataclass(frozen=True, slots=True)
class TierOutcome:
    """What the search knows of one tier.

    `agents` is the capacity once `status` is DONE; before that `passed_max` and `failed_min` bound it.
    """

    tier: str
    status: Status
    agents: int | None
    at_least: bool
    """True: no failure up to the largest number tried, so the capacity is this or more."""
    confirmed: bool
    passed_max: int
    failed_min: int | None
    contradictions: tuple[str, ...]
    reason: str | None
    gate: GateResult | None = None
    """How a gate answered; None of a search."""
    interval: CapacityInterval | None = None


@dataclass(frozen=True, slots=True)
class SearchRules:
    """The rules of the search (METHODOLOGY §4.15 and 4.16)."""

    start: int
    max_agents: int
    ramp_factor: int
    resolution: float
    confirm: bool
    confirm_descents_max: int
    invalid_retries: int

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.max_agents:
            raise ValueError(f"start must lie in 1..{self.max_agents}, got {self.start}")

    @classmethod
    def from_ruleset(cls, ruleset: Ruleset, *, start: int, max_agents: int) -> SearchRules:
        """Return the ruleset's rules of search."""
        return cls(
            start=start,
            max_agents=max_agents,
            ramp_factor=ruleset.ramp_factor,
            resolution=ruleset.resolution,
            confirm=ruleset.confirm,
            confirm_descents_max=ruleset.confirm_descents_max,
            invalid_retries=ruleset.invalid_retries,
        )


class TierStrategy(Protocol):
    """How one tier is answered: which probes, and what follows from their verdicts."""

    def wanted(self) -> tuple[int, ProbeKind] | None:
        """Return the next number of agents to probe and why, None once the answer is there."""

    def record(self, probe: Probe, verdict: TierVerdict, reason: str | None, *, load_generator: bool) -> None:
        """Take a probe's verdict; `reason` explains an INVALID one, `load_generator` says that it lies there."""

    def outcome(self) -> TierOutcome:
        """Return what is known; valid at any time, final once nothing is wanted."""


class Strategy:
    """The tiers of one deployment: each has its own strategy, and all share their probes."""

    def __init__(self, tiers: Mapping[str, TierStrategy]) -> None:
        self._tiers = dict(tiers)
        self._attempts: dict[int, int] = {}

    def next_probe(self, tier: str) -> Probe | None:
        """Return the probe that brings `tier` on, None once its search has ended."""
        wanted = self._tiers[tier].wanted()
        if wanted is None:
            return None
        n_agents, kind = wanted
        return Probe(n_agents, kind, self._attempts.get(n_agents, 0))

    def record(
        self,
        probe: Probe,
        verdicts: Mapping[str, TierVerdict],
        *,
        reason: str | None = None,
        load_generator: bool = False,
    ) -> None:
        """Take the verdicts of a probe, one per tier.

        `reason` explains INVALID ones; `load_generator` says that the load generator was their cause.
        """
        self._attempts[probe.n_agents] = probe.attempt + 1
        for tier, verdict in verdicts.items():
            if tier in self._tiers:
                self._tiers[tier].record(probe, verdict, reason, load_generator=load_generator)

    def outcome(self, tier: str) -> TierOutcome:
        """Return what is known of a tier; valid at any time, final once `next_probe` gives None."""
        return self._tiers[tier].outcome()


class CapacitySearch(Strategy):
    """Finds, for each tier of one deployment, the largest number of agents that passes.

    A load generator that carries no more ends a ramp in which nothing has failed at what passed: that far it reaches.
    """

    def __init__(self, tiers: Iterable[str], rules: SearchRules) -> None:
        super().__init__({tier: _TierSearch(tier, rules) for tier in tiers})


class _TierSearch:
    def __init__(self, tier: str, rules: SearchRules) -> None:
        self.tier = tier
        self.rules = rules
        self.passed: set[int] = set()
        self.failed: set[int] = set()
        self.confirmed: set[int] = set()
        self.descents = 0
        self.invalid_in_a_row: dict[int, int] = {}
        self.contradictions: list[str] = []
        self.ended: str | None = None
        self.reach = rules.max_agents
        self.reach_reason: str | None = None

    @property
    def failed_min(self) -> int | None:
        return min(self.failed, default=None)

    @property
    def passed_max(self) -> int:
        """The largest pass below every failure; 0 if there is none."""
        limit = math.inf if self.failed_min is None else self.failed_min
        return max((n for n in self.passed if n < limit), default=0)

    def wanted(self) -> tuple[int, ProbeKind] | None:
        """Return the next N to probe and why, None if there is nothing left to learn."""
        if self.ended:
            return None
        low, high = self.passed_max, self.failed_min
        if high is None:
            if low == 0:
                return self.rules.start, "ramp"
            if low < self.reach:
                return min(low * self.rules.ramp_factor, self.reach), "ramp"
        elif high - low > self._step(low):
            # Also after a failed confirmation: the next passed N may lie far below the answer's resolution.
            # Without any pass the search reaches 1: capacity 0 means that a single agent failed.
            return (low + high) // 2, "bisect"
        if low == 0 or not self.rules.confirm or low in self.confirmed:
            return None
        return low, "confirm"

    def record(self, probe: Probe, judged: TierVerdict, reason: str | None, *, load_generator: bool) -> None:
        n, verdict = probe.n_agents, judged.verdict
        if self.wanted() is None:
            self._note_late(n, verdict)
            return
        confirming = self.wanted() == (n, "confirm")
        if verdict in (Verdict.INVALID, Verdict.INCONCLUSIVE):
            invalid = self.invalid_in_a_row[n] = self.invalid_in_a_row.get(n, 0) + 1
            wanted = self.wanted()
            if wanted is not None and wanted[0] == n and invalid > self.rules.invalid_retries:
                text = f"{verdict} at N = {n} in {invalid} attempts: {reason or 'no reason given'}"
                if load_generator and wanted[1] == "ramp" and self.passed_max:
                    self.reach, self.reach_reason = self.passed_max, text
                else:
                    self.ended = text
            return
        self.invalid_in_a_row.pop(n, None)
        if verdict is Verdict.PASS:
            if n in self.failed:
                self.contradictions.append(f"{n} agents passed after they had failed")
            else:
                if confirming or n in self.passed:
                    self.confirmed.add(n)
                self.passed.add(n)
        else:
            if n in self.passed:
                self.contradictions.append(f"{n} agents failed after they had passed")
                self.passed.discard(n)
                self.confirmed.discard(n)
            self.failed.add(n)
            if confirming:
                self._descend(n)
        self._note_inversions()

    def _note_late(self, n: int, verdict: Verdict) -> None:
        """The outcome stands; what another tier's probe says against it later is reported."""
        low, high = self.passed_max, self.failed_min
        if (verdict is Verdict.FAIL and n <= low) or (
            verdict is Verdict.PASS and high is not None and n >= high
        ):
            done = "passed" if verdict is Verdict.PASS else "failed"
            self.contradictions.append(f"{n} agents {done} after the search had ended at {low}")

    def _descend(self, n: int) -> None:
        self.descents += 1
        if self.descents > self.rules.confirm_descents_max:
            self.ended = (
                f"the answer was not confirmed {self.descents} times, the last time at {n} agents: "
                "the system is not stable enough at its limit for a capacity to be stated"
            )

    def _note_inversions(self) -> None:
        for n in sorted(self.failed):
            larger = [p for p in self.passed if p > n]
            if larger:
                note = f"{n} agents failed, {min(larger)} passed"
                if note not in self.contradictions:
                    self.contradictions.append(note)

    def _step(self, n: int) -> int:
        return max(1, math.floor(self.rules.resolution * n))

    def outcome(self) -> TierOutcome:
        low, high = self.passed_max, self.failed_min
        status = Status.SEARCHING if self.wanted() else Status.DONE
        if self.ended:
            status = Status.INVALID
        done = status is Status.DONE
        return TierOutcome(
            tier=self.tier,
            status=status,
            agents=low if done else None,
            at_least=done and high is None,
            confirmed=low in self.confirmed,
            passed_max=low,
            failed_min=high,
            contradictions=tuple(self.contradictions),
            reason=self.ended or self.reach_reason,
        )
