"""One run, resolved: suite, system and flags become the frozen settings that everything else is built from."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import yaml

from pytest_agentperf.config.bundled import find_dataset, find_questions
from pytest_agentperf.config.gating import gate_baselines, gate_seed, gate_targets
from pytest_agentperf.config.load_spec import LoadSpec, parse_load_specs
from pytest_agentperf.config.suite import FILE_NAME, Suite, load_suite
from pytest_agentperf.config.system import Deployment, Endpoint, System, load_system
from pytest_agentperf.config.urls import base_url_problem
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.redact import Masked
from pytest_agentperf.core.ruleset import Deviation, Ruleset, apply_overrides, find_ruleset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_agentperf.core.baseline import Baseline
    from pytest_agentperf.core.breakdown import Bucket
    from pytest_agentperf.core.gate import GateTarget
    from pytest_agentperf.core.slo import SloTier

MAX_AGENTS_DEFAULT = 16_384


class Budget(NamedTuple):
    """What a search may spend; None: no limit."""

    seconds: float | None = None
    tokens: int | None = None


class GateOptions(NamedTuple):
    """What a gate was asked with."""

    tolerance: float
    """The share of the baseline that may be lost."""
    baseline: Baseline | None
    """None: the counts that the system's file expects."""
    source: str
    """Where the baseline stands."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line may say; None or empty leaves it to system and suite."""

    ruleset: str | None = None
    overrides: tuple[str, ...] = ()
    dataset: str | None = None
    edition: str | None = None
    tiers: tuple[str, ...] = ()
    output_length: Literal["natural", "exact"] | None = None
    start: int | None = None
    max_agents: int | None = None
    budget: Budget = Budget(None, None)  # noqa: RUF009 - a NamedTuple is immutable
    seed: int | None = None
    """None: that of a gate's baseline, else 0."""
    nonce: str | None = None
    workers: int | None = None
    load: tuple[str, ...] = ()
    """Where load workers run; empty: as the system's file says, else on this machine."""
    force: bool = False
    rehearse: bool = False
    """Run in virtual time on the deployments' models."""
    gate: GateOptions | None = None
    """Ask only whether the baseline is still reached."""
    retry_invalid: int = 0


@dataclass(frozen=True, slots=True)
class RunSettings:
    """One suite on one system, with nothing left open."""

    suite: Suite
    suite_path: Path
    system: System
    system_path: Path
    edition: str
    tiers: dict[str, SloTier]
    """All tiers of the edition, in the suite's order."""
    selected: tuple[str, ...]
    ruleset: Ruleset
    deviations: tuple[Deviation, ...]
    dataset_path: Path
    start: int | None
    max_agents: int
    budget: Budget
    seed: int
    nonce: str
    workers: int | None
    load: tuple[LoadSpec, ...] = ()
    """Where load workers run; empty: on this machine, as many as are needed."""
    force: bool = False
    """Run in spite of failed checks; the result is then marked not valid."""
    questions_path: Path | None = None
    """What accuracy is measured by, if the suite says."""
    rehearsal: bool = False
    """Whether it runs in virtual time on models: whatever comes of it says so."""
    gate: Mapping[str, GateTarget] = field(default_factory=dict)
    """Per tier what a gate holds it to; empty for a search."""
    baseline_breakdown: Mapping[str, tuple[Bucket, ...]] = field(default_factory=dict)
    """Per tier where the baseline's answers were late or slow, as far as that is known."""
    baseline_datasets: Mapping[str, str] = field(default_factory=dict)
    """Per tier that a gate asks for the digest of what its baseline replayed, as far as that is known."""
    retry_invalid: int = 0
    """How many times more than the ruleset says an INVALID phase is measured again."""

    @property
    def id(self) -> str:
        """Return what names the run: suite and system."""
        return f"{self.suite.name}-{self.system.name}"

    def deployment_for(self, tier: str) -> tuple[str, Deployment] | None:
        """Return the deployment that serves a tier."""
        return self.system.deployment_for(self.suite.name, tier)

    def expected_agents(self, tier: str) -> int | None:
        """Return the count that the tier's test asserts; none for another edition of the SLO table."""
        if tier in self.gate:
            return self.gate[tier].threshold_agents
        found = self.deployment_for(tier)
        if found is None or not found[1].tiers:
            return None
        if self.edition != (found[1].edition or self.suite.edition):
            return None
        return found[1].tiers[tier].expected_agents


def resolve(suite_path: Path, system_path: Path, options: RunOptions, *, start: Path) -> RunSettings:
    """Load both files and settle every value: flag before system before suite; raises ConfigError."""
    suite_file = suite_path / FILE_NAME if suite_path.is_dir() else suite_path
    suite, system = load_suite(suite_file), load_system(system_path)
    return settle(suite, suite_file, system, system_path, options, start=start)


def settle(
    suite: Suite, suite_file: Path, system: System, system_path: Path, options: RunOptions, *, start: Path
) -> RunSettings:
    """Settle every value of a run from models that are loaded; the paths stand in messages."""
    edition = options.edition or suite.edition
    tiers = suite.tiers(edition)
    system.check_tiers(suite.name, tiers, where=str(system_path))
    for tier in options.tiers:
        if tier not in tiers:
            raise ConfigError(
                f"suite {suite.name} (edition {edition}) has no tier {tier!r}",
                where="--agentperf-tier",
                remedy=f"one of: {', '.join(tiers)}",
            )
    _check_editions(suite, system, system_path)
    ruleset, deviations = _ruleset(suite, suite_file, system, system_path, options)
    _check_resets(suite, system, system_path, ruleset)
    if options.dataset is None:
        dataset = find_dataset(suite.dataset or ruleset.dataset, relative_to=suite_file.parent)
    else:
        dataset = find_dataset(options.dataset, relative_to=start)
    max_agents = options.max_agents or MAX_AGENTS_DEFAULT
    if options.start is not None and not 1 <= options.start <= max_agents:
        raise ConfigError(
            f"the search cannot start at {options.start} agents with at most {max_agents}",
            where="--agentperf-start",
            remedy="choose a start between 1 and --agentperf-max-agents",
        )
    selected = tuple(tier for tier in tiers if not options.tiers or tier in options.tiers)
    baselines = gate_baselines(options.gate, suite, edition, system)
    asked = {tier: known for tier, known in baselines.items() if tier in selected}
    return RunSettings(
        suite=suite,
        suite_path=suite_file,
        system=system,
        system_path=system_path,
        edition=edition,
        tiers=tiers,
        selected=selected,
        ruleset=ruleset,
        deviations=tuple(deviations),
        dataset_path=dataset,
        start=options.start,
        max_agents=max_agents,
        budget=options.budget,
        seed=gate_seed(options.seed, asked, where=options.gate.source if options.gate else None),
        nonce=options.nonce or secrets.token_hex(16),
        workers=options.workers,
        load=_load_specs(system, system_path, options),
        force=options.force,
        questions_path=(
            None
            if suite.accuracy is None
            else find_questions(suite.accuracy.questions, relative_to=suite_file.parent)
        ),
        rehearsal=options.rehearse,
        retry_invalid=options.retry_invalid,
        baseline_breakdown={tier: known.breakdown for tier, known in baselines.items()},
        baseline_datasets={
            tier: known.workload.dataset_digest for tier, known in asked.items() if known.workload is not None
        },
        gate={}
        if options.gate is None
        else gate_targets(
            options.gate,
            suite,
            edition,
            system,
            system_path,
            options.tiers,
            baselines=baselines,
            ruleset=ruleset,
            max_agents=max_agents,
            rehearsal=options.rehearse,
        ),
    )


def _load_specs(system: System, system_path: Path, options: RunOptions) -> tuple[LoadSpec, ...]:
    if options.load and options.workers is not None:
        raise ConfigError(
            f"{options.workers} workers of this machine are asked for, and places of workers too: "
            + " ".join(options.load),
            where="--agentperf-workers and --agentperf-load, as flags, in the environment or in the ini file",
            remedy="keep one of them: --agentperf-load=N*popen is N workers on this machine",
        )
    if options.load:
        return parse_load_specs(options.load, where="--agentperf-load")
    if options.workers is not None:
        return ()
    return parse_load_specs(system.load, where=f"{system_path}: load")


def _check_editions(suite: Suite, system: System, system_path: Path) -> None:
    """Raise ConfigError for an edition that the suite has not: its expectations would silently not be asserted."""
    for name, deployment in system.deployments.items():
        if deployment.suite == suite.name and deployment.edition not in (None, *suite.editions):
            raise ConfigError(
                f"deployment {name!r} names the edition {deployment.edition!r}, which suite {suite.name} does not have",
                where=str(system_path),
                remedy=f"one of: {', '.join(suite.editions)}",
            )


def _check_resets(suite: Suite, system: System, system_path: Path, ruleset: Ruleset) -> None:
    for name, deployment in system.deployments.items():
        if deployment.reset and deployment.suite in (None, suite.name) and not ruleset.reset_allowed:
            raise ConfigError(
                f"deployment {name!r} has `reset:`, which the ruleset {ruleset.id} does not allow",
                where=str(system_path),
                remedy="remove it, or set the rule `reset_allowed: true`, which is a listed deviation",
            )


def _ruleset(
    suite: Suite, suite_file: Path, system: System, system_path: Path, options: RunOptions
) -> tuple[Ruleset, list[Deviation]]:
    if options.ruleset:
        ruleset = find_ruleset(options.ruleset, where="--agentperf-ruleset")
    elif system.ruleset:
        ruleset = find_ruleset(system.ruleset, where=f"{system_path}: ruleset")
    else:
        ruleset = find_ruleset(suite.ruleset, where=f"{suite_file}: ruleset")
    if options.gate is not None and not options.ruleset and ruleset.gate_ruleset is not None:
        # A gate is to answer in minutes: the same workload, with verdicts at an error rate.
        ruleset = find_ruleset(ruleset.gate_ruleset)
    flags: dict[str, object] = dict(parse_override(text) for text in options.overrides)
    if options.output_length is not None:
        flags["output_length"] = options.output_length
    sources: list[tuple[dict[str, object], str, str]] = [
        ({"max_tokens": min(suite.max_tokens, ruleset.max_tokens)}, "the suite", f"{suite_file}: max_tokens"),
        (suite.overrides, "the suite", f"{suite_file}: overrides"),
        (system.overrides, "the system", f"{system_path}: overrides"),
        (flags, "a flag", "--agentperf-set"),
    ]
    locked = ruleset
    deviations: dict[str, Deviation] = {}
    for overrides, who, where in sources:
        ruleset, _ = apply_overrides(ruleset, overrides, reason="", where=where)
        # Against the locked ruleset, so that two changes that cancel out are none.
        effective = {name: getattr(ruleset, name) for name in overrides}
        _, found = apply_overrides(locked, effective, reason=f"changed by {who}")
        for name in overrides:
            deviations.pop(name, None)
        deviations.update({deviation.rule: deviation for deviation in found})
    return ruleset, list(deviations.values())


def parse_override(text: str) -> tuple[str, object]:
    """Parse `RULE=VALUE` of --agentperf-set; the value is YAML."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(
            f"{text!r} is not RULE=VALUE", where="--agentperf-set", remedy="e.g. min_window_s=60"
        )
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(
            f"the value of {name!r} cannot be read: {value!r}", where="--agentperf-set", remedy="quote it"
        ) from None


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MULTIPLES = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def parse_budget(text: str) -> Budget:
    """Parse a budget: `90s`, `30m`, `2h` or tokens as `500ktok`, `20Mtok`."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip()):
        return Budget(seconds=float(match[1]) * _UNITS[match[2]])
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)\s*tok(?:ens)?", text.strip()):
        return Budget(tokens=round(float(match[1]) * _MULTIPLES[match[2]]))
    raise ConfigError(
        f"{text!r} is no budget",
        where="--agentperf-budget",
        remedy="write e.g. 90s, 30m, 2h, 500ktok or 20Mtok",
    )


@dataclass(frozen=True, slots=True)
class ResolvedEndpoint:
    """An endpoint whose URL and key are known; the key is never printed."""

    url: str | None
    """None for the built-in simulated server, which has no URL before it runs."""
    headers: Masked[str]


class NotConfigured(NamedTuple):
    """Why an endpoint cannot be used here, and which variable or key would change that."""

    reason: str


def resolve_endpoint(endpoint: Endpoint, *, where: str) -> ResolvedEndpoint | NotConfigured:
    """Look up URL and key in the environment; raises ConfigError, which repeats neither."""
    url_env, key_env = endpoint.url_env, endpoint.api_key_env
    # No local variable holds what may be a secret while an error is raised: tracebacks can show them.
    if url_env is not None:
        if not os.environ.get(url_env):
            return NotConfigured(
                f"no endpoint configured: set {url_env} to its base URL (as http://host:8000/v1), "
                f"or endpoint.url in {where}"
            )
        if problem := base_url_problem(os.environ[url_env]):
            raise ConfigError(problem, where=url_env, remedy="correct the variable (not shown here)")
    if key_env is not None:
        if not os.environ.get(key_env):
            return NotConfigured(f"no API key: set {key_env}, or remove endpoint.api_key_env from {where}")
        if not re.fullmatch(r"[!-~]+", os.environ[key_env]):
            raise ConfigError(
                "no HTTP header can carry it: it has spaces, line ends or other than ASCII characters",
                where=key_env,
                remedy="correct the variable (not shown here); often a line end was read with the key",
            )
    return ResolvedEndpoint(
        endpoint.url if url_env is None else os.environ[url_env],
        Masked({} if key_env is None else {"Authorization": f"Bearer {os.environ[key_env]}"}),
    )
