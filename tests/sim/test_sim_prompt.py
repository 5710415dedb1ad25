from __future__ import annotations

from typing import Any

from pytest_agentperf.sim.prompt import hash_prompt, render

TOOLS = [{"type": "function", "function": {"name": "bash"}}]
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "You are an agent. " * 20},
    {"role": "user", "content": "Fix the bug. " * 20},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "a file " * 40, "tool_call_id": "1"},
]


def test_the_first_message_comes_before_the_tools() -> None:
    text = render(TURNS, TOOLS).decode()
    assert text.index("You are") < text.index("bash") < text.index("Fix the bug")
    assert text.endswith("<|assistant|>")


def test_tokens_are_four_bytes_rounded_up() -> None:
    assert hash_prompt(b"x" * 9, 64).tokens == 3
    assert hash_prompt("é".encode() * 4, 64).tokens == 2


def test_one_hash_per_full_block() -> None:
    assert [len(hash_prompt(b"x" * size, 2).block_hashes) for size in (7, 8, 15, 16)] == [0, 1, 1, 2]


def test_hashes_are_chained() -> None:
    first = hash_prompt(b"a" * 8 + b"b" * 8, 2).block_hashes
    second = hash_prompt(b"c" * 8 + b"b" * 8, 2).block_hashes
    assert first[1] != second[1]
    assert hash_prompt(b"a" * 16, 2).block_hashes[0] == first[0]


def test_the_next_turn_extends_the_prefix() -> None:
    before = hash_prompt(render(TURNS[:2], TOOLS), 8)
    after = hash_prompt(render(TURNS, TOOLS), 8)
    assert after.block_hashes[: len(before.block_hashes)] == before.block_hashes
    assert len(after.block_hashes) > len(before.block_hashes)


def test_a_prefix_of_the_first_message_isolates_everything() -> None:
    isolated = [{**TURNS[0], "content": "0" * 128 + str(TURNS[0]["content"])}, *TURNS[1:]]
    plain = set(hash_prompt(render(TURNS, TOOLS), 8).block_hashes)
    assert not plain & set(hash_prompt(render(isolated, TOOLS), 8).block_hashes)


def test_content_parts_and_reasoning_are_part_of_the_prompt() -> None:
    parts: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert render(parts, None) == render([{"role": "user", "content": "hello"}], None)
    other = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert b"image_url" in render([{"role": "user", "content": other}], None)
    thought = [{"role": "assistant", "content": "x", "reasoning_content": "because"}]
    assert b"because" in render(thought, None)


def test_lone_surrogates_do_not_fail() -> None:
    assert render([{"role": "user", "content": "\ud800"}], None)
