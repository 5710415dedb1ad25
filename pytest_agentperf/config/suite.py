"""A suite: the model, its service levels, how it is sampled, what is replayed, by which ruleset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pytest_agentperf.config.loader import load_model
from pytest_agentperf.core.accuracy import Reference
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.slo import SloTier

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = "agentperf-suite/1"
FILE_NAME = "suite.yaml"

HistoryReasoning = Literal["none", "current_turn", "all"]
"""Which recorded reasoning the requests carry: none, that after the last user message, or all."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TierTargets(_Model):
    """The two targets of one tier."""

    output_speed_p25_tok_s: float = Field(gt=0)
    ttft_p95_s: float = Field(gt=0)


class Edition(_Model):
    """One dated edition of the SLO table: targets drift, so they are versioned."""

    source: str
    tiers: dict[str, TierTargets] = Field(min_length=1)


def _not_ours(parameters: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(_RESERVED & parameters.keys()):
        raise ValueError(f"`{taken[0]}` is set by the replay itself")
    return parameters


# What dataset, deployment and ruleset decide; a second key of that name in a body would be anyone's guess.
_RESERVED = {
    "ignore_eos",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "min_tokens",
    "model",
    "n",
    "stream",
    "tools",
}


class Sourced(_Model):
    """Request parameters, and where they come from."""

    parameters: Annotated[dict[str, Any], AfterValidator(_not_ours)]
    source: str


class Sampling(_Model):
    """The creator-recommended sampling, and how maximum effort is asked for per serving framework."""

    parameters: Annotated[dict[str, float | int | bool], AfterValidator(_not_ours)]
    source: str
    max_effort: dict[str, Sourced]
    """By framework (`vllm`, `sglang`, …); `default` where a deployment names none of these."""


class Accuracy(_Model):
    """Questions with checkable answers, asked alone and under load."""

    questions: str
    """`bundled:NAME`, or a JSONL file relative to the suite's file."""
    max_tokens: int = Field(gt=0)
    repeats: int = Field(default=1, ge=1, le=100)
    """How many times each is asked: more find smaller drops."""
    concurrency: int = Field(default=4, ge=1, le=1_000)
    """How many are in flight at once under load, at most; never more than a quarter of the agents."""
    reference: Reference | None = None
    """What the model is known to reach on them; None: held against the score at one agent alone."""

    @field_validator("reference")
    @classmethod
    def _a_share(cls, reference: Reference | None) -> Reference | None:
        if reference is not None and not 0 < reference.score <= 1:
            raise ValueError("`score` is a share, above 0 and at most 1")
        return reference


class Suite(_Model):
    """What is measured, whatever system runs it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")
    title: str
    model: str
    tokenizer: str | None = None
    max_context_tokens: int = Field(gt=0)
    max_tokens: int = Field(gt=0)
    history_reasoning: HistoryReasoning
    history_reasoning_source: str | None = None
    editions: dict[str, Edition] = Field(min_length=1)
    edition: str
    """The default one."""
    sampling: Sampling
    dataset: str | None = None
    """`bundled:NAME`, `synthetic:NAME`, or a path relative to the suite's file; the ruleset's if absent."""
    accuracy: Accuracy | None = None
    """None: accuracy is not measured, and the result says so."""
    ruleset: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Changed rules; each one is a deviation in the result."""

    @field_validator("edition")
    @classmethod
    def _default_edition_exists(cls, edition: str, info: ValidationInfo) -> str:
        editions = info.data.get("editions")
        if editions is not None and edition not in editions:
            raise ValueError(f"edition {edition!r} is not one of {', '.join(editions)}")
        return edition

    def tiers(self, edition: str | None = None) -> dict[str, SloTier]:
        """Return the tiers of an edition (the default one if None), in the file's order."""
        chosen = self.editions.get(edition or self.edition)
        if chosen is None:
            raise ConfigError(
                f"suite {self.name} has no edition {edition!r}", remedy=f"one of: {', '.join(self.editions)}"
            )
        return {
            name: SloTier(
                name=name,
                output_speed_p25_tok_s=targets.output_speed_p25_tok_s,
                ttft_p95_s=targets.ttft_p95_s,
            )
            for name, targets in chosen.tiers.items()
        }

    def request_parameters(self, framework: str | None) -> dict[str, Any]:
        """Return sampling and maximum-effort parameters for a serving framework; raises ConfigError if unknown."""
        effort = self.sampling.max_effort.get(framework or "default") or self.sampling.max_effort.get(
            "default"
        )
        if effort is None:
            raise ConfigError(
                f"suite {self.name} does not say how {framework or 'an unnamed framework'} is asked for maximum effort",
                remedy=f"add sampling.max_effort.{framework or 'default'}, or name a framework it has: "
                + ", ".join(self.sampling.max_effort),
            )
        return {**self.sampling.parameters, **effort.parameters}


def load_suite(path: Path) -> Suite:
    """Read a suite's YAML file; a directory means the `suite.yaml` in it."""
    return load_model(path / FILE_NAME if path.is_dir() else path, Suite, schema=SCHEMA)
