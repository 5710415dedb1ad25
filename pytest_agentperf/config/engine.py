"""Parameters of the simulated engine, as a YAML or JSON mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


_STRICT = ConfigDict(frozen=True, extra="forbid")


class PrefillPool(BaseModel):
    """Replicas that only compute prompts; the others then only decode."""

    model_config = _STRICT

    replicas: int = Field(1, ge=1, le=10_000, description="Replicas that compute prompts.")
    ranks: int = Field(1, ge=1, le=1_024, description="Attention data-parallel ranks of each.")
    accelerators_each: int = Field(ge=1, le=100_000, description="Accelerators of each.")
    step_base_ms: float | None = Field(
        None, gt=0, le=60_000, description="As `step_base_ms` of the engine, which is the default."
    )
    max_batch: int | None = Field(
        None, ge=1, le=100_000, description="Requests of a rank; the default is the engine's."
    )
    kv_blocks: int | None = Field(
        None, ge=1, le=100_000_000, description="Blocks of a rank; the default is the engine's."
    )
    transfer_latency_ms: float = Field(
        0.0, ge=0, le=60_000, description="Time from a computed prompt to its decoding, beside its bytes."
    )
    transfer_kv_kbyte_per_token: float = Field(
        0.0, ge=0, le=100_000, description="KV cache of one token, 1 kbyte being 1,000 bytes."
    )
    transfer_gbyte_per_s: float = Field(
        50.0, gt=0, le=1e6, description="Speed at which the KV cache of one request moves."
    )
    first_token: Literal["prefill", "decode"] = Field(
        "prefill",
        description="Who sends the first token: the pool at once, or whoever decodes, when the request joins there.",
    )


class Speculation(BaseModel):
    """Speculative decoding: a step yields one token, and the drafts accepted before the first wrong one."""

    model_config = _STRICT

    draft_tokens: int = Field(ge=1, le=64, description="Tokens drafted for each step.")
    acceptance_rate: float = Field(
        ge=0, le=1, description="Probability that a draft is accepted if those before it were."
    )


class PowerActivity(BaseModel):
    """Share of the power between idle and peak that each kind of work draws while it lasts."""

    model_config = _STRICT

    weights: float = Field(0.5, ge=0, le=1, description="During `step_base_ms`: reading the weights.")
    kv: float = Field(1.0, ge=0, le=1, description="During the time of the decoding context: reading the KV.")
    decode: float = Field(1.0, ge=0, le=1, description="During the time of the decoding sequences.")
    prefill: float = Field(1.0, ge=0, le=1, description="During the time of the prompt tokens.")


class EngineConfig(BaseModel):
    """A simulated deployment: replicas of ranks with a batch and a KV cache each; by default one of one."""

    model_config = _STRICT

    replicas: int = Field(
        1, ge=1, le=10_000, description="Replicas that decode; they share requests, not steps."
    )
    ranks: int = Field(
        1,
        ge=1,
        le=1_024,
        description="Attention data-parallel ranks of a replica: own queue, batch and cache, common steps.",
    )
    step_base_ms: float = Field(
        3.5, gt=0, le=60_000, description="Time of a step regardless of what is in it: reading the weights."
    )
    step_per_sequence_ms: float = Field(
        0.75, ge=0, le=60_000, description="Time that each decoding sequence adds to a step."
    )
    step_per_context_ktoken_ms: float = Field(
        0.001,
        ge=0,
        le=1_000,
        description="Time that 1,000 tokens of decoding context add: reading the KV cache.",
    )
    step_overhead_ms: float = Field(
        0.0,
        ge=0,
        le=60_000,
        description="Time of a step that neither reads nor computes: launches, collectives.",
    )
    step_overlap: bool = Field(
        False, description="A step takes the longer of its memory's and its arithmetic's time, not their sum."
    )
    prefill_tokens_per_s: float = Field(
        100_000.0, gt=0, le=1e9, description="Speed at which prompt tokens not in the cache are computed."
    )
    prefill_half_speed_context_tokens: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Context behind which a prompt token takes twice as long."
    )
    max_prefill_tokens_per_step: int = Field(
        2_048,
        ge=1,
        le=1_000_000,
        description="Prompt tokens that a step of a rank takes in beside the decoding.",
    )
    prefill_pool: PrefillPool | None = Field(
        None, description="Replicas that only compute prompts; `replicas` then only decode."
    )
    speculation: Speculation | None = Field(None, description="Speculative decoding; none by default.")
    kv_blocks: int = Field(65_536, ge=1, le=100_000_000, description="Blocks of a rank's KV cache.")
    kv_block_tokens: int = Field(64, ge=1, le=4_096, description="Tokens of one block.")
    max_batch: int = Field(256, ge=1, le=100_000, description="Requests that a rank runs at once; more wait.")
    tokens_per_chunk: int = Field(
        1, ge=1, le=10_000, description="Tokens bundled into one chunk; the first token always goes alone."
    )
    context_tokens: int = Field(
        163_840, ge=2, le=100_000_000, description="Longest prompt and answer together that are accepted."
    )
    output_tokens_median: float = Field(150.0, ge=1, le=1e6, description="Median of natural answers.")
    output_tokens_p95: float = Field(2_000.0, ge=1, le=1e6, description="95th percentile of natural answers.")
    output_tokens_max: int = Field(16_384, ge=1, le=1_000_000, description="Longest natural answer.")
    reasoning_share: float = Field(0.3, ge=0, le=1, description="Share of an answer that is reasoning.")
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of the answers' lengths and texts and of the jitter."
    )
    accelerators: int = Field(8, ge=1, le=100_000, description="Accelerators whose power is reported.")
    power_idle_w: float = Field(120.0, ge=0, le=100_000, description="Power of one idle accelerator.")
    power_peak_w: float = Field(700.0, gt=0, le=100_000, description="Power of one accelerator at full load.")
    power_activity: PowerActivity = Field(
        default_factory=PowerActivity, description="Share of the dynamic power that each kind of work draws."
    )
    jitter_cv: float = Field(
        0.0, ge=0, le=1, description="Coefficient of variation of the step time; 0 makes it exact."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.output_tokens_p95 < self.output_tokens_median:
            raise ValueError("output_tokens_p95 must not be below output_tokens_median")
        if self.power_peak_w < self.power_idle_w:
            raise ValueError("power_peak_w must not be below power_idle_w")
        activity = self.power_activity
        together = max(activity.weights, activity.kv) + max(activity.decode, activity.prefill)
        if self.step_overlap and together > 1:
            raise ValueError(
                "with step_overlap, memory and arithmetic draw power at once: the larger of power_activity's weights "
                "and kv and the larger of decode and prefill must not exceed 1 together"
            )
        return self


def load_engine_config(path: Path) -> EngineConfig:
    """Read an engine from a YAML or JSON file; raises ConfigError naming the file and the key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"is neither YAML nor JSON: {error}", where=str(path), remedy="Check the syntax at that place."
        ) from error
    try:
        return EngineConfig.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(
            problems, where=str(path), remedy="docs/simulator.md lists every parameter."
        ) from error
