"""What each tier of a run is held to, where only a gate is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.gate import GateTarget

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pytest_agentperf.config.run import GateOptions
    from pytest_agentperf.config.suite import Suite
    from pytest_agentperf.config.system import System


def gate_targets(
    gate: GateOptions,
    suite: Suite,
    edition: str,
    system: System,
    system_path: Path,
    selected: Collection[str],
) -> dict[str, GateTarget]:
    """Return the targets of the selected tiers, of all if none is named.

    Raises ConfigError where a tier has no baseline, or more noise than the tolerance allows.
    """
    targets = {}
    for tier in suite.tiers(edition):
        found = system.deployment_for(suite.name, tier)
        if found is None or (selected and tier not in selected):
            continue
        _, deployment = found
        baseline = (
            None if gate.baseline is None else gate.baseline.find(suite.name, edition, system.name, tier)
        )
        agents = None if baseline is None else baseline.agents
        if gate.baseline is None and deployment.tiers and edition == (deployment.edition or suite.edition):
            agents = deployment.tiers[tier].expected_agents
        if not agents:
            raise ConfigError(
                f"no baseline for {suite.name} (edition {edition}) {tier} on {system.name}",
                where=gate.source,
                remedy="accept one with `agentperf baseline accept LEADERBOARD`, give `expected_agents` in "
                f"{system_path}, or choose tiers that have one with --agentperf-tier",
            )
        noise = None if baseline is None else baseline.noise
        if noise is not None and gate.tolerance < noise.tolerance_min:
            raise ConfigError(
                f"a tolerance of {gate.tolerance:.1%} is smaller than the noise measured on {system.name} at {tier}",
                where="--agentperf-tolerance",
                remedy=f"use at least {noise.tolerance_min:.1%}",
            )
        targets[tier] = GateTarget(baseline_agents=agents, tolerance=gate.tolerance, source=gate.source)
    return targets
