"""Every engine's page under its own names, and the thread that reads it beside a phase."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deploy_support import answering

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.server_metrics import summarise
from pytest_agentperf.deploy.metrics_page import (
    MetricsReader,
    MetricsUnreadable,
    NoMetrics,
    read_page,
    reading_of,
    requests_in_flight,
)
from pytest_agentperf.deploy.server_metrics import ScrapedMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.server_metrics import ServerReading

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "metrics"


def read(*pages: str) -> ServerReading:
    return reading_of(0, [read_page(page) for page in pages], {})[0]


VLLM = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.9
vllm:prefix_cache_queries_total{engine="0"} 100
vllm:prefix_cache_queries_total{engine="1"} 300
vllm:prefix_cache_hits_total{engine="0"} 60
vllm:prefix_cache_hits_total{engine="1"} 40
vllm:prefix_cache_hits_created{engine="1"} 1.7e9
vllm:num_preemptions_total 2
vllm:spec_decode_num_draft_tokens_total 10
vllm:spec_decode_num_accepted_tokens_total 7
vllm:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 5
vllm:prompt_tokens_total 400
vllm:generation_tokens_total 50
"""
SGLANG = """\
sglang:num_running_reqs{tp_rank="0",dp_rank="0"} 5
sglang:num_running_reqs{tp_rank="1",dp_rank="0"} 5
sglang:num_running_reqs{tp_rank="0",dp_rank="1"} 2
sglang:num_running_reqs{tp_rank="1",dp_rank="1"} 2
sglang:num_queue_reqs{tp_rank="0",priority=""} 7
sglang:num_queue_reqs{tp_rank="0",priority="1"} 4
sglang:num_queue_reqs{tp_rank="0",priority="2"} 3
sglang:token_usage{dp_rank="0"} 0.25
sglang:cached_tokens_total{cache_source="device"} 30
sglang:cached_tokens_total{cache_source="host"} 20
sglang:prompt_tokens_total 200
sglang:generation_tokens_total 9
sglang:num_retracted_requests_total 1
sglang:spec_accept_rate{dp_rank="0"} 0.5
sglang:spec_accept_rate{dp_rank="1"} 0.7
"""
TENSORRT_LLM = """\
trtllm_num_requests_running{model_name="m"} 8
trtllm_num_requests_waiting{model_name="m"} 1
trtllm_kv_cache_utilization 0.62
trtllm_kv_cache_reused_blocks_total 30
trtllm_kv_cache_missed_blocks_total 10
trtllm_prompt_tokens_total 5
trtllm_generation_tokens_total 6
"""
DYNAMO = """\
dynamo_frontend_inflight_requests{model="m"} 12
dynamo_frontend_queued_requests{model="m"} 4
dynamo_component_gpu_cache_usage_percent{worker="a"} 0.4
dynamo_component_gpu_cache_usage_percent{worker="b"} 0.6
dynamo_frontend_input_sequence_tokens_sum 1000
dynamo_frontend_cached_tokens_sum 600
dynamo_frontend_cached_tokens_count 6
dynamo_frontend_output_tokens_total 70
"""
COUNTED = {"prompt_tokens", "generation_tokens"}
EXPECTED: dict[str, tuple[str, dict[str, float], str | None]] = {
    "vllm": (
        VLLM,
        {
            "running": 4, "waiting": 2, "kv_usage": 0.9, "cache_queries": 400, "cache_hits": 100,
            "preemptions": 2, "drafted_tokens": 10, "accepted_tokens": 7, "prompt_tokens": 400,
            "generation_tokens": 50,
        },
        "tokens",
    ),
    "sglang": (
        SGLANG,
        {
            "running": 7, "waiting": 7, "kv_usage": 0.25, "cache_hits": 50, "cache_queries": 200,
            "preemptions": 1, "acceptance_rate": 0.6, "prompt_tokens": 200, "generation_tokens": 9,
        },
        "tokens",
    ),
    "tensorrt-llm": (
        TENSORRT_LLM,
        {
            "running": 8, "waiting": 1, "kv_usage": 0.62, "cache_hits": 30, "cache_queries": 40,
            "prompt_tokens": 5, "generation_tokens": 6,
        },
        "blocks",
    ),
    "dynamo": (
        DYNAMO,
        {
            "running": 12, "waiting": 4, "kv_usage": 0.6, "cache_hits": 600, "cache_queries": 1000,
            "prompt_tokens": 1000, "generation_tokens": 70,
        },
        "tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", EXPECTED)
def test_every_engine_under_its_own_names(engine: str) -> None:
    page, expected, unit = EXPECTED[engine]
    found = read(page)
    assert found.engines == (engine,)
    assert found.values == pytest.approx(expected)
    assert found.cache_unit == unit


def test_engines_behind_a_router_are_added_up() -> None:
    found = read(VLLM, VLLM)
    assert (found.values["running"], found.values["kv_usage"]) == (8, 0.9)
    passed_on = read(DYNAMO + VLLM)
    assert passed_on.engines == ("vllm", "dynamo")
    assert passed_on.values["running"] == 4


def test_a_backend_that_does_not_report_cached_tokens_has_no_hit_share() -> None:
    silent = DYNAMO.replace("cached_tokens_sum 600", "cached_tokens_sum 0").replace("_count 6", "_count 0")
    assert "cache_hits" not in read(silent).values


def test_values_that_are_no_numbers_are_left_out() -> None:
    found = read(
        "vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\nvllm:kv_cache_usage_perc 1\n"
    )
    assert found.values == {"kv_usage": 1}


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the shared recordings are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "engine", "values"),
    [
        ("doc_excerpts/vllm-doc-excerpt.prom", "vllm", {}),
        ("doc_excerpts/trtllm-doc-excerpt.prom", "tensorrt-llm", {}),
        (
            "doc_excerpts/sglang-doc-excerpt.prom",
            "sglang",
            {"prompt_tokens": 8128902, "cache_queries": 8128902, "generation_tokens": 7557572},
        ),
        (
            "llamacpp/metrics.prom",
            "llama.cpp",
            {
                "running": 0, "waiting": 0, "drafted_tokens": 0, "accepted_tokens": 0, "prompt_tokens": 178,
                "generation_tokens": 1198,
            },
        ),
    ],
)  # fmt: skip
def test_recorded_pages(name: str, engine: str, values: Mapping[str, float]) -> None:
    found = read((RECORDED / name).read_text(encoding="utf-8"))
    assert found.engines == (engine,)
    assert found.values == values


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the shared recordings are not beside this checkout")
@pytest.mark.parametrize("name", ["sglang.txt", "vllm-v0.26.0-x86_64.txt"])
def test_the_names_are_those_of_a_recent_engine(name: str) -> None:
    """Of every metric that the engine has at all, one of our names is among its families."""
    families = [
        line.split()[0] for line in (RECORDED / "families" / name).read_text().split("\n") if ":" in line
    ]
    page = "\n".join(f"{family} 1" for family in families if not family.startswith("#"))
    drafted = set() if name.startswith("sglang") else {"drafted_tokens", "accepted_tokens"}
    known = EXPECTED[name.partition("-")[0].removesuffix(".txt")][1]
    assert set(read(page).values) == set(known) - drafted


class Script:
    """Serves one page after the other, the last one for ever, and notes what was asked."""

    def __init__(self, *pages: str | int) -> None:
        self.pages = list(pages)
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.enough = threading.Event()
        self.wanted = 3

    def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        self.asked.append(path)
        self.keys.append(headers.get("authorization"))
        if len(self.asked) > self.wanted:
            self.enough.set()
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        return (page, b"") if isinstance(page, int) else (200, page.encode())


def test_counters_that_fall_or_vanish_were_reset() -> None:
    script = Script(
        VLLM, VLLM, VLLM.replace("hits_total{engine=\"1\"} 40", "hits_total{engine=\"1\"} 3"),
        VLLM.replace("vllm:num_preemptions_total 2\n", 'vllm:num_preemptions_total{engine="1"} 9\n'),
    )  # fmt: skip
    with answering(script) as url, MetricsReader(url, {}) as reader:
        assert [set(reader.read().resets) for _ in range(4)] == [
            set(),
            set(),
            {"cache_hits"},
            {"preemptions"},
        ]


def test_tensorrt_llm_has_its_page_elsewhere() -> None:
    def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        return (200, TENSORRT_LLM.encode()) if path == "/prometheus/metrics" else (200, b'[{"iter": 1}]')

    asked: list[str] = []
    with answering(answer) as url, MetricsReader(url, {}) as reader:
        assert reader.read().values["running"] == 8
        reader.read()
    assert asked == ["/metrics", "/prometheus/metrics", "/prometheus/metrics"]


def test_the_key_stays_with_the_endpoint() -> None:
    script = Script(VLLM)
    key = {"Authorization": "Bearer sesame"}
    with answering(script) as url:
        root = url.removesuffix("/v1")
        with MetricsReader(url, key) as own, MetricsReader(url, key, [f"{root}/a", f"{root}/b"]) as named:
            own.read()
            assert named.read().values["running"] == 8
    assert script.keys == ["Bearer sesame", None, None]
    assert script.asked == ["/metrics", "/a", "/b"]


def test_half_of_the_engines_are_no_reading() -> None:
    script = Script(VLLM, 500)
    with answering(script) as url:
        pages = [url.replace("/v1", "/a"), url.replace("/v1", "/b")]
        with (
            MetricsReader(url, {}, pages) as reader,
            pytest.raises(MetricsUnreadable, match="HTTP 500 at /b"),
        ):
            reader.read()


@pytest.mark.parametrize(
    ("page", "error", "text"),
    [
        (404, NoMetrics, "HTTP 404"),
        (503, MetricsUnreadable, "HTTP 503"),
        ("<html>", NoMetrics, "no inference engine's"),
        ("vllm:num_requests_running one\n", MetricsUnreadable, "no Prometheus sample"),
        ("vllm:x " + "1" * (9 << 20), MetricsUnreadable, "larger than 8 MiB"),
    ],
)
def test_what_cannot_be_read_says_so(page: str | int, error: type[Exception], text: str) -> None:
    with answering(Script(page)) as url:
        with MetricsReader(url, {}) as reader, pytest.raises(MetricsUnreadable, match=text) as caught:
            reader.read()
        assert isinstance(caught.value, error)
        assert requests_in_flight(MetricsReader(url, {})) is None


def test_a_phase_is_followed_from_its_start_to_its_end() -> None:
    script = Script(VLLM, 500, VLLM.replace("preemptions_total 2", "preemptions_total 5"))
    with answering(script) as url:
        metrics = ScrapedMetrics(lambda: MetricsReader(url, {}), interval_s=0.02)
        metrics.start()
        begun_ns = monotonic_ns()
        assert script.enough.wait(10)
        assert metrics.latest() is not None
        series = metrics.stop()
    assert len(series.failed_ns) == 1
    assert len(series.t_ns) == len(script.asked) - 1
    assert series.problem == "HTTP 500 at /metrics"
    assert series.t_ns[-1] > begun_ns
    found = summarise(series, open_ns=int(series.t_ns[0]), close_ns=int(series.t_ns[-1]))
    assert (found.preemptions, found.running_mean, found.failed_readings) == (3, 4, 1)
    assert metrics.stop().t_ns.size == 0


def test_a_server_without_metrics_is_asked_once() -> None:
    script = Script(404)
    with answering(script) as url:
        metrics = ScrapedMetrics(lambda: MetricsReader(url, {}), interval_s=0.001)
        metrics.start()
        assert metrics.latest() is None
        script.wanted = 2
        assert not script.enough.wait(0.1)
        series = metrics.stop()
    assert script.asked == ["/metrics", "/prometheus/metrics"]
    assert "HTTP 404" in (series.problem or "")
