"""What one pool of replicas needs to know, in the engine's units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.config.engine import EngineConfig


@dataclass(frozen=True, slots=True)
class PoolParameters:
    """Replicas of one kind; batch, blocks and prompt tokens are those of one rank, watts those of a replica."""

    replicas: int
    ranks: int
    prefills: bool
    decodes: bool
    sends_first: bool  # the first token, where another pool decodes
    max_batch: int
    kv_blocks: int
    block_tokens: int
    prefill_tokens_per_step: int
    base_ns: float
    overhead_ns: float
    per_sequence_ns: float
    per_context_token_ns: float
    per_prefill_token_ns: float
    prefill_slowdown_per_token: float  # by which a prompt token takes longer for each token before it
    overlap: bool
    jitter_cv: float
    idle_w: float
    dynamic_w: float
    weights_activity: float
    kv_activity: float
    decode_activity: float
    prefill_activity: float


class Deployment(NamedTuple):
    """The pools; `prefill` is None where every replica computes prompts and answers."""

    main: PoolParameters
    prefill: PoolParameters | None


def plan_deployment(config: EngineConfig) -> Deployment:
    """Translate a configuration; raises ConfigError where its accelerators do not add up."""
    pool = config.prefill_pool
    half_speed = config.prefill_half_speed_context_tokens
    activity = config.power_activity
    main = PoolParameters(
        replicas=config.replicas,
        ranks=config.ranks,
        prefills=pool is None,
        decodes=True,
        sends_first=True,
        max_batch=config.max_batch,
        kv_blocks=config.kv_blocks,
        block_tokens=config.kv_block_tokens,
        prefill_tokens_per_step=config.max_prefill_tokens_per_step,
        base_ns=config.step_base_ms * 1e6,
        overhead_ns=config.step_overhead_ms * 1e6,
        per_sequence_ns=config.step_per_sequence_ms * 1e6,
        per_context_token_ns=config.step_per_context_ktoken_ms * 1e3,
        per_prefill_token_ns=NS_PER_S / config.prefill_tokens_per_s,
        prefill_slowdown_per_token=0.0 if half_speed is None else 1 / half_speed,
        overlap=config.step_overlap,
        jitter_cv=config.jitter_cv,
        idle_w=config.power_idle_w,
        dynamic_w=config.power_peak_w - config.power_idle_w,
        weights_activity=activity.weights,
        kv_activity=activity.kv,
        decode_activity=activity.decode,
        prefill_activity=activity.prefill,
    )
    if pool is None:
        return Deployment(_of_accelerators(main, config.accelerators / config.replicas), None)
    taken = pool.replicas * pool.accelerators_each
    if taken >= config.accelerators:
        raise ConfigError(
            f"the prefill pool takes {taken} of {config.accelerators} accelerators and leaves none to decode",
            where="simulate.prefill_pool",
            remedy="Allocate more accelerators, or make the pool smaller.",
        )
    prefill = replace(
        main,
        replicas=pool.replicas,
        ranks=pool.ranks,
        prefills=True,
        decodes=False,
        sends_first=pool.first_token == "prefill",
        max_batch=pool.max_batch or main.max_batch,
        kv_blocks=pool.kv_blocks or main.kv_blocks,
        base_ns=main.base_ns if pool.step_base_ms is None else pool.step_base_ms * 1e6,
    )
    return Deployment(
        _of_accelerators(main, (config.accelerators - taken) / config.replicas),
        _of_accelerators(prefill, pool.accelerators_each),
    )


def _of_accelerators(pool: PoolParameters, accelerators: float) -> PoolParameters:
    return replace(pool, idle_w=pool.idle_w * accelerators, dynamic_w=pool.dynamic_w * accelerators)
