"""Real traces: counts and sums as plain scripts found them, lengths and sharing of every prompt."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from recorded_support import check_counts, counted
from trace_support import DATA, FILES, prompt_tokens, read_all, real_counter, shared_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory

TRACES = DATA / "traces"
LMCACHE = {
    # Turns, characters of all inputs.
    "189f0222310bd8eee310f204e91b9c84.jsonl": (6, 31_645),
    "5518cbf6b5c90e74800c7cdaf91da2f7.jsonl": (30, 409_867),
    "8f7920a28c54ae83dadb6d0a8e6cbd74.jsonl": (9, 100_425),
}

PROMPTS_COMPARED = 12
TOKENS_COUNTED = 40_000

pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the traces are not at {TRACES}")


class Row(NamedTuple):
    keys: list[int]
    input_tokens: int
    output_tokens: int


def plain_rows(path: Path) -> Iterator[Row]:
    """Read a hashed trace by the plainest means."""
    if path.parent.name == "mooncake":
        for line in path.read_text().split("\n"):
            if line:
                row = json.loads(line)
                yield Row(row["hash_ids"], row["input_length"], row["output_length"])
    elif path.parent.name == "dynamo":
        for line in gzip.decompress(path.read_bytes()).decode().split("\n"):
            request: dict[str, Any] = (json.loads(line)["event"].get("request") if line else None) or {}
            if request:
                replay = request["replay"]
                yield Row(replay["input_sequence_hashes"], request["input_tokens"], request["output_tokens"])
    else:
        agents = [json.loads(path.read_bytes())]
        for agent in agents:
            for request in agent["requests"]:
                if "requests" in request:
                    agents.append(request)
                else:
                    yield Row(request["hash_ids"], request["in"], request["out"])


class Traced(NamedTuple):
    name: str
    trajectories: list[Trajectory]


@pytest.fixture(scope="module", params=FILES)
def traced(request: pytest.FixtureRequest) -> Traced:
    return Traced(request.param, read_all(TRACES / request.param))


def test_counts_and_sums(traced: Traced) -> None:
    name, found = traced
    turns = [turn for trajectory in found for turn in trajectory.turns]
    sums = (sum(turn.prompt_tokens or 0 for turn in turns), sum(turn.output_tokens or 0 for turn in turns))
    assert (len(found), len(turns), *sums) == FILES[name]


def test_it_has_what_is_recorded(traced: Traced) -> None:
    check_counts(counted(traced.trajectories), TRACES / traced.name)


def test_prompts_have_the_recorded_lengths_and_sharing(traced: Traced) -> None:
    name, found = traced
    if name.startswith("azure"):
        assert all(len(trajectory.turns) == 1 for trajectory in found)  # nothing is shared
        return
    rows = list(plain_rows(TRACES / name))
    block = {"mooncake": 512, "dynamo": 16, "kv_cache_tester": 64}[name.partition("/")[0]]
    lengths = [(row.input_tokens, row.output_tokens) for row in rows]
    draw = random.Random(1)
    wanted = set(draw.sample(range(len(rows)), min(len(rows), PROMPTS_COMPARED)))
    prompts: list[tuple[Row, list[str]]] = []
    for trajectory in found:
        for turn in trajectory.turns:
            length = (turn.prompt_tokens or 0, turn.output_tokens or 0)
            # Which row a turn is, its lengths tell where they occur once.
            if lengths.count(length) == 1 and lengths.index(length) in wanted:
                prompts.append(
                    (rows[lengths.index(length)], prompt_tokens(trajectory.request_messages(turn)))
                )
    assert len(prompts) > len(wanted) // 2
    for number, (row, prompt) in enumerate(prompts):
        assert len(prompt) == row.input_tokens
        for other_row, other in prompts[:number]:
            recorded = min(shared_tokens(row.keys, other_row.keys) * block, len(prompt), len(other))
            assert recorded <= shared_tokens(prompt, other) < recorded + block


@pytest.fixture(scope="module")
def count() -> Callable[[Sequence[str]], list[int]]:
    if (found := real_counter()) is None:
        pytest.skip("needs the package tokenizers and the DeepSeek vocabulary beside the checkout")
    return found


def test_the_real_tokenizer_counts_what_was_recorded(
    traced: Traced, count: Callable[[Sequence[str]], list[int]]
) -> None:
    checked = 0
    for trajectory in traced.trajectories:
        tokens: dict[int, int] = {}
        for turn in trajectory.turns:
            new = [index for index in turn.message_indices() if index not in tokens]
            counted = count([trajectory.messages[index]["content"] for index in new])
            tokens |= zip(new, counted, strict=True)
            total = sum(tokens[index] + 4 for index in turn.message_indices())
            assert total == max(turn.prompt_tokens or 0, 5)
            checked += sum(counted)
            # The tokenizer takes 0.4 s for as many.
            if checked > TOKENS_COUNTED:
                return


def test_dynamo_tools_took_what_was_measured() -> None:
    found = {trajectory.id: trajectory for trajectory in read_all(TRACES / "dynamo")}
    assert [turn.prompt_tokens for turn in found["ea45d969-scout-1"].turns] == [1627, 2426, 3182]
    # Two reads side by side: 1779163144813 + 3.054 ms, and one millisecond later + 2.603 ms.
    assert found["ea45d969-scout-1"].turns[1].tool_delay_ns == 3_603_000
    root = found["pi-qwen-noadm-agentic-20260519T035759Z-root"]
    assert [call.name for call in root.turns[1].tool_calls] == ["subagent"]
    assert root.turns[1].tool_calls[0].duration_ns == 71_836_518_000
    assert root.turns[1].tool_delay_ns == 0
    assert sum(len(t.tool_calls) for trajectory in found.values() for t in trajectory.turns) == 22


@pytest.mark.parametrize("name", LMCACHE)
def test_lmcache_inputs_are_what_the_agent_said(name: str) -> None:
    path = TRACES / "lmcache_agent" / name
    rows = sorted(
        (json.loads(line) for line in path.read_text().split("\n") if line), key=lambda row: row["timestamp"]
    )
    (found,) = read_all(path)
    assert (len(found.turns), sum(len(row["input"]) for row in rows)) == LMCACHE[name]
    for number, (turn, row) in enumerate(zip(found.turns, rows, strict=True)):
        messages = found.request_messages(turn)
        assert "\n\n".join(m["content"] for m in messages if m["role"] == "user") == row["input"]
        answers = [m["content"] for m in messages if m["role"] == "assistant"]
        assert answers == [earlier["output"] for earlier in rows[:number]]
