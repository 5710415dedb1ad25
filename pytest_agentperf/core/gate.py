"""The question of a merge: whether the system still carries as many agents as the baseline, less a tolerance.

    threshold ──PASS──► better than that, by far? ──► a probe at baseline × (1 + tolerance) ──► done
        │  └──FAIL──► done
        └──INCONCLUSIVE──► once more ──► done

One phase answers it, two if need be. Tiers of one deployment share their phases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.search import Status, Strategy, TierOutcome
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.search import Probe, ProbeKind
    from pytest_agentperf.core.verdict import TierVerdict

_INCONCLUSIVE_MAX = 2
# Speed falls about as agents rise; time to first token rises much faster where it decides.
_PROMISING_SPEED = 1.5
_PROMISING_TTFT = 6.0


class GateTarget(BaseModel):
    """What one tier is held to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline_agents: int
    tolerance: float
    """The share of the baseline that may be lost."""
    source: str
    """Where the baseline stands."""

    @property
    def threshold_agents(self) -> int:
        """Return the number of agents that has to pass."""
        return max(1, math.ceil(round(self.baseline_agents * (1 - self.tolerance), 6)))

    @property
    def improved_agents(self) -> int:
        """Return the number of agents from which on the baseline should be raised."""
        return max(self.baseline_agents + 1, math.ceil(round(self.baseline_agents * (1 + self.tolerance), 6)))


class GateResult(BaseModel):
    """How a gate answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: GateTarget
    threshold_agents: int
    verdict: Verdict
    improved_agents: int | None
    """A larger number that passed too: the baseline could be raised to it."""
    lost_where: tuple[str, ...] = ()
    """Of a FAIL: which requests miss the target that the baseline's met."""


class GateSearch(Strategy):
    """Answers for each tier of one deployment whether its threshold passes."""

    def __init__(self, targets: Mapping[str, GateTarget], *, max_agents: int, invalid_retries: int) -> None:
        super().__init__(
            {tier: _TierGate(tier, target, max_agents, invalid_retries) for tier, target in targets.items()}
        )


class _TierGate:
    def __init__(self, tier: str, target: GateTarget, max_agents: int, invalid_retries: int) -> None:
        self.tier = tier
        self.target = target
        self.threshold = target.threshold_agents
        self.passed: set[int] = set()
        self.failed: set[int] = set()
        self.contradictions: list[str] = []
        self.ended: str | None = None
        self._improved = target.improved_agents if target.improved_agents <= max_agents else None
        self._invalid_retries = invalid_retries
        self._undecided: dict[int, list[Verdict]] = {}
        self._promising = False

    @property
    def verdict(self) -> Verdict | None:
        """The answer, None as long as there is none."""
        if any(n <= self.threshold for n in self.failed):
            return Verdict.FAIL
        if any(n >= self.threshold for n in self.passed):
            return Verdict.PASS
        if self._undecided.get(self.threshold, []).count(Verdict.INCONCLUSIVE) >= _INCONCLUSIVE_MAX:
            return Verdict.INCONCLUSIVE
        return Verdict.INVALID if self.ended else None

    def wanted(self) -> tuple[int, ProbeKind] | None:
        n_agents = self._next()
        return None if n_agents is None else (n_agents, "gate")

    def _next(self) -> int | None:
        verdict = self.verdict
        if verdict is None:
            return self.threshold
        improved = self._improved
        if verdict is not Verdict.PASS or improved is None or not self._promising:
            return None
        # Whatever comes of this one, the gate's own question is answered.
        if max(self.passed) >= improved or self.failed or improved in self._undecided:
            return None
        return improved

    def record(self, probe: Probe, verdict: TierVerdict, reason: str | None, *, load_generator: bool) -> None:
        del load_generator  # a gate asks for one number: it has no reach to be shortened
        n_agents, before = probe.n_agents, self.verdict
        if verdict.verdict is Verdict.PASS:
            self.passed.add(n_agents)
            self._promising |= n_agents >= self.threshold and self._is_promising(verdict)
        elif verdict.verdict is Verdict.FAIL:
            self.failed.add(n_agents)
        else:
            undecided = self._undecided.setdefault(n_agents, [])
            undecided.append(verdict.verdict)
            invalid = undecided.count(Verdict.INVALID)
            if n_agents == self.threshold and before is None and invalid > self._invalid_retries:
                self.ended = f"INVALID at N = {n_agents} in {invalid} attempts: {reason or 'no reason given'}"
            return
        low, high = max(self.passed, default=0), min(self.failed, default=math.inf)
        if high <= low:
            self.contradictions.append(f"{high} agents failed, {low} passed")

    def _is_promising(self, verdict: TierVerdict) -> bool:
        speed, ttft = verdict.speed_margin, verdict.ttft_margin
        if speed is None or ttft is None:
            return False
        tolerance = self.target.tolerance
        return speed > _PROMISING_SPEED * tolerance and ttft > min(0.5, _PROMISING_TTFT * tolerance)

    def outcome(self) -> TierOutcome:
        verdict = self.verdict
        low = max((n for n in self.passed if verdict is Verdict.PASS), default=0)
        searching = self.wanted() is not None
        status = Status.SEARCHING if searching and verdict is None else Status.DONE
        return TierOutcome(
            tier=self.tier,
            status=Status.INVALID if self.ended and verdict is Verdict.INVALID else status,
            agents=low or None,
            at_least=bool(low) and not self.failed,
            confirmed=False,
            passed_max=low,
            failed_min=min(self.failed, default=None),
            contradictions=tuple(self.contradictions),
            reason=self._reason(verdict),
            gate=GateResult(
                target=self.target,
                threshold_agents=self.threshold,
                verdict=verdict,
                improved_agents=self._improved
                if self._improved is not None and low >= self._improved
                else None,
            )
            if verdict is not None
            else None,
        )

    def _reason(self, verdict: Verdict | None) -> str | None:
        if verdict is Verdict.INCONCLUSIVE:
            certain = "passes nor fails" if self.threshold == 1 else "pass nor fail"
            return (
                f"{agents_count(self.threshold)} neither {certain} with certainty, in {_INCONCLUSIVE_MAX} phases: "
                "ask with a larger tolerance, or under a ruleset with longer windows"
            )
        return self.ended
