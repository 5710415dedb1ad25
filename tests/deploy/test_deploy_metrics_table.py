"""The table of docs/server-metrics.md: which engine tells what under which name. WRITE_METRICS=1 writes it anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.core.server_metrics import (
    METRICS,
    ServerReading,
    ServerSeriesBuilder,
    ServerSummary,
    summarise,
)
from pytest_agentperf.deploy.metric_names import ENGINES
from pytest_agentperf.deploy.metrics_page import read_page, reading_of
from pytest_agentperf.sim.events import EngineStats
from pytest_agentperf.sim.metrics import Latencies, render_metrics

if TYPE_CHECKING:
    from collections.abc import Collection

PAGE = Path(__file__).parents[2] / "docs" / "server-metrics.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
TITLES = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tensorrt-llm": "TensorRT-LLM",
    "llama.cpp": "llama.cpp",
    "dynamo": "Dynamo",
}
# Of several ways to a figure, the first that an engine has all metrics for.
FIGURES: dict[str, tuple[tuple[str, ...], ...]] = {
    "running_mean, running_max": (("running",),),
    "waiting_mean, waiting_max": (("waiting",),),
    "kv_usage_max": (("kv_usage",),),
    "cache_hit_share": (("cache_hits", "cache_queries"),),
    "preemptions": (("preemptions",),),
    "acceptance": (("accepted_tokens", "drafted_tokens"), ("acceptance_rate",)),
    "prompt_tokens_per_s": (("prompt_tokens",),),
    "generation_tokens_per_s": (("generation_tokens",),),
}
NO_FIGURES = {"engines", "readings", "failed_readings", "cache_unit", "missing", "samples"}


def names_of(figure: str, engine: str) -> str | None:
    """Return a figure's metrics as the engine calls them, None if it has none."""
    known = ENGINES[engine]

    def name(metric: str) -> str:
        ways = (" + ".join(_short(name, known.prefixes) for name in some) for some in known.metrics[metric])
        # Some of TensorRT-LLM differ in their prefix only.
        return ", else ".join(dict.fromkeys(ways))

    for way in FIGURES[figure]:
        if all(metric in known.metrics for metric in way):
            parts = [name(metric) for metric in way]
            said = parts[0] if len(parts) == 1 else " / ".join(map(_bracketed, parts))
            counters = [known.counted_by[metric] for metric in way if metric in known.counted_by]
            return said + "".join(f", once {_short(c, known.prefixes)} > 0" for c in counters)
    return None


def _bracketed(names: str) -> str:
    return f"({names})" if " " in names else names


def _short(name: str, prefixes: Collection[str]) -> str:
    return f"`{next(name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix))}`"


def simulated() -> ServerReading:
    """Return what the simulator's own page says; it speaks vLLM's names."""
    stats = EngineStats(*[1] * len(EngineStats._fields))
    page = render_metrics(stats, Latencies(), model="m", accelerators=1)
    reading = reading_of(0, [read_page(page)], {})[0]
    assert reading.engines == ("sim",)
    return reading


def table() -> str:
    prefixes = {engine: " or ".join(f"`{p}`" for p in known.prefixes) for engine, known in ENGINES.items()}
    heads = [f"{TITLES[engine]}, {prefixes[engine]}" for engine in ENGINES]
    rows = [["figure", *heads, "simulator"], ["---"] * (len(ENGINES) + 2)]
    there = simulated().values
    for figure, ways in FIGURES.items():
        as_vllm = any(there.keys() >= set(way) for way in ways)
        cells = [names_of(figure, engine) or "–" for engine in ENGINES]
        rows.append(
            [", ".join(f"`{name}`" for name in figure.split(", ")), *cells, "as vLLM" if as_vllm else "–"]
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_page_says_what_is_read() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    if os.environ.get("WRITE_METRICS"):
        PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
    else:
        assert old == table()


def test_the_table_has_every_figure_and_every_engine() -> None:
    named = {name for figure in FIGURES for name in figure.split(", ")}
    assert named == ServerSummary.model_fields.keys() - NO_FIGURES
    assert TITLES.keys() == ENGINES.keys()
    assert {metric for ways in FIGURES.values() for way in ways for metric in way} == set(METRICS)


@pytest.mark.parametrize("engine", [*ENGINES, "sim"])
def test_what_the_table_names_makes_the_figure_and_nothing_else_does(engine: str) -> None:
    metrics = simulated().values.keys() if engine == "sim" else ENGINES[engine].metrics.keys()
    series = ServerSeriesBuilder()
    for second in range(11):
        values = {metric: float(second + 1) for metric in metrics}
        series.add(ServerReading(second * 1_000_000_000, (engine,), values))
    summary = summarise(series.build(), open_ns=0, close_ns=10_000_000_000)
    for figure, ways in FIGURES.items():
        named = any(metrics >= set(way) for way in ways)
        if engine != "sim":
            assert named == (names_of(figure, engine) is not None)
        for name in figure.split(", "):
            assert (getattr(summary, name) is not None) is named, name
    told = {key for key in FIGURES for name in key.split(", ") if getattr(summary, name) is None}
    assert len(told) == len(summary.missing), "each figure that is missing has its reason"
