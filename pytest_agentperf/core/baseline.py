"""What a gate compares with: capacities that were accepted once, in a file to commit and to review as a diff."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pytest_agentperf.core.breakdown import Bucket


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Noise(_Model):
    """How much a metric differs between runs of the same phase: standard deviations as shares of the mean."""

    n_agents: int
    repeats: int = Field(ge=2)
    output_speed_p25: float | None = Field(ge=0)
    ttft_p95: float | None = Field(ge=0)
    tolerance_min: float = Field(ge=0)
    """The smallest tolerance that this much noise lets a gate have."""


class Workload(_Model):
    """What was replayed: agents of two measurements compare only where all of this is the same."""

    dataset_digest: str
    assignment_seed: int
    max_tokens: int
    output_length: str
    tool_delay_max_s: float


class TierBaseline(_Model):
    """The accepted capacity of one system at one tier."""

    suite: str
    edition: str
    system: str
    tier: str
    agents: int = Field(ge=1)
    ruleset: str | None = None
    """Under which it was found; None where somebody wrote it down."""
    measured_utc: str | None = None
    rehearsal: bool = False
    """Whether it was found in virtual time: a model's figure, to which no measurement is held."""
    workload: Workload | None = None
    """None where somebody wrote the baseline down, or an earlier version did."""
    serving: dict[str, str] = Field(default_factory=dict)
    """Framework, version and the like: what a diff of this file should show."""
    noise: Noise | None = None
    breakdown: tuple[Bucket, ...] = ()
    """Of the phase that is published: where its answers were late or slow."""


class Baseline(_Model):
    """A baseline file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )

    schema_: Literal["agentperf-baseline/1"] = Field(default="agentperf-baseline/1", alias="schema")
    tiers: tuple[TierBaseline, ...]

    @model_validator(mode="after")
    def _one_of_each_tier(self) -> Self:
        # As a merge of two branches may leave it: whichever stood first would be the one that gates.
        seen: dict[tuple[str, str, str, str], int] = {}
        for known in self.tiers:
            key = (known.suite, known.edition, known.system, known.tier)
            if key in seen:
                raise ValueError(
                    f"two baselines for {known.suite} (edition {known.edition}) {known.tier} on {known.system}: "
                    f"{seen[key]} and {known.agents} agents"
                )
            seen[key] = known.agents
        return self

    def find(self, suite: str, edition: str, system: str, tier: str) -> TierBaseline | None:
        """Return the baseline of one tier, None if there is none."""
        return next(
            (
                known
                for known in self.tiers
                if (known.suite, known.edition, known.system, known.tier) == (suite, edition, system, tier)
            ),
            None,
        )

    def accept(self, accepted: TierBaseline) -> Baseline:
        """Return the file with a tier's baseline replaced or added; in a fixed order, so that diffs are small."""
        known = {(t.suite, t.edition, t.system, t.tier): t for t in self.tiers}
        known[accepted.suite, accepted.edition, accepted.system, accepted.tier] = accepted
        return Baseline(tiers=tuple(known[key] for key in sorted(known)))
