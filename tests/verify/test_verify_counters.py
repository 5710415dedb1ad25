"""What recounts tokens, and what a run is told beforehand where nothing does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.counters import open_counters, simulated_counters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from pytest_agentperf.verify.rendering import Renderer

HERE = "pytest_agentperf.verify.counters"


class Words:
    def count(self, text: str) -> int:
        return len(text.split())

    def count_many(self, texts: Sequence[str]) -> list[int]:
        return [self.count(text) for text in texts]


def joined(messages: Any, tools: Any = None) -> str:
    return " ".join(message["content"] for message in messages)


def test_a_tokenizer_that_is_not_on_this_machine_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As a name on the hub that is not in the cache.
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    found = open_counters("org/model", {})
    assert found.check.status == "warning"
    assert (
        found.check.what
        == "the result will say `not verified`: the tokenizer org/model is not on this machine"
    )
    assert found.check.remedy is not None
    assert "hf download org/model" in found.check.remedy
    assert found.answers is None
    assert found.answers_reason == "the tokenizer org/model is not on this machine"


def test_a_suite_without_a_tokenizer_and_forced_lengths_are_told_too() -> None:
    unnamed, forced = open_counters(None, {}), open_counters("org/model", {}, exact=True)
    assert "the suite names no tokenizer" in unnamed.check.what
    assert "forced to a length" in forced.check.what
    for found in (unnamed, forced):
        assert (found.check.status, found.answers) == ("warning", None)
        assert found.check.remedy


def test_a_folder_that_cannot_be_used_fails(tmp_path: Path) -> None:
    found = open_counters(str(tmp_path / "missing"), {})
    assert found.check.status == "failed"
    assert "no such folder" in found.check.what
    assert found.check.remedy == "correct `tokenizer`"


def test_a_simulated_server_has_nothing_to_be_verified() -> None:
    found = simulated_counters("org/model")
    assert (found.check.status, found.answers, found.tokenizer) == ("skipped", None, "org/model")


def test_prompts_without_a_template_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object, **_: object) -> tuple[Renderer, Renderer]:
        raise ConfigError("has no chat template", remedy="name a model that has one")

    monkeypatch.setattr(f"{HERE}.load_counter", lambda name: Words())
    monkeypatch.setattr(f"{HERE}.renderers", none)
    found = open_counters("org/model", {})
    assert found.check.status == "warning"
    assert "those of prompts are not verified: has no chat template" in found.check.what
    assert (found.answers is None, found.prompts) == (False, None)
    assert found.prompts_reason == "has no chat template"


def test_with_both_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def template(*args: object, **_: object) -> tuple[Renderer, Renderer]:
        asked.append(args)
        return joined, joined

    monkeypatch.setattr(f"{HERE}.load_counter", lambda name: Words())
    monkeypatch.setattr(f"{HERE}.renderers", template)
    found = open_counters(
        "org/model",
        {"temperature": 1.0, "reasoning_effort": "high", "chat_template_kwargs": {"thinking": True}},
    )
    assert (found.check.status, found.check.what) == ("ok", "recounted by org/model")
    assert found.prompts is not None
    assert found.prompts.prompt_tokens([{"role": "user", "content": "one two"}]) == 2
    # What changes how a server renders a prompt changes it here.
    assert asked == [("org/model", "template", {"reasoning_effort": "high", "thinking": True})]
