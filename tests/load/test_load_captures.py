"""Real captures, read again here by the plainest means, and cut at every byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from load_support import SHARED

from pytest_agentperf.load.sse import StreamContent, decode

FOLDER = SHARED / "sse"
CAPTURES = sorted(FOLDER.glob("*.sse"))
SMALL_BYTES = 3_500

pytestmark = pytest.mark.skipif(not CAPTURES, reason=f"the captures are not at {FOLDER}")

# prompt, cached, output, reasoning tokens; finish; first text; chunks with output
EXPECTED: dict[str, tuple[Any, ...]] = {
    "anthropic-compat-toolcall": ("no_usage", None, None, None, None, "tool_calls", "Reading", 5),
    "azure-grok-text": (None, 7, 161, 8, 0, "stop", "1", 8),
    "deepseek-chat-text": (None, 11, 0, 8, None, "stop", "1", 8),
    "deepseek-chat-toolcall": (None, 348, 0, 65, None, "tool_calls", "weather", 25),
    "deepseek-reasoner-reasoning-first150-last20": (None, 48, 0, 4833, 4697, "stop", "We", 168),
    "edge-valid-comments_per_response": ("no_usage", None, None, None, None, None, "Deep", 2),
    "edge-valid-multi-line-data": ("no_usage", None, None, None, None, None, "Deep", 2),
    "gpustack-llamabox-qwen3-no-DONE": (None, 15, 0, 171, 160, "stop", "\n", 168),
    "handmade-agent-harness-thinking-tool": (
        None, 30, None, 18, None, "tool_calls", "I should inspect the directory.", 3,
    ),
    "llamacpp-b10349-reasoning-timings": (None, 62, 0, 76, None, "stop", "Reply", 66),
    "llamacpp-history-turn-1": (None, 68, 0, 133, None, "stop", "Remember", 123),
    "mistral-toolcall": (
        None, 159, 128, 28, None, "tool_calls", 'weather{"latitude": "52.5200", "longitude": "13.4050"}', 1,
    ),
    "nim-llama-3.1-8b-chat": ("no_usage", None, None, None, None, "length", "Deep", 64),
    "ollama-cloud-gpt-oss-120b-toolcall": (None, 169, None, 55, None, "tool_calls", "We", 16),
    "ollama-qwen3-toolcall": (None, 195, None, 140, None, "tool_calls", "Okay", 100),
    "openrouter-reasoning_details-toolcall": (
        None, 626, 0, 106, 54, "tool_calls", "The user is asking for the weather in", 18,
    ),
    "openrouter-text-after-tool": (None, 748, 0, 64, 0, "stop", "The", 15),
    "perplexity-sonar-crlf-usage-every-chunk": (None, 8, None, 5, None, "stop", "1", 5),
    "shaped-sglang-chat": (None, 12, None, 7, None, "stop", "The capital", 3),
    "shaped-tgi-chat": (None, 12, None, 7, None, "stop", "The capital", 3),
    "shaped-vllm-chat": (None, 12, None, 7, None, "stop", "The capital", 3),
    "vllm-0.9-deepseek-r1-distill-logprobs": ("no_usage", None, None, None, None, "length", "Okay", 32),
}  # fmt: skip


def summary(content: StreamContent) -> tuple[Any, ...]:
    return (
        content.failure,
        content.prompt_tokens,
        content.cached_tokens,
        content.output_tokens,
        content.reasoning_tokens,
        content.finish_reason,
        content.first_text,
        content.content_chunks,
    )


def plain_events(raw: bytes) -> list[dict[str, Any]]:
    """Read a whole capture the slow way: lines, blocks, JSON."""
    blocks = raw.decode().replace("\r\n", "\n").split("\n\n")
    datas = ["\n".join(x[6:] for x in block.split("\n") if x.startswith("data: ")) for block in blocks]
    return [json.loads(text) for text in datas if text not in ("", "[DONE]")]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_is_what_it_says(path: Any) -> None:
    raw = path.read_bytes()
    content = decode(enumerate(raw.splitlines(keepends=True)))
    assert summary(content) == EXPECTED[path.stem]
    chunks = plain_events(raw)
    assert content.response_id == (chunks[0].get("id") or None)
    told = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if told:
        assert content.output_tokens == told[-1]["completion_tokens"]
        assert content.prompt_tokens == told[-1]["prompt_tokens"]
    finishes = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c.get("finish_reason")]
    assert content.finish_reason == (finishes[-1] if finishes else None)


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_may_be_cut_anywhere(path: Any) -> None:
    raw = path.read_bytes()
    expected = decode([(1, raw)])
    step = 1 if len(raw) <= SMALL_BYTES else len(raw) // 41
    for place in range(0, len(raw) + 1, step):
        assert decode([(1, raw[:place]), (1, raw[place:])]) == expected, place
    assert decode([(1, bytes([byte])) for byte in raw]) == expected


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_the_first_token_is_in_the_read_that_brings_it(path: Any) -> None:
    raw = path.read_bytes()
    lines = raw.splitlines(keepends=True)
    content = decode(enumerate(lines))
    first = content.first_text
    assert content.t_first_ns is not None
    line = lines[content.t_first_ns].decode()
    assert json.dumps(first, ensure_ascii=False)[1:-1].split("{")[0] in line
    assert decode(enumerate(lines[: content.t_first_ns])).t_first_ns is None
