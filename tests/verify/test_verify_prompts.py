from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_agentperf.core.errors import ConfigError, DatasetError
from pytest_agentperf.core.ports import PromptTokenCounter
from pytest_agentperf.verify.prompts import PromptCounter, open_prompt_counter
from pytest_agentperf.verify.rendering import RENDERERS
from pytest_agentperf.verify.tokens import FastTokenCounter

DATA = Path(__file__).parents[3] / "shared" / "data"
DEEPSEEK_V4 = DATA / "tokenizers" / "deepseek-v4"
REPLAY = DATA / "trajectories" / "agentperf_replay" / "traces" / "django__django-15851.jsonl"


class Words:
    """A tokenizer of words, with special tokens <a> and <b>, that notes what it was given."""

    pre_tokenizer = normalizer = None

    def __init__(self) -> None:
        self.given: list[str] = []

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        plain = {"lstrip": False, "rstrip": False, "single_word": False}
        return {
            0: SimpleNamespace(content="<a>", normalized=False, **plain),
            1: SimpleNamespace(content="<b>", normalized=True, **plain),
        }

    def encode(self, text: str, *, add_special_tokens: bool) -> list[str]:
        self.given.append(text)
        return re.findall("<a>|<b>|[^ <]+", text)

    def encode_batch(self, texts: list[str], *, add_special_tokens: bool) -> list[list[str]]:
        return [self.encode(text, add_special_tokens=add_special_tokens) for text in texts]


def joined(messages: Any, tools: Any = None) -> str:
    return "".join(f"<a>{message['content']}<b>" for message in messages)


def test_what_was_counted_is_not_counted_again() -> None:
    words = Words()
    counter = PromptCounter(FastTokenCounter(words), joined)
    assert isinstance(counter, PromptTokenCounter)
    history = [{"role": "user", "content": "one two"}]
    assert counter.prompt_tokens(history) == 4
    assert counter.prompt_tokens([*history, {"role": "user", "content": "three"}]) == 7
    assert words.given == ["one two", "three"]


def test_tokens_that_take_their_surroundings_are_not_split_at(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words()
    added = words.get_added_tokens_decoder()
    added[0].lstrip = True
    monkeypatch.setattr(words, "get_added_tokens_decoder", lambda: added)
    assert PromptCounter(FastTokenCounter(words), joined).prompt_tokens([{"content": "one two"}]) == 4
    assert words.given == ["<a>one two<b>"]


def test_an_unknown_rendering(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no prompt rendering named 'chatml'") as caught:
        open_prompt_counter(str(tmp_path), rendering="chatml")
    assert caught.value.remedy == "use one of template, deepseek-v3.2, deepseek-v4"


def test_prompts_of_a_real_tokenizer() -> None:
    pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not installed")
    if not DEEPSEEK_V4.is_dir() or not REPLAY.is_file():
        pytest.skip(f"{DEEPSEEK_V4} or {REPLAY} is not there")
    counter = open_prompt_counter(str(DEEPSEEK_V4))
    for line in REPLAY.read_bytes().split(b"\n")[:-1]:
        row = json.loads(line)
        text = RENDERERS["deepseek-v4"](row["messages"], row["tools"])
        # Cut at the special tokens, the count is that of the whole.
        assert counter.prompt_tokens(row["messages"], row["tools"]) == counter.count(text)
    odd = [{"role": "user", "content": "<｜User｜><think>x</think>｜DSML｜<｜/table>｜DSML｜ \ud83d  "}]
    assert counter.prompt_tokens(odd) == counter.count(RENDERERS["deepseek-v4"](odd, None))


TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'critic' %}{{ raise_exception('no critics') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments.items() %}"
    "[{{ k }}={{ v }}]{% endfor %}{% endfor %}{% endfor %}{% if tools %}{{ tools | length }}{% endif %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)


@pytest.mark.filterwarnings("default")
def test_prompts_by_a_chat_template(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra `tokenizers` is not installed")
    if not DEEPSEEK_V4.is_dir():
        pytest.skip(f"{DEEPSEEK_V4} is not there")
    (tmp_path / "tokenizer.json").write_bytes((DEEPSEEK_V4 / "tokenizer.json").read_bytes())
    config = json.loads((DEEPSEEK_V4 / "tokenizer_config.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="has no chat template"):
        open_prompt_counter(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TEMPLATE}))
    counter = open_prompt_counter(str(tmp_path))
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert counter.prompt_tokens(messages, [tool]) == counter.count("<user>hi<assistant>[x=1]1<answer>")
    with pytest.raises(DatasetError, match="no critics"):
        counter.prompt_tokens([{"role": "critic", "content": "x"}])
