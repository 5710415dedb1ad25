"""Where a capacity lies, from all probes around it (docs/compare.md says how, and what that leaves out).

Probes scatter more from one to the next than a percentile's interval inside one of them says: agents share a
server, and so its momentary load. Only the scatter of the probes themselves tells how much. A curve through
them averages it, and a whole run is taken to be off by as much as one probe.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.confidence import Interval
    from pytest_agentperf.core.latency import FloatArray
    from pytest_agentperf.core.leaderboard import PhaseResult, TierResult

LEVEL = 0.95
REACH = 2.0
"""Probes up to so many times the capacity, and down to so small a part of it, tell of it."""
_DEGREES_OF_FREEDOM_MIN = 3
_PROBES_FOR_A_BEND = 7
_GRID = 2_001
Target = Literal["output_speed_p25", "ttft_p95"]
TARGETS: tuple[Target, ...] = ("output_speed_p25", "ttft_p95")


class CapacityEstimate(BaseModel):
    """Where a capacity lies: by the search's own interval, else where the curve through its probes meets the target."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: float
    """By the curve; the search's own answer is one draw around it."""
    low: float | None
    high: float | None
    """None where no probe bounds it on that side."""
    level: float
    probes: int | None
    """None where the search gave the interval itself."""
    scatter: float | None
    """Of the binding metric around its curve: a standard deviation, as a share."""


class Curve(NamedTuple):
    """A metric's logarithm as a polynomial of that of the number of agents."""

    coefficients: FloatArray
    covariance: FloatArray
    """Of the coefficients, the scatter included."""
    scatter: float
    degrees_of_freedom: int
    first: float
    last: float
    probes: int


def capacity_estimate(
    tier: TierResult, phases: Iterable[PhaseResult]
) -> tuple[CapacityEstimate | None, str | None]:
    """Return where a tier's capacity lies, or None and why that cannot be said."""
    if tier.gate is not None:
        return None, "a gate asks whether one number of agents passes, not for the capacity"
    if tier.agents is None or tier.failed_min is None or not tier.agents:
        return None, "the search found no number that passes and one that fails"
    # What probes bracket has no confidence of its own; their scatter has.
    if tier.interval is not None and tier.interval.method == "model":
        found_by_search = CapacityEstimate(
            agents=tier.agents,
            low=tier.interval.low or None,
            high=tier.interval.high,
            level=tier.interval.level,
            probes=None,
            scatter=None,
        )
        return found_by_search, None
    probes = _near(tier, phases)
    curves: dict[Target, Curve | None] = {
        "output_speed_p25": _curve(probes, "output_speed_p25"),
        "ttft_p95": _curve(probes, "ttft_p95"),
    }
    binding = curves.get(tier.binding_constraint) if tier.binding_constraint else None  # type: ignore[call-overload]
    if binding is None:
        return None, (
            f"too few probes near {tier.agents} agents, or with infinite values, to tell how much probes scatter"
        )
    targets = {
        "output_speed_p25": (tier.tier.output_speed_p25_tok_s, 1),
        "ttft_p95": (tier.tier.ttft_p95_s, -1),
    }
    found = [_meets(curve, *targets[name]) for name, curve in curves.items() if curve is not None]
    agents = min((f[0] for f in found if f[0] is not None), default=None)
    if agents is None:
        return None, "the curve through the probes does not meet the target between them"
    lows, highs = [f[1] for f in found], [f[2] for f in found if f[2] is not None]
    return (
        CapacityEstimate(
            agents=agents,
            low=None if None in lows else min(low for low in lows if low is not None),
            high=min(highs, default=None),
            level=LEVEL,
            probes=binding.probes,
            scatter=binding.scatter,
        ),
        None,
    )


def judged_probes(tier: TierResult, phases: Iterable[PhaseResult]) -> list[PhaseResult]:
    """Return the probes that count for a tier, as they came."""
    return [
        phase
        for phase in phases
        if phase.deployment == tier.deployment
        and phase.metrics is not None
        and any(v.tier == tier.tier.name and v.verdict is not Verdict.INVALID for v in phase.verdicts)
    ]


def probe_error(tier: TierResult, phases: Iterable[PhaseResult], target: Target) -> float | None:
    """Return how far the logarithm of one probe's metric can be off at `LEVEL`, near the capacity; None if unknown."""
    curve = _curve(_near(tier, phases), target)
    return None if curve is None else t_quantile((1 + LEVEL) / 2, curve.degrees_of_freedom) * curve.scatter


def is_near(tier: TierResult, n_agents: int) -> bool:
    """Return whether a probe lies near enough to the capacity to tell of it."""
    return bool(tier.agents) and 1 / REACH <= n_agents / (tier.agents or 1) <= REACH


def _near(tier: TierResult, phases: Iterable[PhaseResult]) -> list[PhaseResult]:
    return [phase for phase in judged_probes(tier, phases) if is_near(tier, phase.n_agents)]


def t_quantile(share: float, degrees_of_freedom: int) -> float:
    """Return a quantile of Student's t, within 1 % from three degrees of freedom on (Cornish-Fisher)."""
    z, n = NormalDist().inv_cdf(share), degrees_of_freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def metric(phase: PhaseResult, target: Target) -> tuple[float | None, Interval | None]:
    """Return the metric that a target is for, with its interval inside the phase."""
    if phase.metrics is None:
        return None, None
    if target == "output_speed_p25":
        interval = phase.confidence.output_speed_p25_tok_s if phase.confidence else None
        return phase.metrics.output_speed_p25_tok_s, interval
    return phase.metrics.ttft_p95_s, phase.confidence.ttft_p95_s if phase.confidence else None


def _curve(probes: Sequence[PhaseResult], target: Target) -> Curve | None:
    values = [metric(phase, target)[0] for phase in probes]
    if not all(values):
        return None
    x = np.log([phase.n_agents for phase in probes])
    y = np.log(np.array(values, dtype=np.float64))
    degree = 2 if len(x) >= _PROBES_FOR_A_BEND and len(set(x)) > 3 else 1
    free = len(x) - degree - 1
    if free < _DEGREES_OF_FREEDOM_MIN or len(set(x)) <= degree:
        return None
    design = np.vander(x, degree + 1)
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    residuals = y - design @ coefficients
    scatter = max(math.sqrt(float(residuals @ residuals) / free), _inside(probes, target))
    return Curve(
        coefficients=coefficients,
        covariance=scatter**2 * np.linalg.pinv(design.T @ design),
        scatter=scatter,
        degrees_of_freedom=free,
        first=float(x.min()),
        last=float(x.max()),
        probes=len(x),
    )


def _inside(probes: Sequence[PhaseResult], target: Target) -> float:
    """Return the mean standard error inside the phases, which is the least that they must scatter."""
    errors = []
    for phase in probes:
        interval = metric(phase, target)[1]
        if interval is not None and interval.low and interval.high:
            errors.append(
                math.log(interval.high / interval.low) / (2 * NormalDist().inv_cdf((1 + interval.level) / 2))
            )
    return float(np.mean(errors)) if errors else 0.0


def _meets(curve: Curve, target: float, sign: int) -> tuple[float | None, float | None, float | None]:
    """Return where the curve meets the target, and from where to where its confidence band does.

    None: not between the probes. What surely passes everywhere has no upper end, and bounds nothing from below.
    """
    x = np.linspace(curve.first, curve.last, _GRID)
    design = np.vander(x, len(curve.coefficients))
    margin = sign * (design @ curve.coefficients - math.log(target))
    # What all probes of a run share, as its assignment, cannot be seen in it: it may be as much as one probe's scatter.
    variance = np.einsum("ij,jk,ik->i", design, curve.covariance, design) + curve.scatter**2
    half = t_quantile((1 + LEVEL) / 2, curve.degrees_of_freedom) * np.sqrt(variance)
    at = _first(x, margin < 0)
    surely, hardly = _first(x, margin - half < 0), _last_end(x, margin + half >= 0)
    if surely is None:
        return None, math.inf, None
    return at, None if surely == math.exp(x[0]) else surely, hardly


def _first(x: FloatArray, holds: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float | None:
    return math.exp(x[int(holds.argmax())]) if holds.any() else None


def _last_end(x: FloatArray, holds: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float | None:
    """Return the last place where it holds; None if that is the last of all."""
    if holds[-1]:
        return None
    return math.exp(x[len(x) - 1 - int(holds[::-1].argmax())]) if holds.any() else math.exp(x[0])
