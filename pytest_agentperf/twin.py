"""Fits a deployment's engine model to phases that were measured."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.minimise import minimise
from pytest_agentperf.oracle import Unwatched
from pytest_agentperf.rehearsal import rehearsed_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.tabulation import TabulatedDataset

POWER = "power_peak_w"
"""Power decides no time, and its mean goes linearly with this one: it is solved for, not searched."""

NOISE = {"speed": 0.02, "throughput": 0.02, "ttft": 0.1, "capacity": 0.02}
"""How far apart a model and a system may be, as a logarithm, before it counts: tails are noisier than quartiles."""


class Free(NamedTuple):
    """A parameter to fit, by its path in the engine's mapping, and its bounds."""

    name: str
    low: float
    high: float


class Observation(NamedTuple):
    """What a phase showed, measured or modelled; None where a percentile is infinite or power was not valid."""

    n_agents: int
    speed_p25_tok_s: float | None
    ttft_p95_s: float | None
    throughput_tok_s: float
    power_w: float | None  # mean, of one accelerator


class Fit(NamedTuple):
    """What came of it."""

    parameters: dict[str, tuple[float, float]]  # before and after
    at_bound: tuple[str, ...]
    before: tuple[Observation, ...]
    after: tuple[Observation, ...]
    capacity: dict[str, tuple[float | None, float | None]]  # of the model, before and after
    rms_before: float
    rms_after: float
    evaluations: int
    converged: bool


class Twin:
    """One deployment's model, and the phases and capacities it is held against."""

    def __init__(
        self,
        settings: RunSettings,
        deployment: str,
        measured: Sequence[Observation],
        capacities: Mapping[str, int],
        dataset: TabulatedDataset,
    ) -> None:
        """`settings` are those of the measured run, so that phases last as long; `capacities` by tier."""
        assert settings.system.deployments[deployment].simulate is not None
        self._settings = settings
        self._deployment = deployment
        self._measured = tuple(measured)
        self._capacities = {settings.tiers[name]: agents for name, agents in capacities.items()}
        self._dataset = dataset

    def observe(self, engine: EngineConfig) -> tuple[Observation, ...]:
        """Run the measured phases on a model."""
        deployments = dict(self._settings.system.deployments)
        held = deployments[self._deployment]
        deployments[self._deployment] = held.model_copy(update={"simulate": engine})
        settings = replace(
            self._settings,
            nonce="calibrate-twin",  # the same answers for every model, so that only the model decides
            system=self._settings.system.model_copy(update={"deployments": deployments}),
            ruleset=self._settings.ruleset.model_copy(update={"warmup_agents": 0}),
        )
        with rehearsed_run(settings, Unwatched(), tabulate=lambda *_: self._dataset) as run:
            return tuple(observation(run.run_fixed(self._deployment, one.n_agents)) for one in self._measured)

    def fit(
        self,
        free: Sequence[Free],
        *,
        evaluations: int,
        on_evaluation: Callable[[int, float], None] = lambda number, rms: None,
    ) -> Fit:
        """Search the free parameters' box for the least squares of the residuals; raises ConfigError."""
        base = self._settings.system.deployments[self._deployment].simulate
        assert base is not None
        searched = [one for one in free if one.name != POWER]
        start = [value_at(base, one.name) for one in searched]
        for one, value in zip(searched, start, strict=True):
            if not one.low <= value <= one.high:
                raise ConfigError(
                    f"begins at {value:g}, outside its bounds {one.low:g} to {one.high:g}",
                    where=one.name,
                    remedy="give bounds with the present value inside: --free NAME=LOW:HIGH",
                )
        seen: list[float] = []

        def residual(point: tuple[float, ...]) -> float:
            rms = self.rms(self.observe(self._at(base, searched, point)))
            seen.append(rms)
            on_evaluation(len(seen), rms)
            return rms

        before = self.observe(base)
        point: tuple[float, ...] = ()
        converged = True
        if searched:
            found = minimise(
                residual,
                [_position(one, x) for one, x in zip(searched, start, strict=True)],
                evaluations=evaluations,
            )
            point, converged = found.point, found.converged
        engine = self._at(base, searched, point)
        after = self.observe(engine)
        at_bound = [one.name for one, x in zip(searched, point, strict=True) if x < 0.005 or x > 0.995]
        for one in free:
            if one.name == POWER:
                solved = self._peak_w(engine, after)
                peak_w = min(max(solved, one.low, engine.power_idle_w), one.high)
                if peak_w != solved:
                    at_bound.append(POWER)
                engine = changed(engine, {POWER: peak_w})
                after = self.observe(engine)
        return Fit(
            parameters={one.name: (value_at(base, one.name), value_at(engine, one.name)) for one in free},
            at_bound=tuple(at_bound),
            before=before,
            after=after,
            capacity={
                tier.name: (crossing(before, tier), crossing(after, tier)) for tier in self._capacities
            },
            rms_before=self.rms(before),
            rms_after=self.rms(after),
            evaluations=len(seen),
            converged=converged,
        )

    def rms(self, modelled: Sequence[Observation]) -> float:
        """Return the root of the mean square of all residuals, each in units of its noise; power is not among them."""
        squares = []
        for one, other in zip(self._measured, modelled, strict=True):
            for measured, model, noise in (
                (one.speed_p25_tok_s, other.speed_p25_tok_s, NOISE["speed"]),
                (one.ttft_p95_s, other.ttft_p95_s, NOISE["ttft"]),
                (one.throughput_tok_s, other.throughput_tok_s, NOISE["throughput"]),
            ):
                if measured and model:
                    squares.append((math.log(model / measured) / noise) ** 2)
        for tier, agents in self._capacities.items():
            if (found := crossing(modelled, tier)) is not None:
                squares.append((math.log(found / agents) / NOISE["capacity"]) ** 2)
        return math.sqrt(sum(squares) / max(1, len(squares)))

    def _at(self, base: EngineConfig, searched: Sequence[Free], point: Sequence[float]) -> EngineConfig:
        return changed(base, {one.name: _value(one, x) for one, x in zip(searched, point, strict=True)})

    def _peak_w(self, engine: EngineConfig, modelled: Sequence[Observation]) -> float:
        pairs = [
            (one.power_w - engine.power_idle_w, other.power_w - engine.power_idle_w)
            for one, other in zip(self._measured, modelled, strict=True)
            if one.power_w is not None and other.power_w is not None
        ]
        below = sum(model**2 for _, model in pairs)
        if not below:
            raise ConfigError(
                "no measured phase has valid power",
                where=POWER,
                remedy="leave it out: name others with --free",
            )
        share = sum(measured * model for measured, model in pairs) / below
        return engine.power_idle_w + (engine.power_peak_w - engine.power_idle_w) * share


def observation(result: PhaseResult) -> Observation:
    """Return what a phase showed; raises ConfigError where it measured nothing."""
    metrics, energy = result.metrics, result.energy
    if metrics is None:
        raise ConfigError(
            f"the phase with {result.n_agents} agents has no metrics: "
            + "; ".join(str(reason) for reason in result.invalid),
            where="calibrate-twin",
            remedy="check the model with `agentperf plan`",
        )
    watts = None if energy.mean_power_w is None else energy.mean_power_w / energy.devices
    return Observation(
        result.n_agents, metrics.output_speed_p25_tok_s, metrics.ttft_p95_s, metrics.throughput_tok_s, watts
    )


def crossing(phases: Sequence[Observation], tier: SloTier) -> float | None:
    """Return where the tier's targets would be missed, between the phases' numbers on a logarithmic scale.

    Beyond the numbers that were tried the line of the nearest two goes on, at most by half; None with fewer than two.
    """
    points = sorted(
        (math.log(one.n_agents), margin)
        for one in phases
        if (margin := _margin(one, tier)) is not None and math.isfinite(margin)
    )
    if len(points) < 2:
        return None
    pairs = list(pairwise(points))
    nearest = pairs[-1] if points[0][1] >= 0 else pairs[0]
    (x0, y0), (x1, y1) = next((pair for pair in pairs if pair[0][1] >= 0 > pair[1][1]), nearest)
    if y0 <= y1:
        return None
    x = x0 + (x1 - x0) * y0 / (y0 - y1)
    return math.exp(min(max(x, points[0][0] - math.log(1.5)), points[-1][0] + math.log(1.5)))


def _margin(one: Observation, tier: SloTier) -> float | None:
    if not one.speed_p25_tok_s or not one.ttft_p95_s:
        return None
    return min(
        math.log(one.speed_p25_tok_s / tier.output_speed_p25_tok_s),
        math.log(tier.ttft_p95_s / one.ttft_p95_s),
    )


def value_at(engine: EngineConfig, name: str) -> float:
    """Return a parameter by its dotted path; raises ConfigError where there is no such number."""
    value: Any = engine.model_dump()
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(
            "no such number in this model", where=name, remedy="docs/simulator.md lists the parameters"
        )
    return value


def changed(engine: EngineConfig, values: Mapping[str, float]) -> EngineConfig:
    """Return the model with other values; raises ConfigError where it allows them not."""
    data = engine.model_dump()
    for name, value in values.items():
        *folders, last = name.split(".")
        mapping = data
        for key in folders:
            mapping = mapping[key]
        mapping[last] = round(value) if isinstance(mapping[last], int) else value
    try:
        return EngineConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            first["msg"], where=".".join(map(str, first["loc"])) or "simulate", remedy="narrow its bounds"
        ) from None


def _value(one: Free, x: float) -> float:
    # In powers, as a factor of two is as much anywhere; shares begin at 0 and go evenly.
    return one.low * (one.high / one.low) ** x if one.low > 0 else one.low + (one.high - one.low) * x


def _position(one: Free, value: float) -> float:
    if one.low > 0:
        return math.log(value / one.low) / math.log(one.high / one.low)
    return (value - one.low) / (one.high - one.low)
