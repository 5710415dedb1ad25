"""The server's `/metrics` page, with the names that vLLM uses."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.sim.events import EngineStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# vLLM's buckets, in seconds.
TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
ITL_BUCKETS_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
E2E_BUCKETS_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip


class Histogram:
    """Counts of observations by upper bound."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds_s, value_s)] += 1
        self._sum_s += value_s

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """Return the samples."""
        total = 0
        for bound, count in zip((*self._bounds_s, None), self._counts, strict=True):
            total += count
            le = "+Inf" if bound is None else repr(bound)
            yield f'{name}_bucket{{le="{le}",{labels}}} {float(total)}'
        yield f"{name}_count{{{labels}}} {float(total)}"
        yield f"{name}_sum{{{labels}}} {self._sum_s!r}"


class Latencies:
    """What the server itself observes, beside the engine's counters."""

    __slots__ = ("e2e", "itl", "success", "ttft")

    def __init__(self) -> None:
        self.ttft = Histogram(TTFT_BUCKETS_S)
        self.itl = Histogram(ITL_BUCKETS_S)
        self.e2e = Histogram(E2E_BUCKETS_S)
        self.success = {"stop": 0, "length": 0, "tool_calls": 0}


class _Family(NamedTuple):
    name: str
    kind: str
    help: str
    value: float


def render_metrics(stats: EngineStats, latencies: Latencies, *, model: str, accelerators: int) -> str:
    """Return the page in Prometheus' text format."""
    labels = f'engine="0",model_name={json.dumps(model, ensure_ascii=False)}'
    lines: list[str] = []
    families = (
        _Family("num_requests_running", "gauge", "Requests in the batch.", stats.running),
        _Family("num_requests_waiting", "gauge", "Requests waiting to be scheduled.", stats.waiting),
        _Family("kv_cache_usage_perc", "gauge", "KV-cache usage; 1 is full.", stats.kv_usage),
        _Family(
            "prefix_cache_queries_total", "counter", "Prompt tokens looked up.", stats.prefix_query_tokens
        ),
        _Family("prefix_cache_hits_total", "counter", "Prompt tokens found.", stats.prefix_hit_tokens),
        _Family("prompt_tokens_total", "counter", "Prompt tokens processed.", stats.prompt_tokens),
        _Family("generation_tokens_total", "counter", "Tokens generated.", stats.generation_tokens),
        _Family("num_preemptions_total", "counter", "Requests preempted.", stats.preemptions),
    )
    for family in families:
        lines += _head(f"vllm:{family.name}", family.kind, family.help)
        lines.append(f"vllm:{family.name}{{{labels}}} {float(family.value)}")

    lines += _head("vllm:request_success_total", "counter", "Requests finished, by reason.")
    # The engine knows of no tools: a call ends by a stop token like any other answer.
    success = latencies.success
    for reason, count in (("stop", success["stop"] + success["tool_calls"]), ("length", success["length"])):
        lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {float(count)}')

    for name, help_text, histogram in (
        ("time_to_first_token_seconds", "Time to first token.", latencies.ttft),
        ("inter_token_latency_seconds", "Time between chunks.", latencies.itl),
        ("e2e_request_latency_seconds", "Time from arrival to the last token.", latencies.e2e),
    ):
        lines += _head(f"vllm:{name}", "histogram", help_text)
        lines += histogram.lines(f"vllm:{name}", labels)

    for name, kind, help_text, value in (
        ("agentperf_sim_power_watts", "gauge", "Power of one accelerator.", stats.power_w),
        ("agentperf_sim_energy_joules_total", "counter", "Energy of one accelerator.", stats.energy_j),
    ):
        lines += _head(name, kind, help_text)
        lines += [
            f'{name}{{accelerator="{index}"}} {value / accelerators!r}' for index in range(accelerators)
        ]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"
