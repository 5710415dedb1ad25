"""What the tests of synthesised text share: an own way to count tokens, and to compare prompts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.importing import find_recordings, read_recordings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data"
TOKENIZER = DATA / "tokenizers" / "deepseek-v4" / "tokenizer.json"
FILES = {
    # Below `traces`: trajectories, turns, prompt tokens, output tokens.
    "azure/AzureLLMInferenceTrace_code.csv": (8819, 8819, 18_059_974, 245_896),
    "dynamo/pi_request_trace.jsonl.gz": (5, 17, 66_520, 8_094),
    "kv_cache_tester/trace_0026.json": (1, 3, 52_760, 5_294),
    "kv_cache_tester/trace_0150.json": (1, 38, 4_076_590, 17_024),
    "kv_cache_tester/trace_0277.json": (5, 53, 2_576_410, 31_862),
    "kv_cache_tester/trace_0321.json": (1, 153, 9_813_759, 33_398),
    "kv_cache_tester/trace_0582.json": (1, 60, 3_807_531, 36_049),
    "mooncake/mooncake_trace_1000.jsonl": (941, 1000, 9_792_030, 199_084),
    "mooncake/synthetic_trace-first1500.jsonl": (1464, 1500, 17_495_925, 297_085),
}
_TOKEN = re.compile(r" ?[A-Za-z]+|[.,]")


def tokens_of(text: str) -> list[str]:
    tokens = _TOKEN.findall(text)
    assert "".join(tokens) == text
    return tokens


def prompt_tokens(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a prompt as a template with four tokens a message would make it."""
    prompt = []
    for message in messages:
        prompt += [f"<{message['role']}>"] * 4 + tokens_of(message["content"])
    return prompt


def shared_tokens(one: Sequence[Any], other: Sequence[Any]) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        # Only what is not known to be equal.
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def read_all(path: Path, context: ImportContext | None = None) -> list[Trajectory]:
    recordings = find_recordings([path], unknown=lambda path: None)
    return list(read_recordings(recordings, context or ImportContext()))


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def real_counter() -> Callable[[Sequence[str]], list[int]] | None:
    """Return what counts texts with the DeepSeek tokenizer, None where it is not there."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    if not TOKENIZER.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    return lambda texts: [
        len(found.ids) for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]
