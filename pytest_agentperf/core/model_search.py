"""A search for CI: a monotone model of both margins over agents says where the next probe tells most.

    far from the limit ──► as far as the model reaches ──► between PASS and FAIL, where a margin crosses zero ──► done

Every probe so far is used, of whichever tier's sake it was. The answer is where the model crosses zero, between the
largest number that certainly passed and the smallest that certainly failed; its interval is that of the crossing when
every probe's margins are drawn from their own intervals.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.search import CapacityInterval, Status, Strategy, TierOutcome
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_agentperf.core.search import Probe, ProbeKind, SearchRules
    from pytest_agentperf.core.verdict import TierVerdict

LEVEL = 0.95
# How much the mix of trajectories in the air moves the capacity by each metric from one search to the next, as standard
# deviations of its logarithm: it lasts longer than the windows, so that none of them shows it. Output speed follows the
# mean context, the tail of TTFT the few that are longest. Fitted to trials (docs/gates.md).
_MIX_ERRORS = (0.006, 0.011)
_DRAWS = 400
# Of a metric whose interval is open, or of a few trajectories.
_UNKNOWN_ERROR = 0.1
# A prediction beyond what was probed is trusted for so many times as many agents, or as few: far where nothing was
# known before; where the last capacity was the start nearby at first, as at a cliff margins say nothing of the limit,
# and further with each probe.
_REACH = 4.0
_NEAR = 1.25
# Between PASS and FAIL no probe lies nearer to either than this share of the gap.
_MARGIN = 0.1


class Point(NamedTuple):
    """One probe: how far each metric is on its good side, as logarithms of the ratio to the target."""

    n_agents: int
    logs: tuple[float, ...]
    errors: tuple[float, ...]


class ModelSearch(Strategy):
    """Finds, for each tier of one deployment, about the largest number of agents that passes."""

    def __init__(
        self, tiers: Iterable[str], rules: SearchRules, *, starts: Mapping[str, int] | None = None
    ) -> None:
        """`starts`: where a tier begins, if not where the rules say."""
        begins = starts or {}
        super().__init__(
            {tier: _TierModel(tier, replace(rules, start=begins.get(tier, rules.start))) for tier in tiers}
        )


class _TierModel:
    def __init__(self, tier: str, rules: SearchRules) -> None:
        self.tier = tier
        self.rules = rules
        self.passed: set[int] = set()
        self.failed: set[int] = set()
        self.points: list[Point] = []
        self.inconclusive: dict[int, bool] = {}
        """Numbers that are too near to the limit for a certain verdict, and whether their point estimates pass."""
        self.contradictions: list[str] = []
        self.ended: str | None = None
        self.reach = rules.max_agents
        self.reach_reason: str | None = None
        self._invalid: dict[int, int] = {}

    @property
    def low(self) -> int:
        """The largest certain pass below every certain failure; 0 if there is none."""
        limit = min(self.failed, default=math.inf)
        return max((n for n in self.passed if n < limit), default=0)

    @property
    def high(self) -> int | None:
        return min(self.failed, default=None)

    def wanted(self) -> tuple[int, ProbeKind] | None:
        n_agents = self._next()
        return None if n_agents is None else (n_agents, "model")

    def _next(self) -> int | None:
        if self.ended:
            return None
        low, high = self.low, self.high
        if high is None and low == 0 and not self.inconclusive:
            return self.rules.start
        if self.inconclusive:
            return None
        if high is None:
            return None if low >= self.reach else self._beyond(low)
        if high - low <= max(1, math.floor(self.rules.resolution * low)):
            return None
        room = _MARGIN * (high - low) if low else self.rules.resolution * high
        target = crossing(self.points, floor=max(1, low))
        if target is None:
            target = (low + high) / 2 if low else self._guess(high)
        if not low:
            target = max(target, high / self._reach)
        nearest = round(min(max(target, low + room), high - room))
        return min(max(nearest, low + 1), high - 1)

    def _beyond(self, low: int) -> int:
        """Return how far to go where nothing has failed: to where the model says, if it reaches that far."""
        predicted = crossing(self.points, floor=low)
        if predicted is None:
            predicted = self._guess(low)
        # A little further: a probe that fails bounds the answer.
        further = min(predicted * (1 + self.rules.resolution), low * self._reach)
        return min(max(low + 1, math.ceil(further)), self.reach)

    def _guess(self, n_agents: int) -> float:
        """Return where the limit may lie by the probe of `n_agents` alone, which says nothing of the slope."""
        margin = math.inf if n_agents in self.passed else -math.inf
        if self.points:
            # Metrics fall about as agents rise, or faster.
            margin = min(min(point.logs) for point in self.points)
        reach = math.log(self._reach)
        return n_agents * math.exp(min(max(margin, -reach), reach))

    @property
    def _reach(self) -> float:
        if self.rules.start == 1:
            return _REACH
        before = min(len(self.passed | self.failed) - 1, 3)
        return float(min(_REACH, _NEAR**2**before))

    def record(self, probe: Probe, verdict: TierVerdict, reason: str | None, *, load_generator: bool) -> None:
        n = probe.n_agents
        if verdict.verdict is Verdict.INVALID:
            invalid = self._invalid[n] = self._invalid.get(n, 0) + 1
            if self._next() == n and invalid > self.rules.invalid_retries:
                text = f"INVALID at N = {n} in {invalid} attempts: {reason or 'no reason given'}"
                if load_generator and self.low and self.high is None:
                    self.reach, self.reach_reason = self.low, text
                else:
                    self.ended = text
            return
        self._invalid.pop(n, None)
        if (point := _point(n, verdict)) is not None:
            self.points.append(point)
        if verdict.verdict is Verdict.PASS:
            self.passed.add(n)
        elif verdict.verdict is Verdict.FAIL:
            self.failed.add(n)
        else:
            self.inconclusive[n] = not verdict.violated
        low = max(self.passed, default=0)
        for failed in sorted(self.failed):
            if failed <= low:
                note = f"{failed} agents failed, {min(p for p in self.passed if p >= failed)} passed"
                if note not in self.contradictions:
                    self.contradictions.append(note)

    def outcome(self) -> TierOutcome:
        low, high = self.low, self.high
        status = Status.SEARCHING if self.wanted() is not None else Status.DONE
        if self.ended:
            status = Status.INVALID
        done = status is Status.DONE
        agents = self._answer() if done else None
        return TierOutcome(
            tier=self.tier,
            status=status,
            agents=agents,
            at_least=done and high is None and not self.inconclusive,
            confirmed=False,
            passed_max=low,
            failed_min=high,
            contradictions=tuple(self.contradictions),
            reason=self.ended or self.reach_reason,
            interval=self._interval(agents) if done and agents is not None else None,
        )

    def _answer(self) -> int:
        """Return the largest number that passes by the model, within what is certain."""
        low, high = self.low, self.high
        if high is None and not self.inconclusive:
            return low
        found = crossing(self.points, floor=max(1, low))
        if found is None:
            return max([low, *(n for n, passes in self.inconclusive.items() if passes)])
        return self._bounded(found)

    def _bounded(self, found: float) -> int:
        most = math.inf if self.high is None else self.high - 1
        return int(min(max(self.low, math.floor(found)), most))

    def _interval(self, agents: int) -> CapacityInterval | None:
        """Return where the crossing lies when every margin is drawn anew from its own interval."""
        if self.high is None and not self.inconclusive:
            return None
        generator = random.Random(f"{self.tier} {sorted(p.n_agents for p in self.points)}")
        found = []
        for _ in range(_DRAWS):
            drawn = [
                p._replace(logs=tuple(generator.gauss(y, e) for y, e in zip(p.logs, p.errors, strict=True)))
                for p in self.points
            ]
            shifts = tuple(generator.gauss(0, error) for error in _MIX_ERRORS)
            value = crossing(drawn, floor=1, shifts=shifts)
            if value is not None:
                found.append(value)
        if len(found) < _DRAWS // 2:
            return None
        found.sort()
        cut = round((1 - LEVEL) / 2 * len(found))
        return CapacityInterval(
            # Whole agents: an edge is never known better than to the next one.
            low=max(0, min(agents - 1, math.floor(found[cut]))),
            high=max(agents + 1, math.ceil(found[-1 - cut])),
            level=LEVEL,
            method="model",
        )


def _point(n: int, verdict: TierVerdict) -> Point | None:
    """Return a probe's margins as logarithms, None where one is infinite or unknown.

    What certainly violates its target lies on the bad side, whatever the answers that had ended say.
    """
    speed, ttft = verdict.speed_margin, verdict.ttft_margin
    if speed is None or ttft is None or speed <= -1 or ttft >= 1:
        return None
    logs = [math.log1p(speed), -math.log1p(-ttft)]
    for i, metric in enumerate(("output_speed_p25", "ttft_p95")):
        if metric in verdict.violated:
            logs[i] = min(logs[i], 0.0)
    known = (verdict.speed_log_error, verdict.ttft_log_error)
    return Point(n, tuple(logs), tuple(_UNKNOWN_ERROR if error is None else error for error in known))


def crossing(
    points: Sequence[Point], *, floor: float, shifts: tuple[float, ...] = (0.0, 0.0)
) -> float | None:
    """Return the least number of agents at which a margin crosses zero by its monotone fit, None without two points.

    `shifts`: by how much each metric's crossing is moved, in its logarithm. Between probes the fit is linear in the
    logarithm of agents; beyond them it goes on as its last piece, and no number below `floor` is returned.
    """
    if len({p.n_agents for p in points}) < 2:
        return None
    found = [
        root * math.exp(shifts[i])
        for i in range(len(points[0].logs))
        if (root := _root([(p.n_agents, p.logs[i], p.errors[i]) for p in points])) is not None
    ]
    return max(floor, min(found)) if found else None


def _root(values: Sequence[tuple[int, float, float]]) -> float | None:
    xs, ys = _decreasing(values)
    for i in range(1, len(xs)):
        if ys[i - 1] > 0 >= ys[i]:
            share = ys[i - 1] / (ys[i - 1] - ys[i])
            return math.exp(xs[i - 1] + share * (xs[i] - xs[i - 1]))
    # The side that is nearest to the limit is the piece to go on with.
    pieces = list(zip(range(len(xs) - 1), range(1, len(xs)), strict=True))
    for a, b in pieces if ys[0] <= 0 else reversed(pieces):
        slope = (ys[b] - ys[a]) / (xs[b] - xs[a])
        if slope < 0:
            at = a if ys[0] <= 0 else b
            return math.exp(min(50.0, xs[at] - ys[at] / slope))
    return None


def _decreasing(values: Sequence[tuple[int, float, float]]) -> tuple[list[float], list[float]]:
    """Return log N and the non-increasing fit, weighted by the inverse variances: pool adjacent violators."""
    by_n: dict[int, list[float]] = {}
    for n, y, error in values:
        weight = 1 / (error**2 + 1e-6)
        total = by_n.setdefault(n, [0.0, 0.0])
        total[0] += weight * y
        total[1] += weight
    pools: list[list[float]] = []  # weighted sum, weight, members
    for n in sorted(by_n):
        pools.append([*by_n[n], 1.0])
        while len(pools) > 1 and pools[-1][0] / pools[-1][1] > pools[-2][0] / pools[-2][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    fitted = [pool[0] / pool[1] for pool in pools for _ in range(int(pool[2]))]
    return [math.log(n) for n in sorted(by_n)], fitted
