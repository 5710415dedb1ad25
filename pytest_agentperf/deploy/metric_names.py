"""Which engine calls what by which name on its Prometheus page, as of its own documentation and sources.

The first of several alternatives that a page has counts; names that belong together are added. Of two engines on one
page, as where Dynamo passes its backend's metrics on, the earlier one here is asked first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.server_metrics import CacheUnit

Alternatives = tuple[tuple[str, ...], ...]


class EngineNames(NamedTuple):
    """An engine's names for our metrics."""

    prefixes: tuple[str, ...]
    """How its names begin, whether or not they are among those wanted."""
    metrics: Mapping[str, Alternatives]
    cache_unit: CacheUnit = "tokens"
    counted_by: Mapping[str, str] = {}
    """Metrics that mean something only once this other counter is above 0."""


def _one(*names: str) -> Alternatives:
    return tuple((name,) for name in names)


_VLLM = EngineNames(
    ("vllm:",),
    {
        "running": _one("vllm:num_requests_running"),
        "waiting": _one("vllm:num_requests_waiting"),
        "kv_usage": _one("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "cache_hits": _one("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "cache_queries": _one("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "preemptions": _one("vllm:num_preemptions_total"),
        "drafted_tokens": _one("vllm:spec_decode_num_draft_tokens_total"),
        "accepted_tokens": _one("vllm:spec_decode_num_accepted_tokens_total"),
        "prompt_tokens": _one("vllm:prompt_tokens_total"),
        "generation_tokens": _one("vllm:generation_tokens_total"),
    },
)
_SGLANG = EngineNames(
    ("sglang:",),
    {
        "running": _one("sglang:num_running_reqs"),
        "waiting": _one("sglang:num_queue_reqs"),
        "kv_usage": _one("sglang:token_usage"),
        # Both grow when a request has finished, so their ratio is that of the requests that did.
        "cache_hits": _one("sglang:cached_tokens_total"),
        "cache_queries": _one("sglang:prompt_tokens_total"),
        "preemptions": _one("sglang:num_retracted_requests_total"),
        "acceptance_rate": _one("sglang:spec_accept_rate"),
        "prompt_tokens": _one("sglang:prompt_tokens_total"),
        "generation_tokens": _one("sglang:generation_tokens_total"),
    },
)
_TENSORRT_LLM = EngineNames(
    ("trtllm_", "trtllm:"),
    {
        "running": _one("trtllm_num_requests_running", "trtllm:num_requests_running"),
        "waiting": _one("trtllm_num_requests_waiting", "trtllm:num_requests_waiting"),
        "kv_usage": _one("trtllm_kv_cache_utilization", "trtllm:kv_cache_utilization"),
        "cache_hits": _one("trtllm_kv_cache_reused_blocks_total"),
        "cache_queries": (("trtllm_kv_cache_reused_blocks_total", "trtllm_kv_cache_missed_blocks_total"),),
        "drafted_tokens": _one("trtllm_spec_decode_num_draft_tokens_total"),
        "accepted_tokens": _one("trtllm_spec_decode_num_accepted_tokens_total"),
        "prompt_tokens": _one("trtllm_prompt_tokens_total"),
        "generation_tokens": _one("trtllm_generation_tokens_total"),
    },
    cache_unit="blocks",
)
_LLAMA_CPP = EngineNames(
    ("llamacpp:",),
    {
        "running": _one("llamacpp:requests_processing"),
        "waiting": _one("llamacpp:requests_deferred"),
        "kv_usage": _one("llamacpp:kv_cache_usage_ratio"),
        "drafted_tokens": _one("llamacpp:spec_decode_num_draft_tokens_total"),
        "accepted_tokens": _one("llamacpp:spec_decode_num_accepted_tokens_total"),
        "prompt_tokens": _one("llamacpp:prompt_tokens_total"),
        "generation_tokens": _one("llamacpp:tokens_predicted_total"),
    },
)
_DYNAMO = EngineNames(
    ("dynamo_",),
    {
        # All that the frontend has accepted, those that wait for their first token included.
        "running": _one("dynamo_frontend_inflight_requests"),
        "waiting": _one("dynamo_frontend_queued_requests"),
        "kv_usage": _one(
            "dynamo_component_gpu_cache_usage_percent", "dynamo_component_kvstats_gpu_cache_usage_percent"
        ),
        "cache_hits": _one("dynamo_frontend_cached_tokens_sum"),
        "cache_queries": _one("dynamo_frontend_input_sequence_tokens_sum"),
        "prompt_tokens": _one("dynamo_frontend_input_sequence_tokens_sum"),
        "generation_tokens": _one(
            "dynamo_frontend_output_tokens_total", "dynamo_frontend_output_sequence_tokens_sum"
        ),
    },
    # Backends that do not report cached tokens leave the histogram empty: that is no hit share of 0.
    counted_by={"cache_hits": "dynamo_frontend_cached_tokens_count"},
)

ENGINES: Mapping[str, EngineNames] = {
    "vllm": _VLLM,
    "sglang": _SGLANG,
    "tensorrt-llm": _TENSORRT_LLM,
    "llama.cpp": _LLAMA_CPP,
    "dynamo": _DYNAMO,
}
SIM_MARK = "agentperf_sim_power_watts"
"""The built-in simulated server speaks vLLM's names, and is told from it by this one."""

KNOWN = frozenset(
    name
    for engine in ENGINES.values()
    for names in (*engine.metrics.values(), (tuple(engine.counted_by.values()),))
    for together in names
    for name in together
)

RANK_LABELS = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "ep_rank"})
"""Ranks of one engine report the same requests: they are not added."""
TOTAL_BESIDE_PARTS = "priority"
"""SGLang gives a gauge per priority, and their total under the empty one."""
PATHS = ("/metrics", "/prometheus/metrics")
"""Where pages are, below the server's root; the second is TensorRT-LLM's, whose first one is JSON."""
