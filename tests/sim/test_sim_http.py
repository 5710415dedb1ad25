from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from sim_support import engine_config

from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.server import ServerOptions, SimApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_agentperf.config.engine import EngineConfig

pytestmark = pytest.mark.asyncio

SHARED = Path(__file__).parents[3] / "shared" / "data"
CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}


@asynccontextmanager
async def serving(
    options: ServerOptions | None = None, config: EngineConfig | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a fast engine on a free port."""
    app = SimApp(config or fast(), options or ServerOptions())
    port = await app.listen("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        await app.close()


def fast(**changes: Any) -> EngineConfig:
    return engine_config(
        **{"step_base_ms": 0.5, "step_per_sequence_ms": 0.1, "prefill_tokens_per_s": 1e6} | changes
    )


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serving() as found:
        yield found


def chat(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "agentperf-sim",
        "messages": [{"role": "system", "content": "Be brief. " * 20}, {"role": "user", "content": "Hi"}],
        "max_tokens": 12,
        "ignore_eos": True,
    }
    return body | changes


def sse(text: str) -> list[dict[str, Any]]:
    """Return the chunks of a complete stream."""
    *chunks, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(chunk.startswith("data: ") for chunk in chunks)
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


async def metric(client: httpx.AsyncClient, name: str) -> float:
    page = (await client.get("/metrics")).text
    found = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def test_a_stream_has_role_tokens_finish_usage_and_done(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=chat(stream=True, stream_options={"include_usage": True}))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    role, *tokens, usage = sse(response.text)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [chunk["choices"][0]["delta"] for chunk in tokens]
    assert [list(delta) for delta in deltas] == [["reasoning_content"]] * 3 + [["content"]] * 9
    finished = [chunk["choices"][0]["finish_reason"] for chunk in (role, *tokens)]
    assert finished == [None] * 12 + ["length"]
    assert usage["choices"] == []
    counts = usage["usage"]
    assert counts["completion_tokens"] == 12
    assert counts["total_tokens"] == counts["prompt_tokens"] + 12
    assert counts["prompt_tokens_details"] == {"cached_tokens": 0}
    assert counts["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert len({chunk["id"] for chunk in (role, *tokens, usage)}) == 1


async def test_the_stream_has_the_shape_of_vllms(client: httpx.AsyncClient) -> None:
    sample = SHARED / "sse" / "shaped-vllm-chat.sse"
    if not sample.exists():
        pytest.skip(f"{sample} is not there")
    theirs = sse(sample.read_text())
    response = await client.post(CHAT, json=chat(stream=True, stream_options={"include_usage": True}))
    ours = sse(response.text)
    for index, their_index in ((0, 0), (-3, 1), (-2, -2)):
        assert shape(ours[index]) == shape(theirs[their_index])
    assert set(ours[-1]) == set(theirs[-1])
    assert set(ours[-1]["usage"]) >= set(theirs[-1]["usage"])


async def test_usage_comes_with_every_chunk_when_asked_for(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    response = await client.post(CHAT, json=chat(stream=True, stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in sse(response.text)]
    assert counts == [*range(13), 12]


async def test_no_usage_unless_asked_for(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=chat(stream=True))
    assert not any("usage" in chunk for chunk in sse(response.text))


async def test_tokens_are_bundled() -> None:
    async with serving(config=fast(tokens_per_chunk=5)) as client:
        options = {"include_usage": True, "continuous_usage_stats": True}
        response = await client.post(CHAT, json=chat(stream=True, stream_options=options))
    assert [chunk["usage"]["completion_tokens"] for chunk in sse(response.text)] == [0, 1, 6, 11, 12, 12]


async def test_a_streamed_tool_call_is_valid_json() -> None:
    async with serving(config=fast(output_tokens_median=40, output_tokens_p95=40)) as client:
        response = await client.post(
            CHAT, json=chat(stream=True, tools=[TOOL], max_tokens=100, ignore_eos=False)
        )
    chunks = sse(response.text)
    calls = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "bash"
    assert calls[0]["id"].startswith("call_")
    assert all(call["index"] == 0 for call in calls)
    assert json.loads("".join(call["function"]["arguments"] for call in calls))["input"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_tool_choice_none_calls_no_tool(client: httpx.AsyncClient) -> None:
    body = chat(tools=[TOOL], tool_choice="none", ignore_eos=False, max_tokens=20_000 // 10)
    message = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]
    assert message["tool_calls"] == []


async def test_without_streaming_the_answer_is_one_object(client: httpx.AsyncClient) -> None:
    streamed = sse((await client.post(CHAT, json=chat(stream=True))).text)
    response = await client.post(CHAT, json=chat())
    answer = response.json()
    assert answer["object"] == "chat.completion"
    message = answer["choices"][0]["message"]
    for field in ("content", "reasoning_content"):
        assert message[field] == "".join(c["choices"][0]["delta"].get(field) or "" for c in streamed)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12


async def test_a_repeated_prompt_is_cached(client: httpx.AsyncClient) -> None:
    first = (await client.post(CHAT, json=chat())).json()["usage"]
    second = (await client.post(CHAT, json=chat())).json()["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["prompt_tokens_details"]["cached_tokens"] == (second["prompt_tokens"] - 1) // 10 * 10
    assert await metric(client, "vllm:prefix_cache_hits_total") > 0


async def test_models_and_health(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["agentperf-sim"]
    assert models["data"][0]["max_model_len"] == fast().context_tokens
    assert (await client.get("/health")).status_code == 200


async def test_metrics_count(client: httpx.AsyncClient) -> None:
    usage = (await client.post(CHAT, json=chat())).json()["usage"]
    assert await metric(client, "vllm:prompt_tokens_total") == usage["prompt_tokens"]
    assert await metric(client, "vllm:generation_tokens_total") == 12
    assert await metric(client, "vllm:time_to_first_token_seconds_count") == 1
    assert await metric(client, "vllm:inter_token_latency_seconds_count") == 11
    assert await metric(client, "vllm:e2e_request_latency_seconds_count") == 1
    page = (await client.get("/metrics")).text
    assert 'finished_reason="length"} 1.0' in page
    assert 'le="+Inf",engine="0",model_name="agentperf-sim"} 11.0' in page
    first = await metric(client, "agentperf_sim_energy_joules_total")
    assert first > 0
    assert await metric(client, "agentperf_sim_energy_joules_total") > first
    assert await metric(client, "agentperf_sim_power_watts") == 100


async def test_metric_families_are_vllms(client: httpx.AsyncClient) -> None:
    known = SHARED / "metrics" / "families" / "vllm-v0.26.0-x86_64.txt"
    if not known.exists():
        pytest.skip(f"{known} is not there")
    theirs = {line for line in known.read_text().splitlines() if line.startswith("vllm:")}
    page = (await client.get("/metrics")).text
    ours = {line.removeprefix("# TYPE ") for line in page.splitlines() if line.startswith("# TYPE vllm:")}
    assert len(ours) == 12
    assert ours <= theirs


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content.str"),
        ({"max_tokens": "12"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"min_tokens": 13}, "min_tokens"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"max_tokens": 200_000}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 700_000}], "max_tokens": None}, "messages"),
    ],
)
async def test_bad_parameters_are_named(
    client: httpx.AsyncClient, changes: dict[str, Any], param: str
) -> None:
    response = await client.post(CHAT, json=chat(**changes))
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"], error["type"]) == (param, 400, "BadRequestError")


@pytest.mark.parametrize("missing", ["model", "messages"])
async def test_missing_fields_are_named(client: httpx.AsyncClient, missing: str) -> None:
    body = chat()
    del body[missing]
    response = await client.post(CHAT, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, missing)


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff"])
async def test_a_body_that_is_no_json_object_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post(CHAT, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "BadRequestError"


async def test_the_context_error_is_worded_like_vllms(client: httpx.AsyncClient) -> None:
    sample = SHARED / "sse" / "shaped-vllm-error.json"
    if not sample.exists():
        pytest.skip(f"{sample} is not there")
    theirs = json.loads(sample.read_text())
    ours = (await client.post(CHAT, json=chat(max_tokens=200_000))).json()["error"]
    assert set(ours) == set(theirs) - {"object"}
    assert re.sub(r"\d+", "0", ours["message"]) == re.sub(r"\d+", "0", theirs["message"])


async def test_a_prompt_beyond_the_cache_is_refused() -> None:
    async with serving(config=fast(kv_blocks=3)) as client:
        response = await client.post(CHAT, json=chat())
        assert response.status_code == 400
        assert "KV-cache blocks" in response.json()["error"]["message"]
        assert (await client.get("/health")).status_code == 200


async def test_unknown_paths_models_and_methods(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).status_code == 404
    unknown = await client.post(CHAT, json=chat(model="other"))
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    wrong = await client.get(CHAT)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_the_key_is_checked() -> None:
    async with serving(ServerOptions(api_key="sésame")) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
            response = await client.post(CHAT, json=chat(), headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "AuthenticationError"
    async with serving(ServerOptions(api_key="sesame")) as client:
        right = {"authorization": "Bearer sesame"}
        assert (await client.post(CHAT, json=chat(), headers=right)).status_code == 200
        assert (await client.get("/metrics")).status_code == 200


async def test_a_client_that_leaves_cancels_its_request() -> None:
    async with serving(config=fast(step_base_ms=5)) as client:
        body = chat(stream=True, max_tokens=5_000)
        async with client.stream("POST", CHAT, json=body) as response:
            async for _ in response.aiter_bytes():
                break
            assert await metric(client, "vllm:num_requests_running") == 1

        async with asyncio.timeout(10):
            while await metric(client, "vllm:num_requests_running"):
                pass
        assert await metric(client, "vllm:kv_cache_usage_perc") == 0


async def test_many_requests_at_once_each_get_their_tokens() -> None:
    async with serving(config=fast(max_batch=5)) as client:
        bodies = [chat(stream=True, max_tokens=1 + index) for index in range(30)]
        responses = await asyncio.gather(*(client.post(CHAT, json=body) for body in bodies))
    assert [len(sse(response.text)) - 1 for response in responses] == list(range(1, 31))


async def test_failures_on_purpose_are_seeded() -> None:
    seen = []
    for _ in range(2):
        async with serving(ServerOptions(faults=FaultRates(fail=0.5, seed=3))) as client:
            seen.append([(await client.post(CHAT, json=chat())).status_code for _ in range(12)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 503}


@pytest.mark.parametrize("stream", [True, False])
async def test_streams_are_cut_on_purpose(stream: bool) -> None:
    async with serving(ServerOptions(faults=FaultRates(cut=1.0))) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(CHAT, json=chat(stream=stream))
        assert await metric(client, "vllm:num_requests_running") == 0
        assert await metric(client, "vllm:request_success_total") == 0
