from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.tokens import FastTokenCounter, load_counter

DEEPSEEK_V4 = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "deepseek-v4"


class Words:
    """A tokenizer of words that takes no half of a surrogate pair, as the real ones."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[str]:
        assert not add_special_tokens
        text.encode()
        return text.split()


def test_no_tokenizer_named() -> None:
    assert load_counter(None) is None


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer\.json in it") as caught:
        load_counter(str(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_without_the_extra_there_is_no_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert load_counter(str(tmp_path)) is None


def test_counting() -> None:
    counter = FastTokenCounter(Words())
    assert counter.count("") == 0
    assert counter.count("one two") == 2
    assert counter.count("half \ud83d") == 2


def test_a_real_tokenizer() -> None:
    pytest.importorskip("transformers", reason="the extra `tokenizers` is not installed")
    if not DEEPSEEK_V4.is_dir():
        pytest.skip(f"{DEEPSEEK_V4} is not there")
    counter = load_counter(str(DEEPSEEK_V4))
    assert counter is not None
    assert counter.count("") == 0
    assert counter.count("a") == 1
    text = "def naïve(漢字: str) -> None: ..."
    assert 5 < counter.count(text) < len(text.encode())
    assert counter.count(text + text) <= 2 * counter.count(text) + 1
    assert counter.count("\ud83d") > 0


def test_a_hub_name_that_is_not_cached() -> None:
    pytest.importorskip("transformers", reason="the extra `tokenizers` is not installed")
    assert load_counter("agentperf-tests/no-such-model") is None
