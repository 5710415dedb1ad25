"""What each tier of a run is held to, where only a gate is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.gate import GateTarget
from pytest_agentperf.core.ruleset import RULESETS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from pytest_agentperf.config.run import GateOptions
    from pytest_agentperf.config.suite import Suite
    from pytest_agentperf.config.system import System
    from pytest_agentperf.core.baseline import TierBaseline
    from pytest_agentperf.core.ruleset import Ruleset

# 9.1 % as it is written and as it was found differ in the last digit.
_ROUNDING = 1e-9


def gate_baselines(
    gate: GateOptions | None, suite: Suite, edition: str, system: System
) -> dict[str, TierBaseline]:
    """Return what the baseline file says of each tier that the system serves, none where no file is compared with."""
    if gate is None or gate.baseline is None:
        return {}
    return {
        tier: known
        for tier in suite.tiers(edition)
        if system.deployment_for(suite.name, tier) is not None
        and (known := gate.baseline.find(suite.name, edition, system.name, tier)) is not None
    }


def gate_seed(given: int | None, baselines: Mapping[str, TierBaseline], *, where: str | None) -> int:
    """Return the seed of the assignment: a gate's is that of its baselines; raises ConfigError if that is not one."""
    seeds = {
        tier: known.workload.assignment_seed
        for tier, known in baselines.items()
        if known.workload is not None
    }
    if given is None and not seeds:
        return 0
    seed = next(iter(seeds.values())) if given is None else given
    other = next((tier for tier, known in seeds.items() if known != seed), None)
    if other is not None:
        raise ConfigError(
            f"the baseline of {other} was found with the seed {seeds[other]}, and this gate would have {seed}: they "
            "compare where agents replay the same trajectories",
            where=where,
            remedy="leave out --agentperf-seed, and ask for tiers of one seed at a time with --agentperf-tier",
        )
    return seed


def gate_targets(
    gate: GateOptions,
    suite: Suite,
    edition: str,
    system: System,
    system_path: Path,
    selected: Collection[str],
    *,
    baselines: Mapping[str, TierBaseline],
    ruleset: Ruleset,
    max_agents: int,
    rehearsal: bool,
) -> dict[str, GateTarget]:
    """Return the targets of all tiers that have a baseline, so that a resumed run can go on with any of them.

    Raises ConfigError where the ruleset has no error rate, or a selected tier has no baseline, one of another kind of
    measurement, more noise than the tolerance allows, or a threshold that may not be tried; `selected` empty: all are.
    """
    if ruleset.error_rate is None:
        raise ConfigError(
            f"the ruleset {ruleset.id} states no error rate here, and a gate answers at one",
            where="--agentperf-mode=gate",
            remedy="leave out --agentperf-ruleset, or name one for gates: "
            + ", ".join(name for name, known in RULESETS.items() if known.error_rate is not None),
        )
    targets = {}
    for tier in suite.tiers(edition):
        found = system.deployment_for(suite.name, tier)
        if found is None:
            continue
        asked = not selected or tier in selected
        _, deployment = found
        baseline = baselines.get(tier)
        agents = None if baseline is None else baseline.agents
        if gate.baseline is None and deployment.tiers and edition == (deployment.edition or suite.edition):
            agents = deployment.tiers[tier].expected_agents
        if not agents and not asked:
            continue
        if not agents:
            raise ConfigError(
                f"no baseline for {suite.name} (edition {edition}) {tier} on {system.name}",
                where=gate.source,
                remedy="accept one with `agentperf baseline accept LEADERBOARD`, "
                + (
                    f"give `expected_agents` in {system_path}"
                    if gate.baseline is None
                    else f"leave out --agentperf-baseline for the `expected_agents` of {system_path}"
                )
                + ", or choose tiers that have one with --agentperf-tier",
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
        target = GateTarget(baseline_agents=agents, tolerance=gate.tolerance, source=gate.source)
        if asked and target.threshold_agents > max_agents:
            raise ConfigError(
                f"the gate of {tier} asks for {target.threshold_agents} agents, and no more than {max_agents} may be "
                "tried",
                where="--agentperf-max-agents",
                remedy=f"allow {target.threshold_agents}, or leave it out",
            )
        targets[tier] = target
    return targets


def _check_comparable(baseline: TierBaseline, ruleset: Ruleset, *, rehearsal: bool, where: str) -> None:
    name = f"the baseline of {baseline.suite} {baseline.tier} on {baseline.system}"
    if baseline.rehearsal and not rehearsal:
        raise ConfigError(
            f"{name} was found in a rehearsal: it is a model's figure, not the system's",
            where=where,
            remedy="accept a measured one, or rehearse the gate too with --agentperf-rehearse",
        )
    workload = baseline.workload
    for rule in ("max_tokens", "output_length", "tool_delay_max_s"):
        if workload is not None and getattr(workload, rule) != getattr(ruleset, rule):
            raise ConfigError(
                f"{name} was found with {rule} {getattr(workload, rule)}, and this gate would have "
                f"{getattr(ruleset, rule)}: that is another workload",
                where=where,
                remedy="ask with the same rules, or accept another baseline",
            )
    of_baseline = RULESETS.get(baseline.ruleset or "")
    if of_baseline is not None and of_baseline.dataset_digest != ruleset.dataset_digest:
        raise ConfigError(
            f"{name} was found under {of_baseline.id}, whose workload is not that of {ruleset.id}",
            where=where,
            remedy="name a ruleset of the same workload with --agentperf-ruleset, or accept another baseline",
        )
