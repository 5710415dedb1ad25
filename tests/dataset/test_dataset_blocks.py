"""Synthesised text: exact counts wherever it is cut, its key in its first words, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_support import real_counter, shared_tokens, tokens_of

from pytest_agentperf.dataset import block_words
from pytest_agentperf.dataset.blocks import block_text, block_tokens

GOLDEN = "6ef0773cd026a0f1"


@given(st.text(max_size=20), st.integers(min_value=0, max_value=700))
def test_a_block_has_exactly_its_tokens(key: str, n_tokens: int) -> None:
    tokens = block_tokens(key, n_tokens)
    assert len(tokens) == n_tokens
    assert "".join(tokens) == block_text(key, n_tokens)
    assert tokens_of(block_text(key, n_tokens)) == tokens


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 80)), max_size=12), st.data())
def test_counts_add_up_wherever_text_is_cut(blocks: list[tuple[int, int]], data: st.DataObject) -> None:
    tokens = [token for key, n_tokens in blocks for token in block_tokens(str(key), n_tokens)]
    cut = data.draw(st.integers(0, len(tokens)))
    assert tokens_of("".join(tokens[:cut])) + tokens_of("".join(tokens[cut:])) == tokens
    # Two marks in a row would be one token.
    assert not any(one in ".," and other in ".," for one, other in pairwise(tokens))


def test_another_key_is_another_text_from_the_first_words_on() -> None:
    blocks = [block_tokens(f"key {i}", 16) for i in range(300)]
    shared = [shared_tokens(one, other) for one, other in combinations(blocks, 2)]
    assert max(shared) <= 4
    assert sum(shared) < len(shared) * 0.01


def test_the_same_text_in_another_process_and_release() -> None:
    code = (
        "import hashlib; from pytest_agentperf.dataset.blocks import block_text;"
        "print(hashlib.sha256(block_text('golden', 5000).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == hashlib.sha256(block_text("golden", 5000).encode()).hexdigest()
    # Datasets imported by an earlier release must not change: their digests are in results.
    assert there.startswith(GOLDEN)


def test_every_word_is_listed_once() -> None:
    for name in ("NAMES", "NOUNS", "VERBS", "PARTICIPLES", "ADJECTIVES", "MODALS"):
        words = getattr(block_words, name)
        assert len(set(words)) == len(words)
    assert len(block_words.NAMES) == len(block_words.NOUNS) == 256


def test_the_deepseek_tokenizer_counts_the_same() -> None:
    if (count := real_counter()) is None:
        pytest.skip("needs the package tokenizers and the DeepSeek vocabulary beside the checkout")
    words = {word for i in range(2000) for word in block_tokens(f"{i}", 64)}
    assert set(count(sorted(words))) == {1}
    assert set(count(sorted(word.strip() for word in words))) == {1}
    tokens = [token for i in range(40) for token in block_tokens(f"{i}", 64)]
    cuts = [(start, start + 1 + start % 300) for start in range(0, len(tokens) - 300, 7)]
    assert count(["".join(tokens[start:stop]) for start, stop in cuts]) == [b - a for a, b in cuts]
