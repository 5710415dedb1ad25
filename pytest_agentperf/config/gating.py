"""What each tier of a run is held to, where only a gate is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.gate import GateTarget
from pytest_agentperf.core.ruleset import RULESETS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pytest_agentperf.config.run import GateOptions
    from pytest_agentperf.config.suite import Suite
    from pytest_agentperf.config.system import System
    from pytest_agentperf.core.baseline import TierBaseline
    from pytest_agentperf.core.ruleset import Ruleset

# 9.1 % as it is written and as it was found differ in the last digit.
_ROUNDING = 1e-9


def gate_targets(
    gate: GateOptions,
    suite: Suite,
    edition: str,
    system: System,
    system_path: Path,
    selected: Collection[str],
    *,
    ruleset: Ruleset,
    rehearsal: bool,
) -> dict[str, GateTarget]:
    """Return the targets of all tiers that have a baseline, so that a resumed run can go on with any of them.

    Raises ConfigError where a selected tier has no baseline, one of another kind of measurement, or more noise than
    the tolerance allows; `selected` empty: all are.
    """
    targets = {}
    for tier in suite.tiers(edition):
        found = system.deployment_for(suite.name, tier)
        if found is None:
            continue
        asked = not selected or tier in selected
        _, deployment = found
        baseline = (
            None if gate.baseline is None else gate.baseline.find(suite.name, edition, system.name, tier)
        )
        agents = None if baseline is None else baseline.agents
        if gate.baseline is None and deployment.tiers and edition == (deployment.edition or suite.edition):
            agents = deployment.tiers[tier].expected_agents
        if not agents and not asked:
            continue
        if not agents:
            raise ConfigError(
                f"no baseline for {suite.name} (edition {edition}) {tier} on {system.name}",
                where=gate.source,
                remedy="accept one with `agentperf baseline accept LEADERBOARD`, give `expected_agents` in "
                f"{system_path}, or choose tiers that have one with --agentperf-tier",
            )
        if baseline is not None and asked:
            _check_comparable(baseline, ruleset, rehearsal=rehearsal, where=gate.source)
        noise = None if baseline is None else baseline.noise
        if asked and noise is not None and gate.tolerance < noise.tolerance_min - _ROUNDING:
            raise ConfigError(
                f"a tolerance of {gate.tolerance:.1%} is smaller than the noise measured on {system.name} at {tier}",
                where="--agentperf-tolerance",
                remedy=f"use at least {noise.tolerance_min:.1%}",
            )
        targets[tier] = GateTarget(baseline_agents=agents, tolerance=gate.tolerance, source=gate.source)
    return targets


def _check_comparable(baseline: TierBaseline, ruleset: Ruleset, *, rehearsal: bool, where: str) -> None:
    name = f"the baseline of {baseline.suite} {baseline.tier} on {baseline.system}"
    if baseline.rehearsal and not rehearsal:
        raise ConfigError(
            f"{name} was found in a rehearsal: it is a model's figure, not the system's",
            where=where,
            remedy="accept a measured one, or rehearse the gate too with --agentperf-rehearse",
        )
    of_baseline = RULESETS.get(baseline.ruleset or "")
    if of_baseline is not None and of_baseline.dataset_digest != ruleset.dataset_digest:
        raise ConfigError(
            f"{name} was found under {of_baseline.id}, whose workload is not that of {ruleset.id}",
            where=where,
            remedy="name a ruleset of the same workload with --agentperf-ruleset, or accept another baseline",
        )
